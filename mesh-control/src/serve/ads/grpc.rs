//! The two gRPC methods on the wire.
//!
//! A first response holds megabytes, and thousands of proxies take theirs at the same time. So no response is ever put
//! together as a whole: it is written piece by piece from the resources that all proxies share, as the connection takes it,
//! and nothing of it stays with the connection afterwards. The same goes for requests: a proxy that names all its
//! resources once keeps no buffer of that size.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready as ready_or_wait};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tokio::sync::mpsc;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::resources::{Name, Resource};
use super::server::Ads;
use super::wire::{Delta, StateOfTheWorld, Wire};

/// A proxy that comes back lists everything that it holds.
const MAX_REQUEST: usize = 64 << 20;
/// Pieces of responses: just below the size of an HTTP/2 frame, with room for what goes before a resource.
const PIECE: usize = 15 << 10;
const FRAME: usize = 16 << 10;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

impl NamedService for Ads {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<http::Request<tonic::body::Body>> for Ads {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let ads = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            let responses = if method == Delta::METHOD {
                ads.accept::<Delta>(Request::from_http(request)).await
            } else if method == StateOfTheWorld::METHOD {
                ads.accept::<StateOfTheWorld>(Request::from_http(request)).await
            } else {
                let text = format!("{} has no method {method:?}", Self::NAME);
                Err(Status::unimplemented(text))
            };
            Ok(match responses {
                Ok(responses) => {
                    let mut response = http::Response::new(tonic::body::Body::new(responses));
                    let headers = response.headers_mut();
                    headers.insert(CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
                    response
                }
                Err(status) => status.into_http(),
            })
        })
    }
}

/// What a proxy says.
pub(super) struct Requests<M> {
    body: tonic::body::Body,
    buffer: BytesMut,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Requests<M> {
    pub(super) fn new(body: tonic::body::Body) -> Self {
        Requests {
            body,
            buffer: BytesMut::new(),
            message: PhantomData,
        }
    }

    /// The next request; `None` after the last. May be dropped and called again.
    pub(super) async fn message(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(status)) => return Err(status),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::invalid_argument("the stream ends within a message")),
            }
        }
    }

    fn decode(&mut self) -> Result<Option<M>, Status> {
        let Some(mut prefix) = self.buffer.get(..PREFIX) else {
            return Ok(None);
        };
        if prefix.get_u8() != 0 {
            return Err(Status::unimplemented(
                "compressed requests are not read; send them as they are",
            ));
        }
        let length = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
        if length > MAX_REQUEST {
            let text = format!("a request of {length} bytes is too long; the limit is {MAX_REQUEST}");
            return Err(Status::resource_exhausted(text));
        }
        let Some(bytes) = self.buffer.get(PREFIX..PREFIX + length) else {
            return Ok(None);
        };
        let message = M::decode(bytes).map_err(|e| Status::invalid_argument(format!("malformed request: {e}")))?;
        self.buffer.advance(PREFIX + length);
        // Whatever has been read is given back, not kept for a next request that is never as long.
        self.buffer = if self.buffer.is_empty() {
            BytesMut::new()
        } else {
            BytesMut::from(&self.buffer[..])
        };
        Ok(Some(message))
    }
}

/// A response that is not put together yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// All fields but the resources, encoded.
    pub(super) rest: Vec<u8>,
    /// Field 2 of both forms of responses.
    pub(super) resources: Vec<(Name, Resource)>,
    /// Whether names and versions are sent along: then a resource stands in an `envoy.service.discovery.v3.Resource`.
    pub(super) named: bool,
}

/// Length of a field of bytes with its key (one byte for numbers below 16).
fn field(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

fn any(resource: &Resource) -> usize {
    field(resource.body.type_url.len()) + field(resource.body.value.len())
}

fn put_field(number: u32, length: usize, out: &mut BytesMut) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

impl Outgoing {
    fn named_length(name: &str, resource: &Resource) -> usize {
        field(resource.version.len()) + field(any(resource)) + field(name.len())
    }

    fn length(&self) -> usize {
        let one = |(name, resource): &(Name, Resource)| {
            field(if self.named {
                Self::named_length(name, resource)
            } else {
                any(resource)
            })
        };
        self.rest.len() + self.resources.iter().map(one).sum::<usize>()
    }

    /// Everything of a resource that stands before its bytes.
    fn put_head(&self, name: &str, resource: &Resource, out: &mut BytesMut) {
        if self.named {
            put_field(2, Self::named_length(name, resource), out);
            put_field(1, resource.version.len(), out);
            out.put_slice(resource.version.as_bytes());
        }
        put_field(2, any(resource), out);
        put_field(1, resource.body.type_url.len(), out);
        out.put_slice(resource.body.type_url.as_bytes());
        put_field(2, resource.body.value.len(), out);
    }

    fn put_tail(&self, name: &str, out: &mut BytesMut) {
        if self.named {
            put_field(3, name.len(), out);
            out.put_slice(name.as_bytes());
        }
    }
}

/// How far a response has been written.
struct Writing {
    response: Outgoing,
    resource: usize,
    /// Bytes of its value that have been written; `None` before its head.
    within: Option<usize>,
}

impl Writing {
    fn begin(response: Outgoing, out: &mut BytesMut) -> Result<Self, Status> {
        let length = response.length();
        let Ok(short) = u32::try_from(length) else {
            let text = format!("a response of {length} bytes is more than gRPC can carry");
            return Err(Status::resource_exhausted(text));
        };
        out.reserve((PREFIX + length).min(FRAME));
        out.put_u8(0);
        out.put_u32(short);
        out.put_slice(&response.rest);
        Ok(Writing {
            response,
            resource: 0,
            within: None,
        })
    }

    /// Writes on until the piece is full; whether that was all.
    fn fill(&mut self, out: &mut BytesMut) -> bool {
        while let Some((name, resource)) = self.response.resources.get(self.resource) {
            let room = PIECE.saturating_sub(out.len());
            if room == 0 {
                return false;
            }
            out.reserve(room.min(FRAME));
            let from = self.within.unwrap_or_else(|| {
                self.response.put_head(name, resource, out);
                0
            });
            let value = resource.body.value.get(from..).unwrap_or_default();
            let now = value.len().min(room);
            out.put_slice(&value[..now]);
            if now < value.len() {
                self.within = Some(from + now);
                return false;
            }
            self.response.put_tail(name, out);
            self.resource += 1;
            self.within = None;
        }
        true
    }
}

/// The body of a stream of responses.
pub(super) struct Responses {
    queue: mpsc::Receiver<Result<Outgoing, Status>>,
    writing: Option<Writing>,
    end: Option<Status>,
    over: bool,
}

impl Responses {
    pub(super) fn new(queue: mpsc::Receiver<Result<Outgoing, Status>>) -> Self {
        Responses {
            queue,
            writing: None,
            end: None,
            over: false,
        }
    }

    /// The next piece; an empty one when all is said.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut piece = BytesMut::new();
        loop {
            if let Some(writing) = &mut self.writing {
                if !writing.fill(&mut piece) {
                    break;
                }
                self.writing = None;
            }
            if self.end.is_some() || piece.len() >= PIECE {
                break;
            }
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(Ok(response))) => match Writing::begin(response, &mut piece) {
                    Ok(writing) => self.writing = Some(writing),
                    Err(status) => self.end = Some(status),
                },
                Poll::Ready(Some(Err(status))) => self.end = Some(status),
                Poll::Ready(None) => self.end = Some(Status::ok("")),
                Poll::Pending if piece.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(piece.freeze())
    }
}

impl Body for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let piece = ready_or_wait!(this.poll_piece(cx));
        if !piece.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        this.over = true;
        let status = this.end.take().unwrap_or_else(|| Status::ok(""));
        let mut trailers = HeaderMap::new();
        let added = status.add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }
}
