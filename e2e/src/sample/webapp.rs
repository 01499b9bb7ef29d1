//! The labs' web application: hands the catalog's items to browsers.

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use tonic::body::Body;

use super::catalog::Item;
use super::env::Env;
use super::server::{json, text};
use super::trace;
use super::upstream::{Options, Upstream};

/// The service.
pub struct Webapp {
    catalog: String,
    client: Upstream,
}

impl Webapp {
    /// From `CATALOG_SERVICE_HOST` and `CATALOG_SERVICE_PORT`.
    pub fn from_env(env: &Env) -> Webapp {
        let (host, port) = (
            env.text("CATALOG_SERVICE_HOST", "catalog"),
            env.text("CATALOG_SERVICE_PORT", "80"),
        );
        Webapp {
            catalog: format!("http://{host}:{port}"),
            client: Upstream::new(Options {
                keep_alive: true,
                http2: false,
                timeout: Duration::from_secs(60),
            }),
        }
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        let headers = trace::forwarded(request.headers());
        match path.as_str() {
            "" => text(StatusCode::OK, "webapp: see /api/catalog and /api/catalog/items/1\n"),
            "/api/catalog" => self.items("/items", headers).await,
            _ => match path.strip_prefix("/api/catalog/items/").map(str::parse::<u64>) {
                Some(Ok(id)) => self.items(&format!("/items/{id}"), headers).await,
                _ => text(StatusCode::NOT_FOUND, "not found\n"),
            },
        }
    }

    /// What the catalog says, if it says items; whatever else is a failed call.
    async fn items(&self, path: &str, headers: HeaderMap) -> Response<Body> {
        let answer = self.client.get(&format!("{}{path}", self.catalog), headers).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!("catalog: {error:#}");
                return text(StatusCode::INTERNAL_SERVER_ERROR, "error calling Catalog service");
            }
        };
        if answer.status == StatusCode::NOT_FOUND {
            return json(StatusCode::NOT_FOUND, &Value::Null);
        }
        let (one, many) = (
            serde_json::from_slice::<Item>(&answer.body),
            serde_json::from_slice::<Vec<Item>>(&answer.body),
        );
        match (one, many) {
            (Ok(item), _) if answer.status.is_success() => json(StatusCode::OK, &item),
            (_, Ok(items)) if answer.status.is_success() => json(StatusCode::OK, &items),
            _ => {
                tracing::warn!("catalog: {}", answer.status);
                text(StatusCode::INTERNAL_SERVER_ERROR, "error calling Catalog service")
            }
        }
    }
}
