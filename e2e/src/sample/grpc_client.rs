//! Calls of the sample application's gRPC service.

use std::fmt;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::grpc::{Message, SAY};
use super::upstream::{Options, http_client};

/// A client of [`SAY`]. A request that never left goes over another connection, as with every gRPC client.
#[derive(Debug, Clone)]
pub struct Echo {
    grpc: Grpc<Client<HttpConnector, Body>>,
    target: Uri,
    timeout: Duration,
}

impl Echo {
    /// A client of `http://HOST:PORT`.
    pub fn new(target: Uri, options: Options) -> Echo {
        // One connection carries all calls.
        let options = Options {
            http2: true,
            keep_alive: true,
            ..options
        };
        Echo {
            grpc: Grpc::with_origin(http_client(options), target.clone()),
            target,
            timeout: options.timeout,
        }
    }

    /// One message each way.
    ///
    /// # Errors
    /// What the service ends with, or what stands in the way of it.
    pub async fn say(&self, message: Message, headers: HeaderMap) -> Result<Response<Message>, Status> {
        let request = Request::from_parts(
            MetadataMap::from_headers(headers),
            tonic::Extensions::default(),
            message,
        );
        let mut grpc = self.grpc.clone();
        let call = async {
            let ready = grpc.ready().await;
            ready.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<Message, Message>::default();
            grpc.unary(request, PathAndQuery::from_static(SAY), codec).await
        };
        let answer = tokio::time::timeout(self.timeout, call).await;
        answer.map_err(|_| Status::deadline_exceeded(format!("no answer within {:?}", self.timeout)))?
    }
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}
