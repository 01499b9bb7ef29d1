//! gRPC: service `ferromesh.sample.Echo` with `Say` (one message) and `Talk` (a stream each way). Written by hand, as two
//! methods over one message need no generated code.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use http::{Request, Response, header};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::grpc_client::Echo;
use super::trace;

/// Path of the method with one message each way.
pub const SAY: &str = "/ferromesh.sample.Echo/Say";
/// Path of the method with a stream each way.
pub const TALK: &str = "/ferromesh.sample.Echo/Talk";

/// The only message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// What is echoed.
    #[prost(string, tag = "1")]
    pub text: String,
    /// If not 0, the status that [`SAY`] ends with.
    #[prost(int32, tag = "2")]
    pub code: i32,
}

/// Whether a request is gRPC.
pub fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

type Codec = ProstCodec<Message, Message>;
type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;
type Ready<T> = std::future::Ready<Result<tonic::Response<T>, Status>>;

/// Answers a gRPC request; one message is said to each of the upstreams first.
pub async fn handle(request: Request<Incoming>, upstreams: &[Echo]) -> Response<Body> {
    let mut grpc = Grpc::new(Codec::default());
    match request.uri().path() {
        SAY => grpc.unary(Say(upstreams.to_vec()), request).await,
        TALK => grpc.streaming(Talk, request).await,
        other => Status::unimplemented(format!("no method {other}")).into_http(),
    }
}

struct Say(Vec<Echo>);

impl tower::Service<tonic::Request<Message>> for Say {
    type Response = tonic::Response<Message>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<tonic::Response<Message>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Message>) -> Self::Future {
        let upstreams = self.0.clone();
        async move {
            let (metadata, _, message) = request.into_parts();
            let headers = trace::forwarded(&metadata.into_headers());
            for upstream in upstreams {
                let said = upstream.say(message.clone(), headers.clone()).await;
                said.map_err(|status| Status::new(status.code(), format!("{upstream}: {}", status.message())))?;
            }
            match Code::from_i32(message.code) {
                Code::Ok => Ok(tonic::Response::new(message)),
                code => Err(Status::new(code, message.text)),
            }
        }
        .boxed()
    }
}

struct Talk;

impl tower::Service<tonic::Request<Streaming<Message>>> for Talk {
    type Response = tonic::Response<Messages>;
    type Error = Status;
    type Future = Ready<Messages>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Streaming<Message>>) -> Self::Future {
        let messages: Messages = Box::pin(request.into_inner().map(|message| message));
        std::future::ready(Ok(tonic::Response::new(messages)))
    }
}
