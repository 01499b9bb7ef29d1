//! TLS at the ingress gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use e2e::testing::eventually;

use crate::lab::{LIMIT, Lab};
use crate::tls::{self, Authority, Client};

/// A server of the Gateway, and a route to the catalog for its host.
fn https(servers: &[(&str, &str)]) -> String {
    let blocks = servers.iter().enumerate().map(|(number, (host, tls))| {
        format!(
            "  - port: {{number: 443, name: https-{number}, protocol: HTTPS}}\n    hosts: [{host}]\n    tls: {{{tls}}}\n"
        )
    });
    let hosts: Vec<&str> = servers.iter().map(|(host, _)| *host).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: shop}}\nspec:\n  selector: {{istio: ingressgateway}}\n  \
         servers:\n  - port: {{number: 80, name: http, protocol: HTTP}}\n    hosts: [one.example]\n    tls: {{httpsRedirect: true}}\n{}\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\nspec:\n  hosts: [{}]\n  \
         gateways: [shop]\n  http: [{{route: [{{destination: {{host: catalog}}}}]}}]\n",
        blocks.collect::<String>(),
        hosts.join(", ")
    )
}

fn gateway(lab: &Lab) -> SocketAddr {
    SocketAddr::new(lab.mesh.gateway().expect("a gateway").ip(), 443)
}

const PATH: &str = "/items/1";

#[test]
fn certificates_are_chosen_by_server_name_and_follow_their_secrets() {
    let name = "certificates_are_chosen_by_server_name_and_follow_their_secrets";
    let authority = Authority::new("strangers");
    let [one, two, three, late] =
        ["one", "two", "three", "late"].map(|name| authority.pair(&format!("{name}.example")));
    // Readable for the gateway, which runs as another user.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|file| folder.path().join(file));
    std::fs::write(&certificate, &three.certificate).expect("written");
    std::fs::write(&key, &three.key).expect("written");
    let servers = [
        ("one.example", "mode: SIMPLE, credentialName: one"),
        ("two.example", "mode: SIMPLE, credentialName: two"),
        (
            "three.example",
            &format!(
                "mode: SIMPLE, serverCertificate: {}, privateKey: {}",
                certificate.display(),
                key.display()
            ),
        ),
        ("late.example", "mode: SIMPLE, credentialName: comes-late"),
    ];
    let objects = [one.secret("one", &[]), two.secret("two", &[]), https(&servers)].join("\n---\n");
    let Some(lab) = Lab::start_with(name, &["services/catalog.yaml"], &objects) else {
        return;
    };
    let client = Client {
        to: gateway(&lab),
        roots: &authority,
        identity: None,
    };
    let said = |text: &str| {
        let log = std::fs::read_to_string(lab.mesh.logs().join("mesh-control.log"));
        log.unwrap_or_default().contains(text)
    };

    // Each server shows its own certificate. The one without a Secret keeps nobody waiting.
    for (host, pair) in [("one.example", &one), ("two.example", &two), ("three.example", &three)] {
        lab.until(host, || client.status(host, PATH) == 200);
        assert_eq!(client.certificate(host), Some(pair.der()), "{host}");
    }
    lab.until("the missing Secret is reported by name", || {
        said("Secret istio-system/comes-late does not exist") && said("spec.servers[4].tls.credentialName")
    });
    assert!(
        client.connect("late.example", &[]).is_err(),
        "without a certificate there is no handshake"
    );
    assert!(
        client.connect("unknown.example", &[]).is_err(),
        "nobody serves this name"
    );
    let mut two_streams = client
        .connect("one.example", &["h2", "http/1.1"])
        .expect("a connection");
    assert!(two_streams.is_http2());
    assert_eq!(two_streams.get(PATH).expect("an answer").status, 200);

    // Plain HTTP is sent to HTTPS.
    let answer = lab.ingress("one.example", "/items/1?a=b", &[]).expect("an answer");
    assert_eq!(
        (answer.status, answer.header("location").as_deref()),
        (301, Some("https://one.example/items/1?a=b"))
    );

    // The late Secret and a changed one come into force without a restart; open connections stay.
    let mut open = client.connect("two.example", &["http/1.1"]).expect("a connection");
    assert_eq!(open.get(PATH).expect("an answer").status, 200);
    lab.apply(&late.secret("comes-late", &[]));
    lab.until("the late Secret is in force", || {
        client.status("late.example", PATH) == 200
    });
    let renewed = authority.pair("two.example");
    lab.apply(&renewed.secret("two", &[]));
    lab.until("the new certificate is shown", || {
        client.certificate("two.example") == Some(renewed.der())
    });
    assert_eq!(client.status("two.example", PATH), 200);
    assert_eq!(
        open.get(PATH).expect("an answer on the connection from before").status,
        200
    );
    assert_eq!(
        client.certificate("one.example"),
        Some(one.der()),
        "others are as they were"
    );

    // So do changed files, which are looked at now and then.
    let renewed = authority.pair("three.example");
    std::fs::write(&key, &renewed.key).expect("written");
    std::fs::write(&certificate, &renewed.certificate).expect("written");
    eventually("the new files are in use", LIMIT * 2, || {
        client.certificate("three.example") == Some(renewed.der())
    });

    // A Secret that is no certificate does no harm.
    lab.apply(&tls::secret("two", &[("tls.crt", "nonsense"), ("tls.key", "nonsense")]));
    lab.until("the control plane hears that it was refused", || {
        said("kubernetes://two")
    });
    assert_eq!(
        client.status("two.example", PATH),
        200,
        "the certificate before is in use"
    );
}

#[test]
fn the_gateway_asks_for_client_certificates() {
    let (servers_root, clients_root) = (Authority::new("servers"), Authority::new("clients"));
    let [together, apart] = ["together", "apart"].map(|name| servers_root.pair(&format!("{name}.example")));
    let clients = clients_root.pem();
    let objects = [
        together.secret("together", &[("ca.crt", &clients)]),
        apart.secret("apart", &[]),
        tls::secret("apart-cacert", &[("ca.crt", &clients)]),
        https(&[
            ("together.example", "mode: MUTUAL, credentialName: together"),
            ("apart.example", "mode: MUTUAL, credentialName: apart"),
        ]),
    ]
    .join("\n---\n");
    let labs = ["services/catalog.yaml"];
    let Some(lab) = Lab::start_with("the_gateway_asks_for_client_certificates", &labs, &objects) else {
        return;
    };
    let (member, stranger) = (
        clients_root.pair("member.example"),
        servers_root.pair("stranger.example"),
    );
    let as_client = |identity| Client {
        to: gateway(&lab),
        roots: &servers_root,
        identity,
    };
    for host in ["together.example", "apart.example"] {
        lab.until(host, || as_client(Some(&member)).status(host, PATH) == 200);
        assert_eq!(as_client(None).status(host, PATH), 0, "{host}: no certificate");
        assert_eq!(
            as_client(Some(&stranger)).status(host, PATH),
            0,
            "{host}: a certificate of another authority"
        );
    }
    // Other roots are in force without a restart, too.
    lab.apply(&tls::secret("apart-cacert", &[("ca.crt", &servers_root.pem())]));
    lab.until("the other root is trusted", || {
        as_client(Some(&stranger)).status("apart.example", PATH) == 200
    });
    assert_eq!(as_client(Some(&member)).status("apart.example", PATH), 0);
    assert_eq!(as_client(Some(&member)).status("together.example", PATH), 200);
}

const PASSTHROUGH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: raw}
spec:
  selector: {app: raw}
  ports: [{name: tls, port: 443, targetPort: 8443}]
---
apiVersion: v1
kind: Pod
metadata: {name: raw, labels: {app: raw}}
spec:
  containers: [{name: shell, image: nicolaka/netshoot}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: raw}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    hosts: [raw.example, other.example]
    tls: {mode: PASSTHROUGH}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: raw}
spec:
  hosts: [raw.example]
  gateways: [raw]
  tls:
  - match: [{port: 443, sniHosts: [raw.example]}]
    route: [{destination: {host: raw, port: {number: 443}}}]
"#;

#[test]
fn tls_passes_through_by_server_name() {
    let authority = Authority::new("strangers");
    let (own, raw) = (authority.pair("one.example"), authority.pair("raw.example"));
    let terminated = https(&[("one.example", "mode: SIMPLE, credentialName: one")]);
    let objects = [PASSTHROUGH.to_owned(), own.secret("one", &[]), terminated].join("\n---\n");
    let labs = ["services/catalog.yaml"];
    let Some(lab) = Lab::start_with("tls_passes_through_by_server_name", &labs, &objects) else {
        return;
    };
    let listener = lab
        .mesh
        .inside("raw", || std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8443)));
    tls::serve(
        listener.expect("a pod").expect("a free port"),
        &raw,
        "from behind the gateway",
    );
    let client = Client {
        to: gateway(&lab),
        roots: &authority,
        identity: None,
    };
    lab.until("the backend answers", || client.status("raw.example", "/") == 200);
    assert_eq!(
        client.certificate("raw.example"),
        Some(raw.der()),
        "the backend's own certificate"
    );
    assert_eq!(
        client.get("raw.example", "/").expect("an answer").text(),
        "from behind the gateway"
    );
    // On the same port the gateway ends TLS for another name, and knows nothing of a third.
    lab.until("the other server", || client.status("one.example", PATH) == 200);
    assert_eq!(client.certificate("one.example"), Some(own.der()));
    assert!(client.connect("other.example", &[]).is_err(), "no rule for this name");
}
