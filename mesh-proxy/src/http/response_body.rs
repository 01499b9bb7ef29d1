//! Bodies of responses on their way to the caller.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::BodyError;
use super::grpc::MessageCounter;
use super::stream::Stream;
use super::timers::{Expired, Timers};
use super::upstream_request::ActiveRequest;
use crate::telemetry::ResponseFlags;
use crate::upstream::Lease;
use crate::upstream::outlier::Outcome;

/// A response's body on its way to the caller.
pub(crate) struct ResponseBody {
    source: Origin,
    stream: Option<Rc<Stream>>,
}

enum Origin {
    Empty,
    Whole(Option<Bytes>),
    Upstream(FromUpstream),
}

/// What has to live as long as an upstream's response.
pub(crate) struct FromUpstream {
    pub(crate) body: Incoming,
    pub(crate) lease: Option<Lease>,
    pub(crate) active: Option<ActiveRequest>,
    pub(crate) timers: Timers,
    pub(crate) messages: Option<MessageCounter>,
}

impl ResponseBody {
    /// Bytes that are all there; none for an empty body.
    pub(crate) fn whole(bytes: Bytes, stream: &Rc<Stream>) -> Self {
        ResponseBody {
            source: if bytes.is_empty() {
                Origin::Empty
            } else {
                Origin::Whole(Some(bytes))
            },
            stream: Some(stream.clone()),
        }
        .started()
    }

    /// What comes from an upstream.
    pub(crate) fn upstream(mut from: FromUpstream, stream: &Rc<Stream>) -> Self {
        let source = if from.body.is_end_stream() {
            from.finish();
            Origin::Empty
        } else {
            Origin::Upstream(from)
        };
        ResponseBody {
            source,
            stream: Some(stream.clone()),
        }
        .started()
    }

    fn started(self) -> Self {
        if let (Origin::Empty, Some(stream)) = (&self.source, &self.stream) {
            // Nobody asks an empty body for its end.
            stream.response_finished();
        }
        self
    }
}

impl FromUpstream {
    /// The connection goes back to its pool.
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
        self.active = None;
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let me = self.get_mut();
        let frame = match &mut me.source {
            Origin::Empty => return Poll::Ready(None),
            Origin::Whole(bytes) => {
                let bytes = bytes.take();
                if let Some(stream) = &me.stream {
                    stream.response_data(bytes.as_ref().map_or(0, Bytes::len));
                    stream.response_finished();
                }
                return Poll::Ready(bytes.map(|b| Ok(Frame::data(b))));
            }
            Origin::Upstream(from) => {
                let Some(stream) = &me.stream else {
                    return Poll::Ready(None);
                };
                ready!(from.poll_frame(cx, stream))
            }
        };
        // Whether it ended well or not, nothing of the upstream is held any longer.
        if matches!(frame, None | Some(Err(_))) {
            me.source = Origin::Empty;
            me.stream = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Origin::Empty => true,
            Origin::Whole(bytes) => bytes.is_none(),
            Origin::Upstream(from) => from.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Origin::Empty => SizeHint::with_exact(0),
            Origin::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Origin::Upstream(from) => from.body.size_hint(),
        }
    }
}

impl FromUpstream {
    fn poll_frame(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let expired = ready!(self.timers.poll(cx, stream));
                self.expire(expired, stream);
                stream.response_broken_off();
                return Poll::Ready(Some(Err(BodyError::Timeout(expired))));
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    stream.response_data(data.len());
                    if let Some(counter) = &mut self.messages {
                        let begun = counter.feed(data);
                        stream.note(|r| r.response_messages += begun);
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    stream.response_trailers(trailers);
                }
                // Hyper does not ask again after the last frame.
                if frame.is_trailers() || self.body.is_end_stream() {
                    stream.response_finished();
                    self.finish();
                }
            }
            Some(Err(error)) => {
                let (flag, details) = super::retry::reset_of(error).flag();
                stream.flag(flag, format!("upstream_reset_after_response_started{{{details}}}"));
                stream.response_broken_off();
                if let Some(active) = &self.active {
                    active.failed();
                    active.observe(Outcome::Reset);
                }
            }
            None => {
                stream.response_finished();
                self.finish();
            }
        }
        Poll::Ready(frame.map(|f| f.map_err(BodyError::Http)))
    }

    fn expire(&mut self, expired: Expired, stream: &Stream) {
        match expired {
            Expired::Request => {
                stream.flag(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "response_timeout");
            }
            Expired::Try => {
                stream.flag(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "upstream_per_try_timeout");
            }
            // The upstream has answered before the request was through.
            Expired::Receive => {
                stream.stats.downstream_rq_timeout.inc();
                stream.flag(ResponseFlags::DURATION_TIMEOUT, "request_overall_timeout");
            }
            Expired::Idle => {
                stream.stats.downstream_rq_idle_timeout.inc();
                stream.flag(ResponseFlags::STREAM_IDLE_TIMEOUT, "stream_idle_timeout");
            }
            Expired::Duration => {
                stream.stats.downstream_rq_max_duration_reached.inc();
                stream.flag(ResponseFlags::NONE, "max_duration_timeout");
            }
        }
        if let Some(active) = &self.active {
            active.timed_out(expired);
        }
    }
}
