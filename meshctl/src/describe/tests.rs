use super::*;

const MESH: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, version: v1}}
spec: {containers: [{name: web, ports: [{containerPort: 8080}]}, {name: istio-proxy, ports: [{containerPort: 15090}]}]}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, name: http, targetPort: 8080}], clusterIP: 10.96.0.1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [web.example]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside, namespace: shop}
spec: {hosts: [web.example], gateways: [front], http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

fn objects() -> Objects {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("mesh.yaml");
    std::fs::write(&file, MESH).expect("written");
    Objects::of(objects::of_files(&[file]).expect("read"), None)
}

#[test]
fn a_pod_is_described_in_istioctls_words() {
    let text = render::pod(&objects().store, "shop", "web-1").expect("a pod");
    let expected = "\
Pod: web-1.shop
   Pod Revision: default
   Pod Ports: 8080 (web), 15090 (istio-proxy)
--------------------
Service: web.shop
   Port: http 80/HTTP targets pod port 8080
DestinationRule: web.shop for \"web.shop.svc.cluster.local\"
   Matching subsets: v1
      (Non-matching subsets v2)
   No Traffic Policy
VirtualService: web.shop
   1 HTTP route(s)
--------------------
Effective PeerAuthentication:
   Workload mTLS mode: STRICT
Applied PeerAuthentication:
   strict.shop
--------------------
Exposed on Gateway shop/front for web.example
VirtualService: outside.shop
   1 HTTP route(s)
";
    assert_eq!(text, expected);
}

#[test]
fn a_service_is_described_without_a_pod() {
    let store = objects().store;
    let text = render::service(&store, "shop", "web").expect("a service");
    assert!(
        text.starts_with("Service: web.shop\n   Port: http 80/HTTP targets pod port 8080\n"),
        "{text}"
    );
    assert!(
        text.contains("   Subsets: v1,v2\n") && text.contains("Exposed on Gateway shop/front"),
        "{text}"
    );
    let error = render::service(&store, "other", "web").expect_err("no service");
    assert!(
        error.to_string().contains("no service web in namespace other"),
        "{error}"
    );
    assert!(render::pod(&store, "shop", "none").is_err());
}

#[test]
fn a_pod_without_a_proxy_is_told() {
    let describe = |labels: &str, container: &str| {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop, labels: {labels}}}\n\
             spec: {{containers: [{{name: {container}}}]}}\nstatus: {{phase: Running, podIP: 10.0.0.9}}\n"
        );
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("pod.yaml");
        std::fs::write(&file, pod).expect("written");
        let objects = Objects::of(objects::of_files(&[file]).expect("read"), None);
        render::pod(&objects.store, "shop", "p").expect("a pod")
    };
    let warning = "WARNING: p.shop is not part of the mesh";
    assert!(describe("{}", "app").contains(warning));
    assert!(!describe("{}", "istio-proxy").contains(warning));
    // A pod of a mesh without Kubernetes.
    assert!(!describe("{security.istio.io/tlsMode: istio}", "app").contains(warning));
}

#[tokio::test]
async fn what_is_no_service_or_cannot_be_known_is_refused() {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        what: What,
        #[command(flatten)]
        cluster: ClusterOptions,
    }
    for (line, part) in [
        ("service deploy/web -f .", "is no service"),
        ("pod deploy/web -f .", "write NAME.NAMESPACE"),
        ("pod web -f none/such", "no file or folder"),
    ] {
        let parsed = Line::try_parse_from(["describe"].into_iter().chain(line.split(' '))).expect("a command line");
        let error = run(&parsed.what, &parsed.cluster).await.expect_err(line);
        assert!(error.to_string().contains(part), "{line}: {error}");
    }
}
