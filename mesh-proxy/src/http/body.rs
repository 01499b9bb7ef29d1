//! Bodies of requests on their way upstream: frames pass as they are, and are kept where another attempt may need them.

use std::cell::RefCell;
use std::error::Error as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::grpc::MessageCounter;
use super::stream::Stream;
use super::timers::Expired;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side's connection or stream failed.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// A limit of time has passed.
    #[error("the stream was ended by its {0:?} timeout")]
    Timeout(Expired),
    /// What would come next is not kept.
    #[error("the body is too large to be sent again, or its caller went away")]
    Replayed,
}

impl BodyError {
    /// Whether it is the other side that has reset an HTTP/2 stream, or its connection.
    pub(super) fn is_remote_reset(&self) -> bool {
        let BodyError::Http(error) = self else { return false };
        let source = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        source.is_some_and(|h2| h2.is_remote() && h2.is_reset() || h2.is_io())
    }
}

/// A request's body on its way upstream.
pub(crate) struct RequestBody {
    source: Source,
    stream: Option<Rc<Stream>>,
    messages: Option<MessageCounter>,
}

enum Source {
    Empty,
    Direct(Incoming),
    Replay(Replay),
}

impl RequestBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        RequestBody {
            source: Source::Empty,
            stream: None,
            messages: None,
        }
    }

    /// The caller's body, once.
    pub(crate) fn direct(body: Incoming, stream: &Rc<Stream>, grpc: bool) -> Self {
        RequestBody {
            source: if body.is_end_stream() {
                Source::Empty
            } else {
                Source::Direct(body)
            },
            stream: Some(stream.clone()),
            messages: grpc.then(MessageCounter::default),
        }
    }

    /// The caller's body, for one of several attempts.
    pub(crate) fn replay(kept: &Rc<RefCell<Kept>>, stream: &Rc<Stream>, grpc: bool) -> Self {
        // Messages are counted by whichever attempt reads them first; see `Kept`.
        RequestBody {
            source: Source::Replay(Replay::new(kept, false)),
            stream: Some(stream.clone()),
            messages: grpc.then(MessageCounter::default),
        }
    }

    /// A copy of what another request's attempts read, as they read it.
    pub(crate) fn follow(kept: &Rc<RefCell<Kept>>) -> Self {
        RequestBody {
            source: Source::Replay(Replay::new(kept, true)),
            stream: None,
            messages: None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let me = self.get_mut();
        let (frame, fresh) = match &mut me.source {
            Source::Empty => return Poll::Ready(None),
            Source::Direct(body) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx)).map(|f| f.map_err(BodyError::Http));
                (frame, true)
            }
            Source::Replay(replay) => ready!(replay.poll_frame(cx)),
        };
        let Some(stream) = &me.stream else {
            return Poll::Ready(frame);
        };
        if fresh {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        stream.request_data(data.len());
                        if let Some(counter) = &mut me.messages {
                            let begun = counter.feed(data);
                            stream.note(|r| r.request_messages += begun);
                        }
                    }
                    // Hyper does not ask again after the last frame.
                    if frame.is_trailers() || me.source.is_end_stream() {
                        stream.request_finished();
                    }
                }
                Some(Err(error)) => stream.request_broken_off(error),
                None => stream.request_finished(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Direct(body) => body.size_hint(),
            Source::Replay(replay) => replay.size_hint(),
        }
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Source::Empty => true,
            Source::Direct(body) => body.is_end_stream(),
            Source::Replay(replay) => replay.is_end_stream(),
        }
    }
}

/// A request's body that may be needed again: what was read is kept up to a limit. Past the limit nothing is kept, the
/// attempt under way goes on unharmed, and there is no other.
pub(crate) struct Kept {
    body: Incoming,
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    /// Frames of data that were read, kept or not.
    read: usize,
    limit: usize,
    /// Nothing is kept any more.
    dropped: bool,
    ended: bool,
    /// Those who read the caller's body; without any, followers wait in vain.
    readers: usize,
    /// Who asked the caller's body last.
    reading: Option<Waker>,
    followers: Vec<Waker>,
}

impl Kept {
    pub(crate) fn new(body: Incoming, limit: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Kept {
            body,
            frames: Vec::new(),
            trailers: None,
            bytes: 0,
            read: 0,
            limit,
            dropped: false,
            ended: false,
            readers: 0,
            reading: None,
            followers: Vec::new(),
        }))
    }

    /// Whether another attempt could send the whole body.
    pub(crate) fn can_replay(&self) -> bool {
        !self.dropped
    }

    fn wake_followers(&mut self) {
        for waker in self.followers.drain(..) {
            waker.wake();
        }
    }

    fn keep(&mut self, data: &Bytes) {
        self.read += 1;
        if self.dropped {
            return;
        }
        self.bytes += data.len();
        if self.bytes > self.limit {
            self.dropped = true;
            self.frames = Vec::new();
        } else {
            self.frames.push(data.clone());
        }
    }
}

/// Keeps followers waiting between two attempts.
pub(crate) struct Reading(#[allow(dead_code)] Replay);

impl Reading {
    pub(crate) fn new(kept: &Rc<RefCell<Kept>>) -> Self {
        Reading(Replay::new(kept, false))
    }
}

struct Replay {
    kept: Rc<RefCell<Kept>>,
    /// Frames handed out.
    position: usize,
    /// Takes what the others have read, and reads nothing itself.
    follower: bool,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if !self.follower {
            let mut kept = self.kept.borrow_mut();
            kept.readers -= 1;
            kept.wake_followers();
        }
    }
}

impl Replay {
    fn new(kept: &Rc<RefCell<Kept>>, follower: bool) -> Self {
        if !follower {
            kept.borrow_mut().readers += 1;
        }
        Replay {
            kept: kept.clone(),
            position: 0,
            follower,
        }
    }

    /// The frame, and whether it is read for the first time.
    #[allow(clippy::type_complexity)]
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<(Option<Result<Frame<Bytes>, BodyError>>, bool)> {
        let mut kept = self.kept.borrow_mut();
        let kept = &mut *kept;
        if let Some(data) = kept.frames.get(self.position) {
            self.position += 1;
            return Poll::Ready((Some(Ok(Frame::data(data.clone()))), false));
        }
        // What this one would need next is gone.
        if kept.dropped && (self.position < kept.read || kept.bytes > 0 && self.follower) {
            return Poll::Ready((Some(Err(BodyError::Replayed)), false));
        }
        if kept.ended {
            return Poll::Ready((kept.trailers.clone().map(|t| Ok(Frame::trailers(t))), false));
        }
        if self.follower {
            if kept.readers == 0 {
                return Poll::Ready((Some(Err(BodyError::Replayed)), false));
            }
            if !kept.followers.iter().any(|w| w.will_wake(cx.waker())) {
                kept.followers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let Poll::Ready(frame) = Pin::new(&mut kept.body).poll_frame(cx) else {
            // The caller's body wakes only the last of those who read it, and hedged attempts read side by side: that one wakes
            // the others.
            if !kept.reading.as_ref().is_some_and(|w| w.will_wake(cx.waker()))
                && let Some(other) = kept.reading.replace(cx.waker().clone())
            {
                kept.followers.push(other);
            }
            return Poll::Pending;
        };
        kept.wake_followers();
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    kept.keep(data);
                    self.position += 1;
                    kept.ended = kept.body.is_end_stream();
                } else if let Some(trailers) = frame.trailers_ref() {
                    kept.trailers = Some(trailers.clone());
                    kept.ended = true;
                }
            }
            Some(Err(_)) => kept.dropped = true,
            None => kept.ended = true,
        }
        Poll::Ready((frame.map(|f| f.map_err(BodyError::Http)), true))
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        kept.ended && kept.trailers.is_none() && self.position >= kept.read
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        let mut hint = kept.body.size_hint();
        if !kept.dropped {
            let waiting: u64 = kept.frames.iter().skip(self.position).map(|f| f.len() as u64).sum();
            if let Some(exact) = hint.exact() {
                hint = SizeHint::with_exact(exact + waiting);
            }
        }
        hint
    }
}
