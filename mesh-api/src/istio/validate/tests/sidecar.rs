use super::{NETWORKING, accepted, document, read, refused, warned};

#[test]
fn sidecar() {
    refused(
        NETWORKING,
        "Sidecar",
        &[
            ("{workloadSelector: {labels: {a: b}}}", "spec", "says nothing"),
            (
                "{egress: [{hosts: [./*]}, {hosts: ['*/*']}]}",
                "spec.egress[0]",
                "must be the last",
            ),
            ("{egress: [{}]}", "spec.egress[0].hosts", "missing"),
            (
                "{egress: [{hosts: [a.b]}]}",
                "spec.egress[0].hosts[0]",
                "namespace/dnsName",
            ),
            ("{egress: [{hosts: ['~/a']}]}", "spec.egress[0].hosts[0]", "~/*"),
            (
                "{egress: [{hosts: [./*], bind: 127.0.0.1}]}",
                "spec.egress[0].bind",
                "needs a port",
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: 'example.com:80'}]}",
                "spec.ingress[0].defaultEndpoint",
                "no local endpoint",
            ),
            ("{ingress: [{}]}", "spec.ingress[0].port.number", "missing"),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP, name: a}}, {port: {number: 80, protocol: HTTP, name: b}}]}",
                "spec.ingress[1].port.number",
                "another listener",
            ),
            (
                "{outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a}}}",
                "spec.outboundTrafficPolicy.egressProxy",
                "ALLOW_ANY",
            ),
        ],
    );
    warned(
        NETWORKING,
        "Sidecar",
        &[("{egress: [{hosts: [./a, ./a]}]}", "spec.egress[0].hosts[1]", "twice")],
    );
    accepted(
        NETWORKING,
        "Sidecar",
        &[
            "{egress: [{port: {number: 9080, protocol: HTTP, name: e}, hosts: [prod/*]}, {hosts: ['~/*']}]}",
            "{ingress: [{port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: 'unix:///run/a.sock'}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
        ],
    );
}

#[test]
fn envoy_filter() {
    let api = "networking.istio.io/v1alpha3";
    for (patch, path, words) in [
        ("{patch: {operation: MERGE, value: {}}}", ".applyTo", "missing"),
        ("{applyTo: CLUSTER}", ".patch", "missing"),
        ("{applyTo: CLUSTER, patch: {value: {}}}", ".patch.operation", "missing"),
        (
            "{applyTo: CLUSTER, patch: {operation: MERGE}}",
            ".patch.value",
            "missing",
        ),
        (
            "{applyTo: CLUSTER, patch: {operation: REPLACE, value: {}}}",
            ".patch.operation",
            "REPLACE",
        ),
        (
            "{applyTo: CLUSTER, match: {listener: {}}, patch: {operation: MERGE, value: {}}}",
            ".match.listener",
            "write cluster",
        ),
        (
            "{applyTo: CLUSTER, match: {listener: {}, cluster: {}}, patch: {operation: MERGE, value: {}}}",
            ".match",
            "only one",
        ),
        (
            "{applyTo: CLUSTER, match: {proxy: {proxyVersion: '('}}, patch: {operation: MERGE, value: {}}}",
            ".match.proxy.proxyVersion",
            "regular expression",
        ),
        (
            "{applyTo: LISTENER, match: {waypoint: {}}, patch: {operation: REMOVE}}",
            ".match.waypoint",
            "choose",
        ),
    ] {
        let errors = read(&document(api, "EnvoyFilter", &format!("{{configPatches: [{patch}]}}"))).expect_err(patch);
        assert_eq!(
            errors[0].path,
            format!("spec.configPatches[0]{path}"),
            "{patch}: {errors:?}"
        );
        assert!(errors[0].message.contains(words), "{patch}: {errors:?}");
    }
    refused(
        api,
        "EnvoyFilter",
        &[(
            "{workloadSelector: {labels: {a: b}}, targetRefs: [{kind: Service, name: a}], configPatches: [{applyTo: CLUSTER, patch: {operation: REMOVE}}]}",
            "spec",
            "only one of",
        )],
    );
}
