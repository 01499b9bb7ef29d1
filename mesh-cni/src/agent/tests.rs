use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

const NETWORK: &str = r#"{"cniVersion": "0.3.1", "name": "kindnet", "plugins": [{"type": "ptp"}]}"#;

struct Node {
    folder: TempDir,
    settings: Settings,
    program: PathBuf,
}

/// A node with folders, a service account, and something in place of the program.
fn node(vars: &[(&str, &str)]) -> Node {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).expect("made");
        path.display().to_string()
    };
    let mut all: BTreeMap<String, String> = [
        ("MOUNTED_CNI_NET_DIR", path("net.d")),
        ("MOUNTED_CNI_BIN_DIR", path("bin")),
        ("CNI_AGENT_RUN_DIR", path("run")),
        ("SERVICE_ACCOUNT_DIR", path("account")),
        ("NODE_NAME", "n1".to_owned()),
        ("POD_NAMESPACE", "mesh".to_owned()),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1".to_owned()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    all.extend(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    fs::write(folder.path().join("account/token"), "secret\n").expect("written");
    fs::write(folder.path().join("account/ca.crt"), "roots").expect("written");
    let program = folder.path().join("mesh-cni");
    fs::write(&program, "program").expect("written");
    Node {
        settings: Settings::read(&all).expect("complete"),
        folder,
        program,
    }
}

impl Node {
    fn put(&self, name: &str, text: &str) {
        fs::write(self.settings.net_dir.join(name), text).expect("written");
    }

    fn ensure(&self) -> anyhow::Result<bool> {
        ensure(&self.settings, &self.program)
    }

    fn json(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.folder.path().join(name)).expect("there");
        serde_json::from_str(&text).expect("JSON")
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join(folder)).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn the_plugin_comes_goes_and_comes_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = node(&[]);
    let error = node.ensure().expect_err("no network yet").to_string();
    assert!(error.contains("no network configuration yet"), "{error}");
    node.put("00-broken.conflist", "{");
    node.put("10-kindnet.conflist", NETWORK);
    node.put("20-other.conflist", NETWORK);
    assert!(node.ensure().expect("installed"));
    assert!(!node.ensure().expect("nothing to do"));
    let plugins = &node.json("net.d/10-kindnet.conflist")["plugins"];
    assert_eq!(plugins[0]["type"], "ptp");
    assert_eq!(plugins[1]["type"], "istio-cni");
    assert_eq!(plugins[1]["kubernetes"]["cni_namespace"], "mesh");
    assert_eq!(plugins[1]["kubernetes"]["exclude_namespaces"][0], "kube-system");
    let kubeconfig = plugins[1]["kubernetes"]["kubeconfig"]
        .as_str()
        .expect("a path")
        .to_owned();
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(Path::new(&kubeconfig)), 0o600);
    assert_eq!(mode(&node.settings.bin_dir.join("istio-cni")), 0o755);
    let config = node.json("run/istio-cni-kubeconfig");
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://10.96.0.1:443");
    assert_eq!(config["users"][0]["user"]["token"], "secret");

    // The network is installed anew, and the token renewed.
    node.put("10-kindnet.conflist", NETWORK);
    fs::write(node.folder.path().join("account/token"), "renewed").expect("written");
    assert!(node.ensure().expect("put back"));
    assert_eq!(
        node.json("net.d/10-kindnet.conflist")["plugins"][1]["type"],
        "istio-cni"
    );
    assert_eq!(
        node.json("run/istio-cni-kubeconfig")["users"][0]["user"]["token"],
        "renewed"
    );

    remove(&node.settings).expect("removed");
    assert_eq!(
        node.json("net.d/10-kindnet.conflist"),
        serde_json::from_str::<Value>(NETWORK).expect("JSON")
    );
    assert_eq!(node.names("bin"), [""; 0]);
    assert_eq!(node.names("run"), [""; 0]);
    assert_eq!(
        node.names("net.d"),
        ["00-broken.conflist", "10-kindnet.conflist", "20-other.conflist"]
    );
    remove(&node.settings).expect("nothing to remove");
}

#[test]
fn a_single_configuration_becomes_a_list_and_a_named_one_is_taken() {
    let node = node(&[("CNI_CONF_NAME", "20-net.conf")]);
    node.put("10-other.conflist", NETWORK);
    assert!(node.ensure().is_err(), "the named one is not there");
    node.put(
        "20-net.conf",
        r#"{"cniVersion": "0.3.1", "name": "net", "type": "bridge"}"#,
    );
    assert!(node.ensure().expect("installed"));
    assert!(!node.ensure().expect("nothing to do"));
    assert_eq!(node.names("net.d"), ["10-other.conflist", "20-net.conflist"]);
    assert_eq!(node.json("net.d/20-net.conflist")["plugins"][1]["type"], "istio-cni");
    assert_eq!(node.json("net.d/10-other.conflist")["plugins"][1], Value::Null);
}

#[test]
fn not_chained_it_has_a_file_of_its_own() {
    let node = node(&[("CHAINED_CNI_PLUGIN", "false")]);
    node.put("10-kindnet.conflist", NETWORK);
    assert!(node.ensure().expect("installed"));
    assert!(!node.ensure().expect("nothing to do"));
    let own = node.json("net.d/YYY-istio-cni.conf");
    assert_eq!(
        (&own["type"], &own["cniVersion"]),
        (&Value::from("istio-cni"), &Value::from("0.3.1"))
    );
    assert_eq!(node.json("net.d/10-kindnet.conflist")["plugins"][1], Value::Null);
    remove(&node.settings).expect("removed");
    assert_eq!(node.names("net.d"), ["10-kindnet.conflist"]);
}

#[tokio::test]
async fn what_others_overwrite_is_put_back_without_being_asked() {
    let node = node(&[]);
    let status = Status::default();
    let eventually = async |what: &str, condition: &dyn Fn() -> bool| {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(),
            "never: {what}"
        );
    };
    let chained = || {
        let text = fs::read_to_string(node.settings.net_dir.join("10-kindnet.conflist"));
        text.is_ok_and(|text| text.contains("istio-cni"))
    };
    let story = async {
        eventually("a failure", &|| status.failures.load(Relaxed) > 0).await;
        assert!(!status.installed.load(Relaxed));
        node.put("10-kindnet.conflist", NETWORK);
        eventually("installed", &|| chained() && status.installed.load(Relaxed)).await;
        for _ in 0..3 {
            node.put("10-kindnet.conflist", NETWORK);
            eventually("put back", &chained).await;
        }
        fs::remove_file(node.settings.bin_dir.join("istio-cni")).expect("removed");
        eventually("the program is back", &|| {
            node.settings.bin_dir.join("istio-cni").is_file()
        })
        .await;
        assert!(
            status.metrics().contains("istio_cni_install_ready 1\n"),
            "{}",
            status.metrics()
        );
    };
    tokio::select! {
        () = keep(&node.settings, &node.program, &status, None) => {}
        () = story => {}
    }
}

#[tokio::test]
async fn pages_say_how_it_goes() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let status = Arc::new(Status::default());
    let address = serve::start(([127, 0, 0, 1], 0).into(), status.clone())
        .await
        .expect("a port");
    let ask = async |path: &str| {
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("read");
        answer.split(' ').nth(1).map(str::to_owned).expect("a status")
    };
    assert_eq!(ask("/healthz").await, "200");
    assert_eq!(ask("/readyz").await, "503");
    status.installed.store(true, Relaxed);
    assert_eq!(ask("/readyz").await, "200");
    assert_eq!(ask("/metrics").await, "200");
    assert_eq!(ask("/other").await, "404");
}
