use super::{AnyObject, FieldError, Kind, StringMatch, parse};

fn read(yaml: &str) -> Result<AnyObject, Vec<FieldError>> {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    parse(&text("apiVersion"), &text("kind"), value)
}

#[test]
fn errors_of_shape_name_field_and_remedy() {
    let vs = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n";
    for (spec, path, words) in [
        ("spec: {hosts: a}", "spec.hosts", "must be a list, not string \"a\""),
        ("spec: {htp: []}", "spec.htp", "did you mean \"http\"?"),
        (
            "spec: {completely: 1}",
            "spec.completely",
            "known are hosts, gateways, http",
        ),
        ("spec: {hosts: [1]}", "spec.hosts[0]", "put it in quotes"),
        ("spec: {hosts:}", "spec.hosts", "leave the field out"),
        (
            "spec: {http: [{route: [{destination: {host: a, port: {number: -1}}}]}]}",
            "spec.http[0].route[0].destination.port.number",
            "from 0 to 4294967295, not integer -1",
        ),
        (
            "spec: {http: [{route: [{weight: heavy}]}]}",
            "spec.http[0].route[0].weight",
            "must be a whole number",
        ),
        ("spec: {http: [{timeout: 5}]}", "spec.http[0].timeout", "such as 500ms"),
        (
            "spec: {http: [{timeout: 5 s}]}",
            "spec.http[0].timeout",
            "\"5 s\" is not a duration",
        ),
        (
            "spec: {http: [{match: [{uri: {exact: a, prefix: b}}]}]}",
            "spec.http[0].match[0].uri",
            "only one of exact",
        ),
        (
            "spec: {http: [{match: [{uri: {exakt: a}}]}]}",
            "spec.http[0].match[0].uri.exakt",
            "did you mean \"exact\"?",
        ),
        (
            "spec: {http: [{match: [{uri: /a}]}]}",
            "spec.http[0].match[0].uri",
            "must be",
        ),
        (
            "spec: {http: [{redirect: {derivePort: FROM_REQUEST}}]}",
            "spec.http[0].redirect.derivePort",
            "FROM_REQUEST_PORT",
        ),
        ("sepc: {}", "sepc", "did you mean \"spec\"?"),
    ] {
        let errors = read(&format!("{vs}{spec}")).expect_err(spec);
        let [error] = errors.as_slice() else {
            panic!("{spec}: {errors:?}")
        };
        assert_eq!(error.path, path, "{spec}: {error}");
        assert!(error.message.contains(words), "{spec}: {error}");
    }
}

#[test]
fn every_wrong_field_is_reported_at_once() {
    let errors = read(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x, labls: {}}
spec:
  host: [a]
  http:
  - timeout: 5
    route: [{weight: x}, {weight: y, destination: {hst: a}}]
",
    )
    .unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "metadata.labls",
            "spec.host",
            "spec.http[0].timeout",
            "spec.http[0].route[0].weight",
            "spec.http[0].route[1].weight",
            "spec.http[0].route[1].destination.hst",
        ]
    );
}

#[test]
fn errors_of_the_envelope() {
    for (yaml, path, words) in [
        (
            "{apiVersion: v1, kind: Sevice, metadata: {name: x}}",
            "kind",
            "not read by the mesh; known kinds: networking.istio.io (VirtualService",
        ),
        (
            "{apiVersion: networking.istio.io/v2, kind: Gateway, metadata: {name: x}}",
            "apiVersion",
            "networking.istio.io/v1, networking.istio.io/v1beta1",
        ),
        (
            "{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: x}}",
            "kind",
            "not supported yet",
        ),
        (
            "{apiVersion: security.istio.io/v1, kind: PeerAuthentication}",
            "metadata.name",
            "needs a name",
        ),
        (
            "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: A_b}}",
            "metadata.name",
            "lower-case",
        ),
        (
            "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: a, lables: {a: b}}}",
            "metadata.lables",
            "\"labels\"",
        ),
        (
            "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: a, labels: {a.b/c: 1}}}",
            "metadata.labels[\"a.b/c\"]",
            "quotes",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: http}]}}",
            "spec.ports[0].port",
            "whole number",
        ),
    ] {
        let errors = read(yaml).expect_err(yaml);
        let [error] = errors.as_slice() else {
            panic!("{yaml}: {errors:?}")
        };
        assert_eq!(error.path, path, "{yaml}: {error}");
        assert!(error.message.contains(words), "{yaml}: {error}");
    }
}

#[test]
fn every_version_is_read_and_every_kind_listed_once() {
    for kind in Kind::all().filter(|k| k.info().supported) {
        let info = kind.info();
        for version in info.versions {
            assert_eq!(Kind::resolve(&info.api_version(version), info.kind), Ok(kind));
        }
        assert!(info.versions.contains(&info.storage), "{kind}");
    }
    assert_eq!(Kind::Telemetry.api_version(), "telemetry.istio.io/v1alpha1");
    assert_eq!(Kind::EndpointSlice.api_version(), "discovery.k8s.io/v1");
    assert_eq!(Kind::Pod.api_version(), "v1");
}

#[test]
fn unknown_fields_of_kubernetes_objects_are_warnings() {
    let object = read(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selektor: {app: a}, clusterIP: None, ports: [{port: 80, targetPort: http, nmae: x}]}}",
    )
    .unwrap();
    let paths: Vec<String> = object.warnings().into_iter().map(|w| w.path).collect();
    assert_eq!(paths, ["spec.selektor", "spec.ports[0].nmae"]);
}

#[test]
fn names_and_namespaces() {
    let mut object =
        read("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {}, template: {}}}")
            .unwrap();
    assert_eq!(
        (object.kind(), object.name(), object.namespace()),
        (Kind::Deployment, "a", "")
    );
    object.set_namespace("default");
    assert_eq!(object.namespace(), "default");
    let mut namespace = read("{apiVersion: v1, kind: Namespace, metadata: {name: a}}").unwrap();
    namespace.set_namespace("default");
    assert_eq!(namespace.namespace(), "");
}

#[test]
fn what_is_written_is_read_again() {
    let yaml = "
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: x, namespace: ns, creationTimestamp: '2026-01-02T03:04:05Z', generation: 3}
spec:
  hosts: [a]
  http:
  - match:
    - uri: {prefix: /a}
      headers: {x-a: {exact: ''}, x-b: {}}
      ignoreUriCase: true
    route:
    - destination: {host: a, subset: v1, port: {number: 80}}
      weight: 90
    timeout: 0.5s
    mirrorPercent: 0
    retries: {attempts: 0}
";
    let AnyObject::VirtualService(object) = read(yaml).unwrap() else {
        panic!()
    };
    let matched = &object.spec.http[0].r#match[0];
    assert_eq!(matched.headers["x-b"], StringMatch::Present);
    assert_eq!(matched.headers["x-a"], StringMatch::Exact(String::new()));
    assert_eq!(object.meta.generation, Some(3));
    let written = serde_json::to_value(&object.spec).unwrap();
    assert_eq!(
        written,
        serde_json::json!({"hosts": ["a"], "http": [{
            "match": [{"uri": {"prefix": "/a"}, "headers": {"x-a": {"exact": ""}, "x-b": {}}, "ignoreUriCase": true}],
            "route": [{"destination": {"host": "a", "subset": "v1", "port": {"number": 80}}, "weight": 90}],
            "timeout": "0.5s", "retries": {}, "mirrorPercent": 0,
        }]})
    );
    assert_eq!(
        super::deserialize::<super::VirtualService>(written).unwrap(),
        object.spec
    );
}
