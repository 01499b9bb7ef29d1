//! Shows requests as they arrived: what a proxy did to them can be seen.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tonic::body::Body;

use super::server;

const MAX_BODY: usize = 16 << 20;

/// `/status/CODE`, `/delay/SECONDS`, `/bytes/COUNT`, and the request itself for every other path.
pub async fn handle(peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let Some(code) = path.strip_prefix("/status/") {
        let status = code.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
        return server::text(status.unwrap_or(StatusCode::BAD_REQUEST), "");
    }
    if let Some(count) = path.strip_prefix("/bytes/") {
        let count = count.parse().unwrap_or(0).min(MAX_BODY);
        return Response::new(server::whole(vec![b'x'; count]));
    }
    if let Some(seconds) = path.strip_prefix("/delay/") {
        let seconds: f64 = seconds.parse().unwrap_or(0.0);
        let delay = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        tokio::time::sleep(delay.min(Duration::from_secs(60))).await;
    }
    let mut headers = Map::new();
    for name in parts.headers.keys() {
        let values: Vec<_> = parts
            .headers
            .get_all(name)
            .iter()
            .map(|v| String::from_utf8_lossy(v.as_bytes()))
            .collect();
        headers.insert(name.to_string(), json!(values.join(",")));
    }
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return server::text(StatusCode::BAD_REQUEST, "the body broke off or is too long");
    };
    let trailers = body.trailers().map(|map| {
        let one = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes())))
        };
        Value::Object(map.iter().map(one).collect())
    });
    let shown = json!({
        "method": parts.method.as_str(),
        "url": parts.uri.to_string(),
        "version": format!("{:?}", parts.version),
        "origin": peer.ip().to_string(),
        "headers": headers,
        "trailers": trailers,
        "data": String::from_utf8_lossy(&body.to_bytes()),
    });
    server::json(StatusCode::OK, &shown)
}
