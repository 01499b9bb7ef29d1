//! A real Envoy over ADS, in both forms of the protocol, as a sidecar and as a gateway: it takes everything, refuses
//! nothing, and follows changes.
//!
//! `ENVOY_BIN` names the program. Listeners have Istio's fixed ports, so the test runs itself again in a network
//! namespace of its own.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use common::{WAIT, get, options, until};
use mesh_api::envoy::pack;
use mesh_api::envoy::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use mesh_api::envoy::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use mesh_api::envoy::pb::envoy::service::discovery::v3 as xds;
use mesh_api::envoy::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use mesh_api::names::SpiffeId;
use mesh_control::serve;
use mesh_control::serve::ca::authority::Authority;
use mesh_control::serve::ca::token::Tokens;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

const INSIDE: &str = "MESH_TEST_OWN_NETWORK";

#[test]
fn a_real_envoy_takes_everything() {
    let Some(envoy) = std::env::var_os("ENVOY_BIN").map(PathBuf::from) else {
        assert!(
            std::env::var("CI").is_err(),
            "ENVOY_BIN must name an Envoy where CI is set"
        );
        eprintln!("SKIPPED: a_real_envoy_takes_everything needs ENVOY_BIN=/path/to/envoy");
        return;
    };
    if std::env::var_os(INSIDE).is_none() {
        let this = std::env::current_exe().expect("this program");
        let status = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .arg(this)
            .args(["--exact", "a_real_envoy_takes_everything", "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .expect("unshare (util-linux) makes the network namespace");
        assert!(status.success(), "in its own network namespace: {status}");
        return;
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip");
    assert!(up.success());
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    for form in ["DELTA_GRPC", "GRPC"] {
        for (kind, pod, account) in [
            ("sidecar", "web-1.shop", "shop/web"),
            ("router", "gw-1.shop", "shop/gw"),
        ] {
            println!("{form} {kind}");
            runtime.block_on(session(&envoy, form, kind, pod, account));
        }
    }
}

struct Proxy {
    process: Child,
    admin: std::net::SocketAddr,
    log: PathBuf,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- Envoy's log\n{log}");
        }
    }
}

impl Proxy {
    async fn start(envoy: &Path, dir: &Path, bootstrap: &Value) -> Self {
        let (config, admin, log) = (dir.join("bootstrap.json"), dir.join("admin"), dir.join("envoy.log"));
        std::fs::write(&config, bootstrap.to_string()).expect("written");
        let out = std::fs::File::create(&log).expect("log");
        let process = Command::new(envoy)
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c"])
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .expect("Envoy starts");
        let mut proxy = Proxy {
            process,
            admin: ([127, 0, 0, 1], 0).into(),
            log,
        };
        let end = tokio::time::Instant::now() + WAIT;
        loop {
            if let Ok(address) = std::fs::read_to_string(&admin)
                && let Ok(address) = address.trim().parse()
            {
                proxy.admin = address;
                return proxy;
            }
            assert!(tokio::time::Instant::now() < end, "Envoy opens its admin port");
            assert!(proxy.process.try_wait().expect("process").is_none(), "Envoy lives");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn session(envoy: &Path, form: &str, kind: &str, pod: &str, account: &str) {
    let dir = tempfile::tempdir().expect("dir");
    let options = options(dir.path());
    let source = dir.path().join("mesh");
    std::fs::write(source.join("objects.yaml"), OBJECTS).expect("written");
    std::fs::write(source.join("routes.yaml"), routes(60, "v1")).expect("written");
    std::fs::write(source.join("secret.yaml"), secret()).expect("written");
    let control = serve::start(options).await.expect("starts");

    let authority = Authority::open(&dir.path().join("ca"), "cluster.local").expect("the same CA");
    let (namespace, name) = account.split_once('/').expect("namespace/name");
    let sds = secrets(&authority, namespace, name).await;
    let tokens = Tokens::open(&dir.path().join("ca")).expect("tokens");
    let token = tokens
        .issue(&account.parse().expect("account"), 10 * WAIT, SystemTime::now())
        .expect("token");
    let node = format!(
        "{kind}~10.0.0.{}~{pod}~{namespace}.svc.cluster.local",
        if kind == "router" { 9 } else { 1 }
    );
    let bootstrap = bootstrap(form, &node, name, control.grpc.port(), sds.port(), &token);
    let envoy = Proxy::start(envoy, dir.path(), &bootstrap).await;

    let synced = |page: &str, snapshot: u64| {
        let body = page.split_once("\r\n\r\n").map_or("", |(_, b)| b);
        let Ok(Value::Array(all)) = serde_json::from_str(body) else {
            return false;
        };
        all.iter().any(|c| {
            let state = |t: &str| c["xds"][t]["state"] == "SYNCED";
            c["node"] == node.as_str()
                && c["snapshot_taken"].as_u64() >= Some(snapshot)
                && ["cds", "eds", "lds", "rds"].into_iter().all(state)
        })
    };
    let page = until(control.monitoring, "/debug/syncz", |p| synced(p, 1)).await;
    assert!(
        page.contains(&format!("spiffe://cluster.local/ns/{namespace}/sa/{name}")),
        "{page}"
    );
    // Nothing waits for anything any more: all that was sent is in use.
    let idle = |page: &str| {
        [
            "listener_manager.total_listeners_warming: 0",
            "cluster_manager.warming_clusters: 0",
            "listener_manager.workers_started: 1",
        ]
        .iter()
        .all(|s| page.contains(s))
    };
    until(envoy.admin, "/stats", idle).await;
    let listeners = get(envoy.admin, "/listeners").await;
    let expected: &[&str] = if kind == "router" {
        &["0.0.0.0_8080", "0.0.0.0_8443"]
    } else {
        &["virtualInbound", "virtualOutbound"]
    };
    for name in expected {
        assert!(listeners.contains(name), "{name}: {listeners}");
    }

    // A change of weights and a new subset; then the subset goes.
    std::fs::write(source.join("routes.yaml"), routes(30, "v2")).expect("written");
    until(envoy.admin, "/config_dump", |p| {
        p.contains("\"weight\": 30") && p.contains("|v2|catalog.shop")
    })
    .await;
    until(control.monitoring, "/debug/syncz", |p| synced(p, 2)).await;
    std::fs::write(source.join("routes.yaml"), "# nothing\n").expect("written");
    until(envoy.admin, "/clusters", |p| !p.contains("|v2|") && !p.contains("|v1|")).await;
    until(control.monitoring, "/debug/syncz", |p| synced(p, 3)).await;
    until(envoy.admin, "/stats", idle).await;

    let stats = get(envoy.admin, "/stats?filter=update_").await;
    for line in stats.lines().filter(|l| l.contains("update_rejected")) {
        assert!(line.ends_with(": 0"), "{line}");
    }
    assert!(stats.contains("listener_manager.lds.update_success"), "{stats}");
    let page = get(control.monitoring, "/debug/syncz").await;
    assert!(!page.contains("\"ERROR\""), "{page}");
    let log = std::fs::read_to_string(&envoy.log).unwrap_or_default();
    assert!(!log.contains("rejected"), "{log}");
    drop(envoy);
    control.wait(std::future::ready(())).await.expect("stops");
}

fn bootstrap(form: &str, node: &str, account: &str, xds: u16, sds: u16, token: &str) -> Value {
    let cluster = |name: &str, port: u16| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}},
        })
    };
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    json!({
        "node": {"id": node, "cluster": "test", "metadata": {"SERVICE_ACCOUNT": account}},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": form, "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{
                    "envoy_grpc": {"cluster_name": "xds-grpc"},
                    "initial_metadata": [{"key": "authorization", "value": format!("Bearer {token}")}],
                }],
            },
            "cds_config": ads, "lds_config": ads,
        },
        "static_resources": {"clusters": [cluster("xds-grpc", xds), cluster("sds-grpc", sds)]},
    })
}

/// The workload's own certificate, as an agent beside it would give it to Envoy.
struct Secrets(Vec<tls::Secret>);

type Answers<T> = Result<Response<ReceiverStream<Result<T, Status>>>, Status>;

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type DeltaSecretsStream = ReceiverStream<Result<xds::DeltaDiscoveryResponse, Status>>;
    type StreamSecretsStream = ReceiverStream<Result<xds::DiscoveryResponse, Status>>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<xds::DeltaDiscoveryRequest>>,
    ) -> Answers<xds::DeltaDiscoveryResponse> {
        Err(Status::unimplemented("Istio's agents speak the other form"))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<xds::DiscoveryRequest>>,
    ) -> Answers<xds::DiscoveryResponse> {
        let (sender, answers) = tokio::sync::mpsc::channel(4);
        let secrets = self.0.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                if !request.response_nonce.is_empty() {
                    assert!(request.error_detail.is_none(), "{:?}", request.error_detail);
                    continue;
                }
                let wanted = secrets.iter().filter(|s| request.resource_names.contains(&s.name));
                let response = xds::DiscoveryResponse {
                    version_info: "1".to_owned(),
                    resources: wanted.map(pack).collect(),
                    type_url: request.type_url,
                    nonce: "1".to_owned(),
                    ..Default::default()
                };
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn fetch_secrets(
        &self,
        _: Request<xds::DiscoveryRequest>,
    ) -> Result<Response<xds::DiscoveryResponse>, Status> {
        Err(Status::unimplemented("by stream only"))
    }
}

async fn secrets(authority: &Authority, namespace: &str, name: &str) -> std::net::SocketAddr {
    let key = rcgen::KeyPair::generate().expect("key");
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .expect("csr")
        .pem()
        .expect("pem");
    let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/{namespace}/sa/{name}")).expect("id");
    let chain = authority.sign(&csr, &id, None, SystemTime::now()).expect("signs");
    let inline = |text: String| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text)),
            ..Default::default()
        })
    };
    let roots = std::fs::read_to_string(authority.bundle_file()).expect("roots");
    let own = tls::TlsCertificate {
        certificate_chain: inline(chain.concat()),
        private_key: inline(key.serialize_pem()),
        ..Default::default()
    };
    let trusted = tls::CertificateValidationContext {
        trusted_ca: inline(roots),
        ..Default::default()
    };
    let secrets = Secrets(vec![
        tls::Secret {
            name: "default".to_owned(),
            r#type: Some(tls::secret::Type::TlsCertificate(own)),
        },
        tls::Secret {
            name: "ROOTCA".to_owned(),
            r#type: Some(tls::secret::Type::ValidationContext(trusted)),
        },
    ]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let server = tonic::transport::Server::builder().add_service(SecretDiscoveryServiceServer::new(secrets));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn secret() -> String {
    use base64::Engine;
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).expect("certificate");
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: shop-cert, namespace: shop}}\ntype: kubernetes.io/tls\n\
         data:\n  tls.crt: {}\n  tls.key: {}\n",
        encode(made.cert.pem()),
        encode(made.signing_key.serialize_pem())
    )
}

const OBJECTS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  clusterIP: 10.1.0.1
  selector: {app: catalog}
  ports: [{name: http, port: 80, targetPort: 3000}, {name: tcp-db, port: 5432}, {name: any, port: 9000}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.1.0.2
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: web, containers: [{name: web, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: catalog-1, namespace: shop, labels: {app: catalog, version: v1, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: catalog, containers: [{name: catalog, ports: [{containerPort: 3000}]}]}
status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gw-1, namespace: shop, labels: {istio: ingressgateway}}
spec: {serviceAccountName: gw, containers: [{name: istio-proxy}]}
status: {phase: Running, podIP: 10.0.0.9, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [shop.example]
    tls: {mode: SIMPLE, credentialName: shop-cert}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec:
  hosts: [api.example.org]
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: ['*']
  gateways: [front]
  http:
  - route: [{destination: {host: catalog, port: {number: 80}}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

fn routes(weight: u32, subset: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: shop}}
spec:
  host: catalog
  subsets: [{{name: {subset}, labels: {{version: {subset}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: catalog, namespace: shop}}
spec:
  hosts: [catalog]
  gateways: [mesh, front]
  http:
  - match: [{{headers: {{x-test: {{exact: 'yes'}}}}}}]
    fault: {{abort: {{httpStatus: 503, percentage: {{value: 50}}}}}}
    route: [{{destination: {{host: catalog, port: {{number: 80}}}}}}]
  - timeout: 3s
    retries: {{attempts: 2}}
    route:
    - {{destination: {{host: catalog, subset: {subset}, port: {{number: 80}}}}, weight: {weight}}}
    - {{destination: {{host: catalog, port: {{number: 80}}}}, weight: {}}}
",
        100 - weight
    )
}
