//! Who may talk, and what others can read.

use e2e::netns::capture::holding;

use crate::lab::Lab;

const CANARY: &str = "canary-5c1f0e9a";

pub(crate) fn mode(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: istio-system}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

#[test]
fn strict_refuses_plaintext_and_hides_what_is_said() {
    let Some(lab) = Lab::start(
        "strict_refuses_plaintext_and_hides_what_is_said",
        &["services/catalog.yaml"],
    ) else {
        return;
    };
    let load = format!("load http://catalog.istioinaction/items?word={CANARY} --requests 5 --header x-word:{CANARY}");
    let answered = |pod: &str| lab.client(pod, &load)["ok"].as_u64().unwrap_or_default();
    assert_eq!(answered("inside"), 5, "the client with a sidecar is served");

    // PERMISSIVE, the default: plaintext is served and can be read, and between sidecars there is TLS already.
    let capture = lab.mesh.capture().expect("a capture");
    assert_eq!(answered("outside"), 5, "plaintext is served");
    assert!(
        holding(&capture.stop().expect("packets"), CANARY.as_bytes()) > 0,
        "the capture sees plaintext"
    );
    let capture = lab.mesh.capture().expect("a capture");
    assert_eq!(answered("inside"), 5);
    let packets = capture.stop().expect("packets");
    assert!(packets.len() > 10, "the requests went over the bridge");
    assert_eq!(
        holding(&packets, CANARY.as_bytes()),
        0,
        "between sidecars nothing can be read"
    );

    lab.apply(&mode("STRICT"));
    assert_eq!(answered("outside"), 0, "plaintext is refused");
    let capture = lab.mesh.capture().expect("a capture");
    assert_eq!(answered("inside"), 5, "the sidecar is served");
    assert_eq!(holding(&capture.stop().expect("packets"), CANARY.as_bytes()), 0);

    lab.apply(&mode("PERMISSIVE"));
    assert_eq!(answered("outside"), 5, "plaintext is served again");
}

/// MeshConfig as users change it: in the ConfigMap.
fn outbound(mode: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    outboundTrafficPolicy: {{mode: {mode}}}\n"
    )
}

#[test]
fn registry_only_keeps_unknown_hosts_out() {
    let web = "apiVersion: v1\nkind: Pod\nmetadata: {name: plain, namespace: default}\nspec:\n  \
               containers: [{name: web, image: httpbin, ports: [{containerPort: 80}]}]\n";
    let labs = ["services/catalog.yaml"];
    let Some(lab) = Lab::start_with("registry_only_keeps_unknown_hosts_out", &labs, web) else {
        return;
    };
    let plain = lab.mesh.pod("plain").expect("a pod").ip;
    let load = format!("load http://{plain}/ --requests 1");
    let answered = || lab.client("inside", &load)["ok"] == 1;
    assert!(answered(), "ALLOW_ANY, the default, lets it through");
    lab.apply(&outbound("REGISTRY_ONLY"));
    assert!(!answered(), "REGISTRY_ONLY does not");
    assert_eq!(lab.version_2(5, ""), 0, "what the registry knows is served");
    lab.apply(&outbound("ALLOW_ANY"));
    assert!(answered(), "ALLOW_ANY again");
}
