use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_api::ca::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use mesh_api::ca::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_api::envoy::json::Json;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::admin::AppProbes;
use crate::bootstrap;
use crate::cli::AgentArgs;
use crate::snapshot::build::certificates;
use crate::tls::{Identity, identity_uri};
use crate::xds::Roots;

const POD: &[(&str, &str)] = &[
    ("POD_NAME", "web-6fd8-x2x"),
    ("POD_NAMESPACE", "shop"),
    ("INSTANCE_IP", "10.0.0.7"),
    ("SERVICE_ACCOUNT", "web"),
    (
        "PROXY_CONFIG",
        r#"{"discoveryAddress":"10.9.0.1:15012","concurrency":3,"terminationDrainDuration":"45s","proxyMetadata":{"ISTIO_META_DNS_CAPTURE":"true"}}"#,
    ),
    ("ISTIO_META_CLUSTER_ID", "east"),
    ("ISTIO_META_WORKLOAD_NAME", "web"),
    (
        "ISTIO_META_OWNER",
        "kubernetes://apis/apps/v1/namespaces/shop/deployments/web",
    ),
    ("ISTIO_META_MESH_ID", "cluster.local"),
    ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
    ("ISTIO_METAJSON_LABELS", r#"{"app":"web","version":"v2"}"#),
    (
        "ISTIO_PROMETHEUS_ANNOTATIONS",
        r#"{"scrape":"true","path":"","port":"9090"}"#,
    ),
    ("CA_ADDR", "istiod.istio-system.svc:15012"),
];

fn agent(vars: &[(&str, &str)]) -> Result<Agent, Vec<String>> {
    let environment = Environment::of(vars.iter().copied());
    Agent::new(Role::Sidecar, &AgentArgs::default(), &environment)
}

#[test]
fn the_environment_becomes_a_bootstrap() {
    let agent = agent(POD).expect("a complete environment");
    assert_eq!(agent.warnings, [] as [String; 0]);
    let value = Json::new().to_value(&agent.bootstrap()).expect("JSON");
    assert_eq!(
        value,
        json!({
            "node": {
                "id": "sidecar~10.0.0.7~web-6fd8-x2x.shop~shop.svc.cluster.local",
                "cluster": "web.shop",
                "metadata": {
                    "CLUSTER_ID": "east",
                    "DNS_CAPTURE": "true",
                    "ENVOY_PROMETHEUS_PORT": 15090.0,
                    "ENVOY_STATUS_PORT": 15021.0,
                    "INSTANCE_IPS": "10.0.0.7",
                    "INTERCEPTION_MODE": "REDIRECT",
                    "ISTIO_VERSION": env!("CARGO_PKG_VERSION"),
                    "LABELS": {"app": "web", "version": "v2"},
                    "MESH_ID": "cluster.local",
                    "NAME": "web-6fd8-x2x",
                    "NAMESPACE": "shop",
                    "OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/web",
                    "PROXY_CONFIG": {
                        "concurrency": 3.0,
                        "discoveryAddress": "10.9.0.1:15012",
                        "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"},
                        "terminationDrainDuration": "45s"
                    },
                    "SERVICE_ACCOUNT": "web",
                    "WORKLOAD_NAME": "web"
                },
                "user_agent_name": "mesh-proxy",
                "user_agent_version": env!("CARGO_PKG_VERSION"),
            },
            "dynamic_resources": {
                "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
                    "set_node_on_first_message_only": true,
                    "transport_api_version": "V3"
                }
            },
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}}
        })
    );
    assert_eq!(bootstrap::check_outline(&mut agent.bootstrap()), []);
    let workload = bootstrap::node(&agent.bootstrap()).workload.expect("Istio's metadata");
    assert_eq!(
        (workload.canonical_name.as_str(), workload.canonical_revision.as_str()),
        ("web", "v2")
    );
}

#[test]
fn settings_come_from_the_proxy_config_and_the_flags() {
    let agent = agent(POD).expect("a complete environment");
    assert_eq!((agent.concurrency, agent.drain), (3, Duration::from_secs(45)));
    assert!(agent.dns_capture);
    assert_eq!((agent.xds.host.as_str(), agent.xds.port), ("10.9.0.1", 15012));
    assert_eq!(
        agent.xds.server_name, "istiod.istio-system.svc",
        "a certificate names no address"
    );
    assert_eq!(agent.ca.server_name, "istiod.istio-system.svc");
    assert_eq!(
        agent.xds.roots,
        Some(Roots::File("/var/run/secrets/istio/root-cert.pem".into()))
    );
    let metrics = agent.app_metrics.expect("annotations");
    assert_eq!((metrics.port, metrics.path.as_str()), (9090, "/metrics"));

    let args = AgentArgs {
        concurrency: Some(1),
        drain_time_s: Some(2),
        domain: Some("shop.svc.east.local".to_owned()),
        ..AgentArgs::default()
    };
    let environment = Environment::of(POD.iter().copied());
    let agent = Agent::new(Role::Router, &args, &environment).expect("a complete environment");
    assert_eq!((agent.concurrency, agent.drain), (1, Duration::from_secs(2)));
    assert_eq!(
        agent.id.to_string(),
        "router~10.0.0.7~web-6fd8-x2x.shop~shop.svc.east.local"
    );
}

#[test]
fn everything_that_is_missing_or_wrong_is_said_at_once() {
    let errors = agent(&[
        ("POD_NAME", "a"),
        ("PROXY_CONFIG", r#"{"concurrency":"many","statusPort":99999}"#),
    ])
    .expect_err("incomplete");
    let all = errors.join("\n");
    for part in ["POD_NAMESPACE", "concurrency", "statusPort"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let errors =
        agent(&[("POD_NAME", "a"), ("POD_NAMESPACE", "b"), ("INSTANCE_IP", "nowhere")]).expect_err("no address");
    assert_eq!(errors, ["INSTANCE_IP: \"nowhere\" is no IP address"]);
    let agent = agent(&[
        ("POD_NAME", "a"),
        ("POD_NAMESPACE", "b"),
        ("INSTANCE_IP", "::1"),
        (
            "PROXY_CONFIG",
            "{discoverAddress: x, concurrency: 2, statNameLength: 300}",
        ),
    ])
    .expect("usable");
    assert_eq!(
        agent.warnings,
        [
            "PROXY_CONFIG: discoverAddress is not known and has no effect",
            "PROXY_CONFIG: statNameLength has no effect: names of statistics are never cut; remove it"
        ]
    );
    // Its ports can be reached by IPv6.
    assert!(agent.wildcard().is_ipv6() && agent.loopbacks().count() == 2);
}

/// The pod's variables, with some of them changed.
fn with<'a>(changed: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    POD.iter().chain(changed).copied().collect()
}

#[test]
fn capture_is_proven_where_the_injector_says_that_there_is_some() {
    let goal = |changed: &[(&str, &str)]| {
        agent(&with(changed))
            .expect("complete")
            .capture_proof
            .map(|a| a.to_string())
    };
    let mode = |mode| ("ISTIO_META_INTERCEPTION_MODE", mode);
    let ports = |text| ("ISTIO_METAJSON_ANNOTATIONS", text);
    assert_eq!(goal(&[]).as_deref(), Some("127.0.0.6:15002"));
    assert_eq!(goal(&[("INSTANCE_IP", "fd00::7")]).as_deref(), Some("[::6]:15002"));
    assert_eq!(goal(&[mode("NONE")]), None);
    assert_eq!(goal(&[mode("")]), None);
    assert_eq!(goal(&[mode("TPROXY")]).as_deref(), Some("127.0.0.6:15002"));
    let some = r#"{"traffic.sidecar.istio.io/includeInboundPorts":"8080,9090"}"#;
    assert_eq!(goal(&[ports(some)]).as_deref(), Some("127.0.0.6:15002"));
    assert_eq!(goal(&[mode("TPROXY"), ports(some)]).as_deref(), Some("127.0.0.6:8080"));
    let none = r#"{"traffic.sidecar.istio.io/includeInboundPorts":""}"#;
    assert_eq!(goal(&[mode("TPROXY"), ports(none)]), None);
    let off = agent(&with(&[("FERROMESH_PROVE_CAPTURE", "false")])).expect("complete");
    assert_eq!(off.capture_proof, None);
    assert!(
        off.warnings[0].contains("FERROMESH_PROVE_CAPTURE"),
        "{:?}",
        off.warnings
    );
    let environment = Environment::of(POD.iter().copied());
    let gateway = Agent::new(Role::Router, &AgentArgs::default(), &environment).expect("complete");
    assert_eq!(gateway.capture_proof, None);
}

#[test]
fn variables_of_injected_pods_are_in_force_or_reported() {
    let plain = agent(&with(&[
        ("JWT_POLICY", "first-party-jwt"),
        ("PILOT_CERT_PROVIDER", "kubernetes"),
        ("HOST_IP", "192.0.2.1"),
        ("ISTIO_CPU_LIMIT", "2"),
        ("GOMEMLIMIT", "1073741824"),
        ("GOMAXPROCS", "2"),
        (
            "ISTIO_KUBE_APP_PROBERS",
            r#"{"/app-health/web/livez":{"tcpSocket":{"port":80}}}"#,
        ),
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"),
        ("MINIMUM_DRAIN_DURATION", "7s"),
    ]))
    .expect("complete");
    assert_eq!(plain.warnings, [] as [String; 0]);
    let secrets = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(plain.xds.token, Some(format!("{secrets}/token").into()));
    assert_eq!(plain.ca.roots, Some(Roots::File(format!("{secrets}/ca.crt").into())));
    assert!(plain.drain > Duration::from_secs(3600));
    assert_eq!(plain.quiet, Duration::from_secs(7));
    assert_ne!(plain.app_probes, AppProbes::default());

    let odd = agent(&with(&[
        (
            "ISTIO_BOOTSTRAP_OVERRIDE",
            "/etc/istio/custom-bootstrap/custom_bootstrap.json",
        ),
        ("CA_PROVIDER", "GoogleCA"),
        ("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"scrape":"true","port":"15020"}"#),
    ]))
    .expect("complete");
    assert_eq!(odd.app_metrics, None);
    for part in ["ISTIO_BOOTSTRAP_OVERRIDE", "GoogleCA", "port 15020 is the proxy's own"] {
        assert!(
            odd.warnings.iter().any(|w| w.contains(part)),
            "{part}: {:?}",
            odd.warnings
        );
    }
    for (name, value) in [
        ("PILOT_CERT_PROVIDER", "vault"),
        ("MINIMUM_DRAIN_DURATION", "soon"),
        ("ISTIO_KUBE_APP_PROBERS", "{"),
    ] {
        let errors = agent(&with(&[("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"), (name, value)])).expect_err("refused");
        assert!(errors[0].contains(name), "{errors:?}");
    }
}

#[test]
fn labels_of_the_downward_api_are_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("labels");
    std::fs::write(&path, "app=\"web\"\nnote=\"a \\\"quoted\\\" word\"\n").expect("written");
    let mut environment = Environment::of(POD.iter().copied());
    environment.labels_file = Some(path);
    let agent = Agent::new(Role::Sidecar, &AgentArgs::default(), &environment).expect("complete");
    assert_eq!(agent.metadata["LABELS"]["note"], "a \"quoted\" word");
    assert_eq!(agent.metadata["LABELS"]["version"], "v2");
}

/// An authority that signs what it is asked, as mesh-control and Istio do: leaf first, root last.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    root: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("signed").pem();
        Authority {
            issuer: rcgen::Issuer::new(params, key),
            root,
        }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Authority {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let token = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
        if token != Some("Bearer proof") {
            return Err(Status::unauthenticated("request authenticate failure"));
        }
        let csr = rcgen::CertificateSigningRequestParams::from_pem(&request.get_ref().csr)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let leaf = csr
            .signed_by(&self.issuer)
            .map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: vec![leaf.pem(), self.root.clone()],
        }))
    }
}

#[tokio::test]
async fn a_certificate_is_asked_for_with_the_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let authority = Authority::new();
    let root = certificates(authority.root.as_bytes()).expect("a certificate");
    let serving = tonic::transport::Server::builder()
        .add_service(IstioCertificateServiceServer::new(authority))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");

    let mut agent = agent(POD).expect("a complete environment");
    agent.ca.host = "127.0.0.1".to_owned();
    agent.ca.port = port;
    agent.ca.roots = None;
    agent.ca.token = Some(token.clone());
    let refused = agent.request().await.expect_err("no token");
    assert!(format!("{refused:#}").contains("authenticate"), "{refused:#}");

    std::fs::write(&token, "proof").expect("written");
    let issued = agent.request().await.expect("a certificate");
    assert_eq!(issued.identity.chain.len(), 1, "the root is not sent to peers");
    assert_eq!(issued.roots.roots, root);
    assert_eq!(
        identity_uri(&issued.identity).as_deref(),
        Some("spiffe://cluster.local/ns/shop/sa/web")
    );
    let again = Arc::new(agent.request().await.expect("another one"));
    assert_ne!(
        again.identity.key.secret_der(),
        issued.identity.key.secret_der(),
        "every request has its own key"
    );
}

#[test]
fn certificates_are_renewed_at_half_of_the_life_that_is_left_when_they_come() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    let start = rcgen::date_time_ymd(2026, 1, 1);
    params.not_before = start;
    params.not_after = start + Duration::from_secs(130);
    let identity = Identity {
        chain: vec![params.self_signed(&key).expect("signed").der().clone()],
        key: rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
    };
    let start: SystemTime = start.into();
    let issued = start + Duration::from_secs(120);
    let wait = |at, now| identity::until_renewal(&identity, at, now).map(|wait| wait.as_secs_f64());
    let due = wait(Some(issued), issued).expect("ten seconds are left");
    assert!((4.8..=5.2).contains(&due), "{due}");
    let due = wait(None, start).expect("all of it is left");
    assert!((63.0..=67.0).contains(&due), "{due}");
    assert_eq!(
        wait(Some(issued), issued + Duration::from_secs(6)),
        None,
        "half of it is over"
    );
}
