//! One request of a load, by HTTP or gRPC, made as often as it is wanted.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::Load;
use super::report::{Reply, Status};
use crate::sample::grpc::Message;
use crate::sample::grpc_client::Echo;
use crate::sample::upstream::{Options, Upstream};

/// What is sent, and by whom.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Http {
        client: Upstream,
        method: Method,
        url: Uri,
        headers: HeaderMap,
        body: Bytes,
    },
    Grpc {
        client: Echo,
        headers: HeaderMap,
        message: Message,
    },
}

impl Call {
    pub(super) fn of(load: &Load) -> Result<Call> {
        let headers = header_map(&load.headers)?;
        let options = Options {
            keep_alive: !load.no_keep_alive,
            http2: load.http2 || load.grpc,
            timeout: load.timeout,
        };
        if load.grpc {
            ensure!(
                load.url.authority().is_some(),
                "{}: expected http://HOST:PORT",
                load.url
            );
            let (text, code) = (load.body.clone(), 0);
            return Ok(Call::Grpc {
                client: Echo::new(load.url.clone(), options),
                headers,
                message: Message { text, code },
            });
        }
        Ok(Call::Http {
            client: Upstream::new(options),
            method: load.method.clone(),
            url: load.url.clone(),
            headers,
            body: Bytes::from(load.body.clone()),
        })
    }

    /// Makes it once; an error is a request without a whole answer.
    pub(super) async fn send(&self) -> Result<Reply, String> {
        match self {
            Call::Http {
                client,
                method,
                url,
                headers,
                body,
            } => {
                let mut request = Request::new(Full::new(body.clone()));
                *request.uri_mut() = url.clone();
                *request.method_mut() = method.clone();
                *request.headers_mut() = headers.clone();
                let answer = client.send(request).await.map_err(|error| format!("{error:#}"))?;
                Ok(Reply {
                    status: Status::Http(answer.status),
                    headers: answer.headers,
                    body: answer.body,
                })
            }
            Call::Grpc {
                client,
                headers,
                message,
            } => Ok(match client.say(message.clone(), headers.clone()).await {
                Ok(answer) => {
                    let (metadata, message, _) = answer.into_parts();
                    Reply {
                        status: Status::Grpc(tonic::Code::Ok),
                        headers: metadata.into_headers(),
                        body: message.text.into(),
                    }
                }
                // A connection that cannot be had is told by a status too.
                Err(status) => Reply {
                    status: Status::Grpc(status.code()),
                    headers: status.metadata().clone().into_headers(),
                    body: status.message().to_owned().into(),
                },
            }),
        }
    }
}

fn header_map(lines: &[String]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            Some((name, HeaderValue::try_from(value.trim()).ok()?))
        });
        let (name, value) = parsed.with_context(|| format!("header {line:?}: expected NAME: VALUE"))?;
        headers.append(name, value);
    }
    Ok(headers)
}
