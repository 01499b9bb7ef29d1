//! fake-service: waits a while, calls its upstreams, fails now and then, and reports the chain of calls as JSON.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use rand::Rng as _;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tonic::body::Body;

use super::env::{Env, duration, show_duration};
use super::grpc_client::Echo;
use super::image::CallsForm;
use super::upstream::{Options, Upstream};
use super::{server, trace};

/// Upstreams that are called by gRPC.
const GRPC: &str = "grpc://";

/// The service.
pub struct FakeService {
    name: String,
    message: String,
    upstreams: Vec<String>,
    grpc_upstreams: Vec<Echo>,
    workers: usize,
    client: Upstream,
    timing: Timing,
    faults: Option<Faults>,
    calls: CallsForm,
}

/// How long a request takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    p50: Duration,
    p90: Duration,
    p99: Duration,
    variance: Variance,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Variance {
    /// Up to so many per cent more.
    Percent(u32),
    /// Up to so much more.
    Upto(Duration),
}

/// Errors that are made on purpose.
#[derive(Debug)]
pub struct Faults {
    rate: f64,
    seen: AtomicU64,
    kind: Fault,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Http(StatusCode),
    Delay(Duration),
}

impl Faults {
    /// `None` when the rate is 0 or no type is named.
    ///
    /// # Errors
    /// When a value cannot be what its variable needs.
    pub fn from_env(env: &Env) -> Result<Option<Faults>> {
        let rate: f64 = env.number("ERROR_RATE", 0.0)?;
        if !(0.0..=1.0).contains(&rate) {
            bail!("ERROR_RATE={rate}: expected 0 to 1");
        }
        let kind = match env.get("ERROR_TYPE") {
            None => return Ok(None),
            Some("http_error") => {
                let code: u16 = env.number("ERROR_CODE", 500)?;
                Fault::Http(StatusCode::from_u16(code).with_context(|| format!("ERROR_CODE={code}"))?)
            }
            Some("delay") => Fault::Delay(env.duration("ERROR_DELAY")?),
            Some(other) => bail!("ERROR_TYPE={other:?}: expected http_error or delay"),
        };
        Ok((rate > 0.0).then(|| Faults {
            rate,
            seen: AtomicU64::new(0),
            kind,
        }))
    }

    /// Whether the next request is one that fails. They are counted, not drawn: of four requests at 0.75 exactly three.
    fn hit(&self) -> bool {
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        // A little more than the product, so that 3 × (1/3) is not taken for less than 1.
        let share = |count: u64| (count as f64).mul_add(self.rate, 1e-9).floor();
        share(before + 1) > share(before)
    }
}

impl Timing {
    fn from_env(env: &Env) -> Result<Timing> {
        let p50 = env.duration("TIMING_50_PERCENTILE")?;
        let or = |value: Duration, default: Duration| if value.is_zero() { default } else { value };
        let p90 = or(env.duration("TIMING_90_PERCENTILE")?, p50);
        let p99 = or(env.duration("TIMING_99_PERCENTILE")?, p90);
        let variance = match env.get("TIMING_VARIANCE") {
            None => Variance::Percent(0),
            Some(text) => match (text.trim_end_matches('%').parse(), duration(text)) {
                (Ok(percent), _) => Variance::Percent(percent),
                (_, Some(upto)) => Variance::Upto(upto),
                _ => bail!("TIMING_VARIANCE={text:?}: expected per cent or a duration"),
            },
        };
        Ok(Timing {
            p50,
            p90,
            p99,
            variance,
        })
    }

    fn draw(&self) -> Duration {
        let mut random = rand::rng();
        let base = match random.random_range(0..100) {
            0..90 => self.p50,
            90..99 => self.p90,
            _ => self.p99,
        };
        let share: f64 = random.random();
        base + match self.variance {
            Variance::Percent(percent) => base.mul_f64(f64::from(percent) / 100.0 * share),
            Variance::Upto(upto) => upto.mul_f64(share),
        }
    }
}

impl FakeService {
    /// From the image's variables.
    ///
    /// # Errors
    /// When a value cannot be what its variable needs.
    pub fn from_env(env: &Env, calls: CallsForm) -> Result<FakeService> {
        if let Some(kind) = env.get("SERVER_TYPE")
            && kind != "http"
        {
            bail!("SERVER_TYPE={kind:?}: only http is played");
        }
        let timeout = env
            .get("HTTP_CLIENT_REQUEST_TIMEOUT")
            .map_or(Some(Duration::from_secs(30)), duration);
        let options = Options {
            keep_alive: env.flag("HTTP_CLIENT_KEEP_ALIVES")?,
            http2: false,
            timeout: timeout.context("HTTP_CLIENT_REQUEST_TIMEOUT: expected a duration such as 30s")?,
        };
        let uris = env.list("UPSTREAM_URIS");
        let (grpc, http): (Vec<_>, Vec<_>) = uris.into_iter().partition(|uri| uri.starts_with(GRPC));
        let echo = |uri: &String| -> Result<Echo> {
            let target = uri.replacen(GRPC, "http://", 1).parse();
            Ok(Echo::new(
                target.with_context(|| format!("UPSTREAM_URIS: {uri}"))?,
                options,
            ))
        };
        Ok(FakeService {
            name: env.text("NAME", "Service"),
            message: env.text("MESSAGE", "Hello World"),
            upstreams: http,
            grpc_upstreams: grpc.iter().map(echo).collect::<Result<_>>()?,
            workers: env.number("UPSTREAM_WORKERS", 1)?,
            client: Upstream::new(options),
            timing: Timing::from_env(env)?,
            faults: Faults::from_env(env)?,
            calls,
        })
    }

    /// Called for gRPC requests, as the others are for HTTP requests.
    pub fn grpc_upstreams(&self) -> &[Echo] {
        &self.grpc_upstreams
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let (started, clock) = (jiff::Zoned::now(), Instant::now());
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
            .to_owned();
        let fault = self
            .faults
            .as_ref()
            .filter(|faults| faults.hit())
            .map(|faults| faults.kind);
        let (mut code, mut error, mut calls) = (StatusCode::OK, None, Vec::new());
        if let Some(Fault::Http(status)) = fault {
            (code, error) = (status, Some("Service error automatically injected"));
        } else {
            if let Some(Fault::Delay(delay)) = fault {
                tokio::time::sleep(delay).await;
            }
            tokio::time::sleep(self.timing.draw()).await;
            calls = self.call_upstreams(&path, &trace::forwarded(request.headers())).await;
            if calls.iter().any(|call| call.get("error").is_some()) {
                code = StatusCode::INTERNAL_SERVER_ERROR;
            }
        }
        let time = |at: &jiff::Zoned| at.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string();
        let mut reply = Map::new();
        let mut put = |name: &str, value: Value| reply.insert(name.to_owned(), value);
        put("name", json!(self.name));
        put("uri", json!(path));
        put("type", json!("HTTP"));
        put("ip_addresses", json!(own_addresses()));
        put("start_time", json!(time(&started)));
        put("end_time", json!(time(&jiff::Zoned::now())));
        put("duration", json!(show_duration(clock.elapsed())));
        if error.is_none() {
            put("body", json!(self.message));
        }
        if !calls.is_empty() {
            put("upstream_calls", self.show_calls(calls));
        }
        put("code", json!(code.as_u16()));
        if let Some(error) = error {
            put("error", json!(error));
        }
        server::json(code, &reply)
    }

    fn show_calls(&self, calls: Vec<Value>) -> Value {
        match self.calls {
            CallsForm::List => Value::Array(calls),
            CallsForm::Map => {
                let key = |call: &Value| call.get("uri").and_then(Value::as_str).unwrap_or_default().to_owned();
                Value::Object(calls.into_iter().map(|call| (key(&call), call)).collect())
            }
        }
    }

    async fn call_upstreams(&self, path: &str, headers: &HeaderMap) -> Vec<Value> {
        let calls: Vec<_> = self
            .upstreams
            .iter()
            .map(|uri| self.call(uri, path, headers).boxed())
            .collect();
        futures_util::stream::iter(calls)
            .buffered(self.workers.max(1))
            .collect()
            .await
    }

    async fn call(&self, uri: &str, path: &str, headers: &HeaderMap) -> Value {
        // The caller's path goes on, as with the original's HTTP_CLIENT_APPEND_REQUEST.
        let target = format!("{}{path}", uri.trim_end_matches('/'));
        match self.client.get(&target, headers.clone()).await {
            Err(error) => json!({
                "uri": uri,
                "code": -1,
                "error": format!("Error processing upstream request: {target}, error: {error:#}"),
            }),
            Ok(answer) => {
                let mut call: Map<String, Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
                call.insert("uri".to_owned(), json!(uri));
                call.insert("code".to_owned(), json!(answer.status.as_u16()));
                if answer.status != StatusCode::OK {
                    let shown = answer
                        .headers
                        .iter()
                        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))));
                    call.insert("headers".to_owned(), Value::Object(shown.collect()));
                    let error = format!(
                        "Error processing upstream request: {target}, expected code 200, got {}",
                        answer.status.as_u16()
                    );
                    call.insert("error".to_owned(), json!(error));
                }
                Value::Object(call)
            }
        }
    }
}

/// IPv4 addresses of this machine but the loopback's.
fn own_addresses() -> Vec<String> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let addresses = interfaces.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    addresses
        .filter(|ip| !ip.is_loopback())
        .map(|ip| ip.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(rate: &str, count: usize) -> usize {
        let env = Env::of(&[
            ("ERROR_TYPE", "http_error"),
            ("ERROR_RATE", rate),
            ("ERROR_CODE", "503"),
        ]);
        let faults = Faults::from_env(&env).expect("valid").expect("on");
        (0..count).filter(|_| faults.hit()).count()
    }

    #[test]
    fn the_error_rate_is_exact_in_every_run_of_requests() {
        for rounds in 1..20 {
            assert_eq!(hits("0.75", 4 * rounds), 3 * rounds);
            assert_eq!(hits("0.1", 10 * rounds), rounds);
            assert_eq!(hits("1", rounds), rounds);
        }
    }

    #[test]
    fn faults_are_off_without_type_or_rate() {
        for pairs in [&[("ERROR_RATE", "0.5")][..], &[("ERROR_TYPE", "http_error")]] {
            assert!(Faults::from_env(&Env::of(pairs)).expect("valid").is_none());
        }
        let wrong = Env::of(&[("ERROR_TYPE", "panic"), ("ERROR_RATE", "1")]);
        assert!(Faults::from_env(&wrong).is_err());
    }

    #[test]
    fn variance_is_per_cent_or_a_duration() {
        let timing = |variance| {
            let env = Env::of(&[("TIMING_50_PERCENTILE", "100ms"), ("TIMING_VARIANCE", variance)]);
            Timing::from_env(&env).expect("valid")
        };
        for variance in ["25", "25ms"] {
            let drawn = timing(variance).draw();
            assert!(
                drawn >= Duration::from_millis(100) && drawn <= Duration::from_millis(125),
                "{drawn:?}"
            );
        }
    }
}
