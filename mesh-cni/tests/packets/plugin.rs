//! The plugin as a container runtime calls it, with a stand-in for the API server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::lab::{APP, Lab, POD, Who};

/// Answers every request for a pod with this one, as long as the process lives. Gives the folder of the kubeconfig.
fn api_server(pod: &Value) -> tempfile::TempDir {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    let text = pod.to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let found = head
                .first()
                .is_some_and(|line| line.starts_with("GET /api/v1/namespaces/shop/pods/web-1 "));
            let (status, body) = if found {
                ("200 OK", text.as_str())
            } else {
                ("404 Not Found", "{}")
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": {"token": "secret"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(folder.path().join("kubeconfig"), config.to_string()).expect("written");
    folder
}

/// Whether the call succeeded, and what was on standard output.
fn call(command: &str, netns: &str, pod: &Value) -> (bool, Value) {
    let folder = api_server(pod);
    let conf = json!({
        "cniVersion": "0.4.0", "name": "kindnet", "type": "istio-cni",
        "kubernetes": {"kubeconfig": folder.path().join("kubeconfig"), "exclude_namespaces": ["kube-system"]},
        "prevResult": {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.198.0.2/24"}]},
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_mesh-cni"))
        .env("CNI_COMMAND", command)
        .env("CNI_NETNS", netns)
        .env("CNI_CONTAINERID", "abc")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/opt/cni/bin")
        .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1")
        // Meant for somebody else, whoever started the runtime.
        .env("CLEANUP_ONLY", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plugin runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(conf.to_string().as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("ended");
    let text = String::from_utf8_lossy(&output.stdout);
    let value = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).expect("JSON")
    };
    (output.status.success(), value)
}

fn injected(annotations: &Value) -> Value {
    let mut all = json!({"sidecar.istio.io/status": "{}"});
    for (name, value) in annotations.as_object().expect("an object") {
        all[name] = value.clone();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "annotations": all},
        "spec": {"containers": [{"name": "web"}, {"name": "istio-proxy", "args": ["proxy", "sidecar"]}]},
    })
}

#[test]
fn a_pod_of_the_mesh_is_captured() {
    let Some(lab) = Lab::new("plugin") else { return };
    let pod = injected(&json!({"traffic.sidecar.istio.io/excludeInboundPorts": "8081"}));
    let (done, result) = call("ADD", &lab.netns(), &pod);
    assert!(done, "{result}");
    assert_eq!(
        result["ips"][0]["address"], "10.198.0.2/24",
        "what came before is passed on"
    );
    assert_eq!(lab.tcp(Who::Neighbour, (POD, APP)), "pod 15006");
    assert_eq!(lab.tcp(Who::Neighbour, (POD, 8081)), "pod 8081");
    assert_eq!(lab.tcp(Who::Neighbour, (POD, 15020)), "pod 15020");
    assert_eq!(lab.tcp(Who::App, (super::NEIGHBOUR, 80)), "pod 15001");
    assert_eq!(lab.tcp(Who::Proxy, (super::NEIGHBOUR, 80)), "neighbour 80");
    // Runtimes may call twice.
    assert!(call("ADD", &lab.netns(), &pod).0);
    assert!(call("DEL", &lab.netns(), &pod).0);
}

#[test]
fn a_pod_is_captured_or_does_not_start() {
    let Some(lab) = Lab::silent("plugin-fails") else { return };
    let before = lab.saved();
    let (done, result) = call("CHECK", &lab.netns(), &injected(&json!({})));
    assert!(!done, "nothing is captured yet");
    assert!(
        result["msg"].as_str().is_some_and(|m| m.contains("not captured")),
        "{result}"
    );
    // A value that cannot be used, and a namespace that is not there.
    let bad = injected(&json!({"traffic.sidecar.istio.io/includeOutboundIPRanges": "nowhere"}));
    let (done, result) = call("ADD", &lab.netns(), &bad);
    assert!(!done);
    let message = result["msg"].as_str().unwrap_or_default();
    assert!(
        message.contains("shop/web-1") && message.contains("\"nowhere\" is no address range"),
        "{message}"
    );
    let (done, result) = call("ADD", "/var/run/netns/none-of-this-name", &injected(&json!({})));
    assert!(!done, "{result}");
    // Pods without a proxy are left alone.
    let plain = json!({"metadata": {"name": "web-1"}, "spec": {"containers": [{"name": "web"}]}});
    assert!(call("ADD", &lab.netns(), &plain).0);
    assert_eq!(lab.saved(), before);
    assert!(call("ADD", &lab.netns(), &injected(&json!({}))).0);
    assert!(call("CHECK", &lab.netns(), &injected(&json!({}))).0);
}
