//! Proxies and pods that end while they are in use.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use e2e::testing::eventually;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::lab::{LIMIT, Lab};

/// Two replicas of a service that shows requests, and a client that listens, as applications do.
const PODS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata:
      labels: {app: echo}
      annotations: {proxy.istio.io/config: 'terminationDrainDuration: 20s'}
    spec:
      containers:
      - name: echo
        image: kennethreitz/httpbin
        env: [{name: LISTEN_ADDR, value: '0.0.0.0:8080'}]
        ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata:
  name: caller
  labels: {app: caller}
  annotations: {proxy.istio.io/config: 'terminationDrainDuration: 60s'}
spec:
  containers:
  - name: caller
    image: kennethreitz/httpbin
    env: [{name: LISTEN_ADDR, value: '0.0.0.0:8080'}]
    ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata:
  name: job
  annotations: {proxy.istio.io/config: 'terminationDrainDuration: 60s'}
spec:
  containers: [{name: job, image: nicolaka/netshoot}]
"#;

fn start(test: &str) -> Option<Lab> {
    let lab = Lab::start_with(test, &[], PODS)?;
    for pod in ["inside", "caller", "job"] {
        lab.until("both replicas are served", || {
            let line = "load http://echo/ --requests 20 --count-by header:x-pod-name";
            let report = lab.client(pod, line);
            report["ok"] == 20 && report["by_value"].as_object().is_some_and(|by| by.len() == 2)
        });
    }
    Some(lab)
}

fn runs(pid: u32) -> bool {
    // One that ended and was not waited for yet has no command line any more.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Requests that a proxy has received from its own application.
fn requests(lab: &Lab, pod: &str) -> u64 {
    let page = lab.mesh.admin(pod, "/stats/prometheus");
    let text = page.map(|page| page.text()).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// Callers outside the mesh, with an open HTTP/1.1 and an open HTTP/2 connection.
struct Callers {
    runtime: tokio::runtime::Runtime,
    one: http1::SendRequest<Empty<Bytes>>,
    two: http2::SendRequest<Empty<Bytes>>,
    /// Gives how the HTTP/2 connection ended.
    two_ended: tokio::task::JoinHandle<hyper::Result<()>>,
}

fn request(uri: String) -> Request<Empty<Bytes>> {
    Request::get(uri)
        .header("host", "echo")
        .body(Empty::new())
        .expect("a request")
}

impl Callers {
    fn connect(lab: &Lab, to: SocketAddr) -> Callers {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let open = || {
            let stream = lab
                .mesh
                .inside("outside", move || std::net::TcpStream::connect_timeout(&to, LIMIT));
            let stream = stream.expect("a pod").expect("a connection");
            stream.set_nonblocking(true).expect("a socket");
            stream
        };
        let (first, second) = (open(), open());
        let (one, two, two_ended) = runtime.block_on(async {
            let io = |stream| TokioIo::new(tokio::net::TcpStream::from_std(stream).expect("a socket"));
            let (one, connection) = http1::handshake(io(first)).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            let (two, connection) = http2::handshake(TokioExecutor::new(), io(second))
                .await
                .expect("HTTP/2");
            (one, two, tokio::spawn(connection))
        });
        Callers {
            runtime,
            one,
            two,
            two_ended,
        }
    }

    /// Status, and whether the caller is told to go.
    fn one(&mut self) -> (u16, bool) {
        let sent = self.one.send_request(request("/".to_owned()));
        self.runtime.block_on(async {
            let response = sent.await.expect("an answer");
            let close = response
                .headers()
                .get("connection")
                .is_some_and(|value| value == "close");
            let status = response.status().as_u16();
            response.into_body().collect().await.expect("a whole body");
            (status, close)
        })
    }
}

#[test]
fn callers_are_told_to_go_and_lose_nothing() {
    let Some(lab) = start("callers_are_told_to_go_and_lose_nothing") else {
        return;
    };
    let pod = lab.mesh.pod("echo").expect("a pod");
    let pid = pod.proxy_pid.expect("a proxy");
    let mut callers = Callers::connect(&lab, SocketAddr::from((pod.ip, 8080)));
    assert_eq!(callers.one(), (200, false));
    let load = "load http://echo/ --duration 5s --rate 100 --concurrency 32 --count-by header:x-pod-name";
    let before = requests(&lab, "inside");
    let report = std::thread::scope(|scope| {
        let load = scope.spawn(|| lab.client("inside", load));
        lab.until("the load has begun", || requests(&lab, "inside") > before + 50);
        // Still to be answered when the proxy is asked to end.
        let slow = callers.two.send_request(request("http://echo/delay/2".to_owned()));
        let slow = callers.runtime.spawn(slow);
        // A later one on the same connection is answered: the slow one has arrived.
        let later = callers.two.send_request(request("http://echo/".to_owned()));
        assert_eq!(callers.runtime.block_on(later).expect("an answer").status(), 200);
        lab.mesh.end_proxy(&pod.name).expect("a proxy");
        lab.until("HTTP/1.1 is told to go with an answer", || {
            let (status, close) = callers.one();
            assert_eq!(status, 200);
            close
        });
        let slow = callers.runtime.block_on(slow).expect("no panic").expect("an answer");
        assert_eq!(slow.status(), 200, "what was begun is finished");
        drop(slow);
        // GOAWAY: the connection ends well, although this side would go on.
        let ended = callers
            .runtime
            .block_on(async { tokio::time::timeout(LIMIT, &mut callers.two_ended).await });
        ended
            .expect("HTTP/2 is told to go")
            .expect("no panic")
            .expect("a good end");
        load.join().expect("no panic")
    });
    assert_eq!(report["ok"], report["sent"], "{report:#}");
    assert_eq!(report["by_value"].as_object().map(|by| by.len()), Some(2), "{report:#}");
    assert!(
        runs(pid),
        "the application still listens, so its way out is still needed"
    );
    let line = "load http://echo/ --requests 20 --count-by header:x-pod-name";
    let later = lab.client("inside", line);
    assert_eq!(later["ok"], 20, "{later:#}");
    assert_eq!(
        later["by_value"][&pod.name],
        serde_json::Value::Null,
        "the endpoint has left: {later:#}"
    );
    eventually("the grace period ends", LIMIT * 2, || !runs(pid));
}

#[test]
fn the_way_out_stays_open_while_the_application_lives() {
    let Some(lab) = start("the_way_out_stays_open_while_the_application_lives") else {
        return;
    };
    // A connection for each request: between two of them nothing is open.
    let load = "load http://echo/ --duration 6s --rate 4 --no-keep-alive --count-by header:connection";
    for pod in ["caller", "job"] {
        let before = requests(&lab, pod);
        let pid = lab.mesh.pod(pod).expect("a pod").proxy_pid.expect("a proxy");
        let report = std::thread::scope(|scope| {
            let load = scope.spawn(|| lab.client(pod, load));
            lab.until("the load has begun", || requests(&lab, pod) > before + 2);
            lab.mesh.end_proxy(pod).expect("a proxy");
            load.join().expect("no panic")
        });
        assert_eq!(report["ok"], report["sent"], "{pod}: {report:#}");
        assert!(report["sent"].as_u64() >= Some(20), "{pod}: {report:#}");
        assert_eq!(
            report["by_value"]["close"],
            serde_json::Value::Null,
            "{pod}: own calls go on: {report:#}"
        );
        if pod == "caller" {
            // Silent for longer than the proxy waits where no application is left.
            std::thread::sleep(Duration::from_secs(4));
            assert!(runs(pid), "the application still listens");
            assert_eq!(lab.client(pod, "load http://echo/ --requests 5")["ok"], 5);
        } else {
            lab.until("a proxy that nobody needs ends before its time", || !runs(pid));
        }
    }
}

#[test]
fn a_replica_less_costs_no_request() {
    let Some(lab) = start("a_replica_less_costs_no_request") else {
        return;
    };
    let load = "load http://echo/ --duration 8s --rate 150 --concurrency 64 --count-by header:x-pod-name";
    let before = requests(&lab, "inside");
    let report = std::thread::scope(|scope| {
        let load = scope.spawn(|| lab.client("inside", load));
        lab.until("the load has begun", || requests(&lab, "inside") > before + 50);
        lab.mesh.scale("istioinaction", "echo", 1).expect("scaled");
        load.join().expect("no panic")
    });
    assert_eq!(report["ok"], report["sent"], "{report:#}");
    assert_eq!(report["by_value"].as_object().map(|by| by.len()), Some(2), "{report:#}");
    let left = lab.client("inside", "load http://echo/ --requests 20 --count-by header:x-pod-name");
    assert_eq!(left["ok"], 20, "{left:#}");
    assert_eq!(left["by_value"].as_object().map(|by| by.len()), Some(1), "{left:#}");
}
