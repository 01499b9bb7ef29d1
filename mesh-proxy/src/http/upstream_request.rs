//! One attempt: a connection, the request in the form that the connection speaks, the head of the response.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::{Body as _, Incoming};

use super::body::RequestBody;
use super::headers::Seen;
use super::retry::{Failure, Reset, reset_of};
use super::timers::Expired;
use crate::snapshot::{Cluster, ClusterState, Endpoint, HttpFilter, Transport, UpstreamVersion};
use crate::upstream::outlier::{Outcome, observe, observe_answer};
use crate::upstream::{AlpnOffer, Lease, LeaseError, Protocol, Want, lease};
use crate::worker::Worker;

/// A request in flight, in the books of its cluster and its endpoint.
#[derive(Debug)]
pub(crate) struct ActiveRequest {
    cluster: Arc<Cluster>,
    pub(crate) endpoint: Arc<Endpoint>,
    /// It has a connection, and counts against `max_requests`; until then it is pending.
    attached: Cell<bool>,
}

impl ActiveRequest {
    pub(crate) fn start(cluster: &Arc<Cluster>, endpoint: Arc<Endpoint>) -> Self {
        // From here on, so that least request does not pile requests up on an endpoint whose connections are busy.
        endpoint.state.active.fetch_add(1, Relaxed);
        ActiveRequest {
            cluster: cluster.clone(),
            endpoint,
            attached: Cell::new(false),
        }
    }

    /// It has a connection now. False when the cluster has as many requests as it may: as in Envoy, requests that wait for a
    /// connection are not among them.
    fn attach(&self) -> bool {
        let cluster = &self.cluster;
        let before = cluster.state.requests.fetch_add(1, Relaxed);
        if before >= cluster.limits.max_requests {
            cluster.state.requests.fetch_sub(1, Relaxed);
            // Newer Envoys count this by the second name only.
            cluster.stats.upstream_rq_pending_overflow.inc();
            cluster.stats.upstream_rq_active_overflow.inc();
            return false;
        }
        self.attached.set(true);
        cluster.stats.upstream_rq_total.inc();
        cluster.stats.upstream_rq_active.inc();
        self.endpoint.state.total.fetch_add(1, Relaxed);
        true
    }

    /// A response has come, which may be retried.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        if status.is_server_error() {
            self.endpoint.state.errors.fetch_add(1, Relaxed);
        } else {
            self.endpoint.state.success.fetch_add(1, Relaxed);
        }
    }

    /// Tells outlier detection.
    pub(crate) fn observe(&self, outcome: Outcome) {
        observe(&self.cluster, &self.endpoint, outcome);
    }

    /// Tells outlier detection of an answer.
    pub(crate) fn observe_answer<B>(&self, response: &Response<B>, grpc: bool) {
        let status = response.status().as_u16();
        observe_answer(&self.cluster, &self.endpoint, status, response.headers(), grpc);
    }

    /// It ended without (all of) a response.
    pub(crate) fn failed(&self) {
        self.endpoint.state.errors.fetch_add(1, Relaxed);
    }

    /// A limit of time has passed.
    pub(crate) fn timed_out(&self, expired: Expired) {
        match expired {
            Expired::Request => self.cluster.stats.upstream_rq_timeout.inc(),
            Expired::Try => self.cluster.stats.upstream_rq_per_try_timeout.inc(),
            Expired::Idle | Expired::Receive | Expired::Duration => {}
        }
        self.failed();
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if self.attached.get() {
            self.cluster.state.requests.fetch_sub(1, Relaxed);
            self.cluster.stats.upstream_rq_active.dec();
        }
        self.endpoint.state.active.fetch_sub(1, Relaxed);
    }
}

/// What an upgrade asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// None: an ordinary request.
    No,
    /// `upgrade: websocket` and its like; extended CONNECT on HTTP/2.
    Token(String),
    /// CONNECT.
    Connect,
}

/// A request as it goes upstream, before it is known what the connection speaks.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) scheme: &'static str,
    /// With `host`, also when it came by HTTP/2.
    pub(crate) headers: HeaderMap,
    /// Which of the headers that matter here it came with.
    pub(crate) seen: Seen,
    /// Spelling of the header names as they came.
    pub(crate) extensions: Extensions,
    pub(crate) upgrade: Upgrade,
}

/// What of the caller's connection decides about the upstream's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Like<'a> {
    pub(crate) version: Version,
    pub(crate) filters: &'a [HttpFilter],
    /// The request has a body of unknown length.
    pub(crate) streams: bool,
    /// There may be another attempt.
    pub(crate) keep: bool,
    /// Whom a PROXY header names.
    pub(crate) proxied: Option<(SocketAddr, SocketAddr)>,
}

/// What an attempt gives.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

impl Failed {
    /// What it says of the endpoint; nothing when a limit of ours was in the way.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.failure {
            Failure::Overflow | Failure::NoEndpoint | Failure::BadAuthority => None,
            Failure::Connect(error) if error.is_overflow() => None,
            _ if self.sent => Some(Outcome::Reset),
            _ => Some(Outcome::ConnectFailed),
        }
    }
}

/// A failed attempt.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// Some of it may have reached the upstream.
    pub(crate) sent: bool,
    /// It was sent on a connection that had been used before.
    pub(crate) reused: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Failed {
            failure,
            sent: false,
            reused: false,
        }
    }
}

/// Version of HTTP to speak to an endpoint, and what to offer for it on TLS.
pub(crate) fn wanted(
    cluster: &Cluster,
    transport: &Transport,
    like: &Like<'_>,
    upgrade: &Upgrade,
) -> (Protocol, AlpnOffer) {
    let http2 = like.version == Version::HTTP_2;
    let protocol = match cluster.http.version {
        UpstreamVersion::Http1 => Protocol::Http1,
        UpstreamVersion::Http2 => Protocol::Http2,
        // Upgrades are at home in HTTP/1.1.
        UpstreamVersion::Downstream | UpstreamVersion::Alpn if *upgrade != Upgrade::No => Protocol::Http1,
        UpstreamVersion::Downstream if http2 => Protocol::Http2,
        UpstreamVersion::Downstream => Protocol::Http1,
        UpstreamVersion::Alpn if transport.tls().is_some() => Protocol::Auto,
        UpstreamVersion::Alpn => Protocol::Http1,
    };
    let istio = !cluster.istio.no_alpn_override && like.filters.iter().any(|f| matches!(f, HttpFilter::Alpn));
    let alpn = match protocol {
        Protocol::Http1 if istio && like.version == Version::HTTP_10 => AlpnOffer::IstioHttp10,
        Protocol::Http1 if istio => AlpnOffer::IstioHttp11,
        Protocol::Http2 if istio => AlpnOffer::IstioHttp2,
        Protocol::Http1 => AlpnOffer::Http1,
        Protocol::Http2 => AlpnOffer::Http2,
        Protocol::Auto => AlpnOffer::Auto,
    };
    (protocol, alpn)
}

/// Makes one attempt.
pub(crate) async fn attempt(
    worker: &Rc<Worker>,
    active: &ActiveRequest,
    like: Like<'_>,
    outgoing: &mut Outgoing,
    body: RequestBody,
) -> Result<Answered, Failed> {
    let ActiveRequest { cluster, endpoint, .. } = active;
    let (protocol, alpn) = wanted(cluster, &endpoint.transport, &like, &outgoing.upgrade);
    let host;
    let server_name = if cluster.http.auto_sni {
        host = outgoing.headers.get(header::HOST).cloned();
        host.as_ref()
            .and_then(|h| h.to_str().ok())
            .map(super::routes::without_port)
    } else {
        None
    };
    let want = Want {
        protocol,
        alpn,
        server_name,
        proxied: like.proxied,
    };
    let mut lease = take(worker, cluster, endpoint, want).await?;
    if !active.attach() {
        lease.release();
        return Err(Failure::Overflow.into());
    }
    // The copy is for another attempt.
    let outgoing = if like.keep || lease.reused && outgoing.method.is_idempotent() {
        outgoing.clone()
    } else {
        std::mem::take(outgoing)
    };
    let mut request = outgoing.into_request(body, lease.is_http2(), like.streams)?;
    // A connection that the upstream has closed in the meantime gives the request back untouched; another one is tried, and
    // in the end a new one, so this is bounded by the size of the pool.
    loop {
        let reused = lease.reused;
        let was_http2 = lease.is_http2();
        match lease.send(request).await {
            Ok(response) => return Ok(Answered { response, lease }),
            Err(mut error) => {
                let message = error.take_message();
                let failure = Failure::Reset(reset_of(error.error()));
                drop(lease);
                let Some(unsent) = message else {
                    return Err(Failed {
                        failure,
                        sent: true,
                        reused,
                    });
                };
                if !reused {
                    return Err(Failed {
                        failure,
                        sent: false,
                        reused,
                    });
                }
                lease = take(worker, cluster, endpoint, want).await?;
                if lease.is_http2() != was_http2 {
                    return Err(Failure::Reset(Reset::ConnectionTermination).into());
                }
                request = unsent;
            }
        }
    }
}

async fn take(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    want: Want<'_>,
) -> Result<Lease, Failure> {
    lease(worker, cluster, endpoint, want)
        .await
        .map_err(|error| match error {
            LeaseError::Connect(error) if error.is_overflow() => Failure::Overflow,
            LeaseError::Connect(error) => Failure::Connect(error),
            LeaseError::PendingOverflow => Failure::Overflow,
        })
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing {
            method: Method::GET,
            path: PathAndQuery::from_static("/"),
            scheme: "http",
            headers: HeaderMap::new(),
            seen: Seen::default(),
            extensions: Extensions::new(),
            upgrade: Upgrade::No,
        }
    }
}

impl Outgoing {
    /// In the form that the connection speaks.
    fn into_request(self, body: RequestBody, http2: bool, streams: bool) -> Result<Request<RequestBody>, Failure> {
        if http2 {
            self.into_http2(body)
        } else {
            self.into_http1(body, streams)
        }
    }

    fn into_http1(mut self, body: RequestBody, streams: bool) -> Result<Request<RequestBody>, Failure> {
        let is_empty = body.is_end_stream();
        let mut request = Request::new(body);
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = match &self.upgrade {
            Upgrade::Connect => {
                let host = self.headers.get(header::HOST).map(HeaderValue::as_bytes);
                let authority = Authority::try_from(host.unwrap_or_default()).map_err(|_| Failure::BadAuthority)?;
                Uri::from(authority)
            }
            Upgrade::No | Upgrade::Token(_) => Uri::from(self.path),
        };
        if streams && !self.headers.contains_key(header::CONTENT_LENGTH) {
            // Hyper takes a GET for one without a body, whatever body it is given.
            self.headers
                .entry(header::TRANSFER_ENCODING)
                .or_insert(HeaderValue::from_static("chunked"));
        }
        if self.method != Method::GET && is_empty && says_so(&self.method) {
            self.headers
                .entry(header::CONTENT_LENGTH)
                .or_insert(HeaderValue::from_static("0"));
        }
        if let Upgrade::Token(token) = &self.upgrade {
            super::upgrade::as_http1(token, &mut self.headers);
        }
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        Ok(request)
    }

    fn into_http2(mut self, body: RequestBody) -> Result<Request<RequestBody>, Failure> {
        let mut request = Request::new(body);
        *request.version_mut() = Version::HTTP_2;
        let authority = match self.headers.remove(header::HOST) {
            Some(host) => Authority::try_from(host.as_bytes()).map_err(|_| Failure::BadAuthority)?,
            None => return Err(Failure::BadAuthority),
        };
        let mut uri = http::uri::Parts::default();
        uri.authority = Some(authority);
        if self.upgrade != Upgrade::Connect {
            uri.scheme = Some(if self.scheme == "https" {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            });
            uri.path_and_query = Some(self.path);
        }
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Failure::BadAuthority)?;
        *request.method_mut() = self.method;
        if let Upgrade::Token(token) = &self.upgrade {
            // RFC 8441: an upgrade is an extended CONNECT.
            *request.method_mut() = Method::CONNECT;
            request
                .extensions_mut()
                .insert(hyper::ext::Protocol::from(token.as_str()));
            for name in [header::SEC_WEBSOCKET_KEY, header::CONTENT_LENGTH] {
                self.headers.remove(name);
            }
        }
        // These belong to HTTP/1 connections.
        for name in [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING] {
            self.headers.remove(name);
        }
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// Whether a request of this method without a body says that it has none, as Envoy's do.
fn says_so(method: &Method) -> bool {
    ![
        Method::GET,
        Method::HEAD,
        Method::DELETE,
        Method::TRACE,
        Method::CONNECT,
    ]
    .contains(method)
}

/// A retry in flight, in the cluster's books.
pub(crate) struct RetryPermit(Arc<ClusterState>);

impl RetryPermit {
    /// `None` when the cluster has as many retries as it may.
    pub(crate) fn take(cluster: &Cluster) -> Option<Self> {
        let before = cluster.state.retries.fetch_add(1, Relaxed);
        let permit = RetryPermit(cluster.state.clone());
        (before < cluster.max_retries()).then_some(permit)
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Relaxed);
    }
}
