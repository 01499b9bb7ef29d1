use std::collections::BTreeMap;

use super::*;
use crate::source::directory::Directory;
use crate::source::mesh::MeshSource;

/// Codes of the findings, each with the objects that it is said of.
fn found(text: &str, whole: bool) -> BTreeMap<&'static str, Vec<String>> {
    let mut out: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for message in messages(text, whole) {
        let Diagnostic { object, field, .. } = message.diagnostic;
        out.entry(message.code.code)
            .or_default()
            .push(format!("{object} {field}"));
    }
    out
}

fn messages(text: &str, whole: bool) -> Vec<Message> {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("mesh.yaml"), text).expect("written");
    let mut loaded = Directory::new(dir.path()).load();
    let mesh = MeshSource::new(None, None).load(&mut loaded);
    let store = Store::build(loaded.objects.iter().cloned(), mesh);
    analyze(&store, &loaded, whole)
}

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web}]}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web, version: v1}}
spec: {containers: [{name: web}, {name: istio-proxy}]}
status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, name: web}, {port: 81, name: http-more}], clusterIP: 10.96.0.1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: nobody, namespace: shop}
spec: {host: nobody}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec: {selector: {istio: none}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [web.example]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web.example, www.example], gateways: [front, lost], http: [{route: [{destination: {host: gone}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inside, namespace: shop}
spec: {hosts: [web, web.example], gateways: [front, mesh], http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: broken, namespace: shop}
spec: {hosts: [x], htp: []}
";

#[test]
fn findings_have_istios_codes() {
    let found = found(MESH, true);
    let expected = [
        (
            "IST0101",
            vec![
                "Gateway shop/front spec.selector",
                "VirtualService shop/web spec.gateways[1]",
                "VirtualService shop/web spec.http[0].route[0].destination.host",
            ],
        ),
        ("IST0102", vec!["Namespace other "]),
        ("IST0103", vec!["Pod shop/web-1 "]),
        ("IST0106", vec!["VirtualService shop/broken spec.htp"]),
        ("IST0118", vec!["Service shop/web spec.ports[0].name"]),
        ("IST0132", vec!["VirtualService shop/web spec.hosts[1]"]),
        ("IST0173", vec!["DestinationRule shop/web spec.subsets[1].labels"]),
        ("IST0174", vec!["DestinationRule shop/nobody spec.host"]),
    ];
    for (code, mut objects) in expected {
        let mut said = found.get(code).cloned().unwrap_or_default();
        said.sort();
        objects.sort_unstable();
        assert_eq!(said, objects, "{code}");
    }
}

#[test]
fn of_a_part_nothing_is_missing() {
    let found = found(MESH, false);
    for code in ["IST0102", "IST0103", "IST0173"] {
        assert!(!found.contains_key(code), "{code}: {found:?}");
    }
}

#[test]
fn a_line_is_as_istioctl_writes_it() {
    let lines: Vec<String> = messages(MESH, true).iter().map(ToString::to_string).collect();
    let first = lines.iter().find(|l| l.contains("spec.gateways[1]")).expect("a line");
    assert!(
        first.starts_with("Error [IST0101] (VirtualService shop/web "),
        "{first}"
    );
    assert!(first.contains("mesh.yaml:"), "{first}");
    let levels: Vec<&str> = lines.iter().filter_map(|l| l.split(' ').next()).collect();
    let mut sorted = levels.clone();
    sorted.sort_by_key(|l| ["Error", "Warning", "Info"].iter().position(|x| x == l));
    assert_eq!(levels, sorted, "the worst comes first");
}
