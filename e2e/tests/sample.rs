//! The sample application as its users see it: the program is started on a free port and asked.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Running {
    child: Child,
    port: u16,
    /// Address of the TCP echo, if there is one.
    echo: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(image: &str, env: &[(&str, &str)]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_e2e-sample"))
        .args(["--image", image])
        .env("LISTEN_ADDR", "127.0.0.1:0")
        .envs(env.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let (mut echo, mut port) = (String::new(), None);
    for line in lines.by_ref().map_while(Result::ok) {
        if let Some((_, address)) = line.split_once("TCP echo on ") {
            echo = address.to_owned();
        }
        if let Some((_, address)) = line.split_once("listening on ") {
            port = address.parse().map(|address: SocketAddr| address.port()).ok();
            break;
        }
    }
    // Nobody may be held up by a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let port = port.unwrap_or_else(|| panic!("{image} did not start"));
    Running { child, port, echo }
}

fn client(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_e2e-sample"))
        .arg("client")
        .args(arguments)
        .output()
        .expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn url(of: &Running, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", of.port)
}

/// The body of one answer, by way of the client's counting.
fn get(of: &Running, path: &str, more: &[&str]) -> (u16, String) {
    let url = url(of, path);
    let mut arguments = vec!["load", &url, "--requests", "1", "--count-by", "body"];
    arguments.extend(more);
    let report = client(&arguments);
    let first = |name: &str| {
        report[name]
            .as_object()
            .and_then(|map| map.keys().next().cloned())
            .unwrap_or_default()
    };
    (first("by_status").parse().unwrap_or_default(), first("by_value"))
}

#[test]
fn three_of_four_fail() {
    let backend = start(
        "nicholasjackson/fake-service:v0.14.1",
        &[
            ("ERROR_TYPE", "http_error"),
            ("ERROR_RATE", "0.75"),
            ("ERROR_CODE", "503"),
            ("NAME", "backend"),
        ],
    );
    let report = client(&["load", &url(&backend, "/"), "--requests", "40"]);
    assert_eq!(
        report["by_status"],
        serde_json::json!({"200": 10, "503": 30}),
        "{report}"
    );
}

#[test]
fn the_chain_of_calls_is_reported() {
    let backend = start(
        "nicholasjackson/fake-service:v0.17.0",
        &[("NAME", "backend"), ("MESSAGE", "Hello from backend")],
    );
    let upstream = url(&backend, "/");
    let web = start(
        "nicholasjackson/fake-service:v0.17.0",
        &[("NAME", "web"), ("UPSTREAM_URIS", &upstream), ("HOSTNAME", "web-1")],
    );
    for protocol in [&[][..], &["--http2"]] {
        let (status, body) = get(&web, "/", protocol);
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            (status, &body["name"], &body["code"]),
            (200, &"web".into(), &200.into()),
            "{body}"
        );
        assert_eq!(body["upstream_calls"][0]["body"], "Hello from backend", "{body}");
        assert_eq!(body["upstream_calls"][0]["uri"], upstream.as_str());
    }
    let pods = client(&[
        "load",
        &url(&web, "/"),
        "--requests",
        "3",
        "--count-by",
        "header:x-pod-name",
    ]);
    assert_eq!(pods["by_value"], serde_json::json!({"web-1": 3}));

    drop(backend);
    let (status, body) = get(&web, "/", &[]);
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 500);
    assert!(
        body["upstream_calls"][0]["error"]
            .as_str()
            .is_some_and(|e| e.contains("refused")),
        "{body}"
    );
}

#[test]
fn grpc_load_goes_along_the_chain_and_tells_failures() {
    let image = "nicholasjackson/fake-service:v0.17.0";
    let backend = start(image, &[]);
    let upstream = format!("grpc://127.0.0.1:{}", backend.port);
    let web = start(image, &[("UPSTREAM_URIS", &upstream)]);
    let load = |of: &Running| client(&["load", "--grpc", &url(of, ""), "--requests", "20"]);
    let report = load(&web);
    assert_eq!(
        (&report["ok"], &report["by_grpc_status"]["0"]),
        (&20.into(), &20.into()),
        "{report}"
    );
    drop(backend);
    let report = load(&web);
    assert_eq!((&report["ok"], &report["sent"]), (&0.into(), &20.into()), "{report}");
    let told = report["failures"].as_array().expect("failures");
    assert_eq!(told.len(), 20);
    let answer = told[0]["answer"].as_str().unwrap_or_default();
    assert!(
        answer.contains(&format!(
            "127.0.0.1:{}",
            upstream.rsplit(':').next().unwrap_or_default()
        )),
        "{answer}"
    );
    // Nothing is written to it: it ends with its input.
    let report = client(&["load", &url(&web, ""), "--until-eof", "--rate", "100"]);
    assert_eq!(
        (&report["errors"], &report["sent"]),
        (&serde_json::json!({}), &report["ok"]),
        "{report}"
    );
}

#[test]
fn catalog_and_webapp_of_the_labs() {
    let v1 = start("istioinaction/catalog:latest", &[]);
    let v2 = start("istioinaction/catalog:latest", &[("SHOW_IMAGE", "true")]);
    let port = v1.port.to_string();
    let env = [
        ("CATALOG_SERVICE_HOST", "127.0.0.1"),
        ("CATALOG_SERVICE_PORT", port.as_str()),
    ];
    let webapp = start("istioinaction/webapp:latest", &env);

    let parsed = |of: &Running, path: &str| {
        let (status, body) = get(of, path, &[]);
        (
            status,
            serde_json::from_str::<Value>(&body).unwrap_or(Value::String(body)),
        )
    };
    let (status, item) = parsed(&webapp, "/api/catalog/items/1");
    assert_eq!(
        (status, &item["name"], item.get("imageUrl")),
        (200, &"Elinor Glasses".into(), None),
        "{item}"
    );
    assert_eq!(parsed(&webapp, "/api/catalog").1.as_array().map(Vec::len), Some(4));
    assert!(parsed(&v2, "/items").1[0]["imageUrl"].is_string());
    assert_eq!(parsed(&v1, "/items/99").0, 404);

    let blowup = |body: &str| {
        client(&[
            "load",
            &url(&v1, "/blowup"),
            "--requests",
            "1",
            "--method",
            "POST",
            "--body",
            body,
        ])
    };
    assert_eq!(blowup(r#"{"active":true,"type":"500","percentage":100}"#)["ok"], 1);
    assert_eq!(parsed(&v1, "/items").0, 500);
    let (status, text) = parsed(&webapp, "/api/catalog");
    assert_eq!((status, text), (500, "error calling Catalog service".into()));
    assert_eq!(blowup(r#"{"active":false,"type":"500"}"#)["ok"], 1);
    assert_eq!(parsed(&webapp, "/api/catalog").0, 200);
    assert_eq!(blowup("nonsense")["by_status"]["400"], 1);
}

#[test]
fn open_connections_echo() {
    let app = start("kennethreitz/httpbin", &[("TCP_LISTEN_ADDR", "127.0.0.1:0")]);
    let all = serde_json::json!({"sent": 5, "received": 5, "error": null});
    let ws = format!("ws://127.0.0.1:{}/ws", app.port);
    for arguments in [["ws", &ws], ["grpc", &url(&app, "")], ["tcp", &app.echo]] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--messages", "5", "--interval", "1ms"]);
        assert_eq!(client(&arguments), all, "{arguments:?}");
    }
    let call = client(&["grpc-call", &url(&app, ""), "--code", "14", "--text", "away"]);
    assert_eq!(call, serde_json::json!({"code": 14, "text": "away"}));
}

#[test]
fn unknown_images_and_values_are_refused() {
    for (image, env, expected) in [
        ("mysql:8", None, "mysql:8"),
        ("fake-service", Some(("ERROR_RATE", "2")), "ERROR_RATE"),
        (
            "fake-service",
            Some(("TIMING_50_PERCENTILE", "fast")),
            "TIMING_50_PERCENTILE",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_e2e-sample"));
        let output = command.args(["--image", image]).envs(env).output().expect("ran");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{said}");
    }
}
