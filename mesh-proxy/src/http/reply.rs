//! Responses that the proxy makes itself.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::grpc;
use super::response_body::ResponseBody;
use super::stream::Stream;
use crate::telemetry::ResponseFlags;

/// A response of the proxy's own.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: Cow<'static, str>,
    pub(crate) headers: HeaderMap,
    /// `grpc-status` for gRPC requests, when it is not the one that stands for the HTTP status.
    pub(crate) grpc_status: Option<u16>,
    /// The connection ends with this response.
    pub(crate) close: bool,
}

impl Local {
    pub(crate) fn new(
        status: StatusCode,
        body: impl Into<Bytes>,
        flags: ResponseFlags,
        details: impl Into<Cow<'static, str>>,
    ) -> Self {
        Local {
            status,
            body: body.into(),
            flags,
            details: details.into(),
            headers: HeaderMap::new(),
            grpc_status: None,
            close: false,
        }
    }

    /// 400, and the connection is closed: what follows on it cannot be trusted.
    pub(crate) fn bad_request(details: &'static str) -> Self {
        Local {
            close: true,
            ..Local::new(
                StatusCode::BAD_REQUEST,
                "",
                ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
                details,
            )
        }
    }

    /// Without any filter or header operation, as Envoy's.
    pub(crate) fn into_response(self, stream: &Rc<Stream>, grpc: bool) -> Response<ResponseBody> {
        stream.note(|r| {
            r.flags.set(self.flags);
            r.details = self.details;
        });
        if self.close {
            stream.conn.close_soon();
        }
        let mut headers = self.headers;
        let (status, body) = if grpc {
            let code = self.grpc_status.unwrap_or_else(|| grpc::status_of(self.status));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(code));
            if !self.body.is_empty()
                && let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.body))
            {
                headers.insert("grpc-message", message);
            }
            (StatusCode::OK, Bytes::new())
        } else {
            if !self.body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            (self.status, self.body)
        };
        let head = stream.note(|r| {
            r.response_code = status.as_u16();
            r.method == http::Method::HEAD
        });
        if head {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let body = if head { Bytes::new() } else { body };
        let mut response = Response::new(ResponseBody::whole(body, stream));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// `grpc-message`: everything but printable ASCII, and the percent sign, escaped.
fn percent_encoded(text: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                // Writing to a String does not fail.
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}
