use super::{SECURITY, accepted, refused, warned};

#[test]
fn security() {
    refused(
        SECURITY,
        "PeerAuthentication",
        &[
            (
                "{portLevelMtls: {8080: {mode: STRICT}}}",
                "spec.portLevelMtls",
                "needs a selector",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {70000: {mode: STRICT}}}",
                "spec.portLevelMtls.70000",
                "1 to 65535",
            ),
            (
                "{selector: {matchLabels: {'a*': b}}}",
                "spec.selector.matchLabels[\"a*\"]",
                "label key",
            ),
        ],
    );
    accepted(
        SECURITY,
        "PeerAuthentication",
        &[
            "{mtls: {mode: STRICT}}",
            "{}",
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {8080: {mode: DISABLE}}}",
        ],
    );
    refused(
        SECURITY,
        "RequestAuthentication",
        &[
            ("{jwtRules: [{}]}", "spec.jwtRules[0].issuer", "missing"),
            (
                "{jwtRules: [{issuer: a, jwks_uri: example.com}]}",
                "spec.jwtRules[0].jwksUri",
                "no URL",
            ),
            (
                "{jwtRules: [{issuer: a, jwks: '{}'}]}",
                "spec.jwtRules[0].jwks",
                "no key set",
            ),
            (
                "{jwtRules: [{issuer: a, jwks: '{\"keys\":[]}', jwksUri: 'http://a'}]}",
                "spec.jwtRules[0]",
                "only one",
            ),
            (
                "{jwtRules: [{issuer: a, fromHeaders: [{prefix: b}]}]}",
                "spec.jwtRules[0].fromHeaders[0].name",
                "missing",
            ),
            (
                "{selector: {}, targetRefs: [{kind: Service, name: a}]}",
                "spec",
                "only one of",
            ),
            (
                "{targetRefs: [{kind: Pod, name: a}]}",
                "spec.targetRefs[0]",
                "cannot be a target",
            ),
        ],
    );
    for (rule, path, words) in [
        ("{from: [{source: {}}]}", ".from[0].source", "is empty"),
        ("{from: [{}]}", ".from[0].source", "is empty"),
        ("{to: [{operation: {}}]}", ".to[0].operation", "is empty"),
        ("{from: []}", ".from", "empty list"),
        (
            "{from: [{source: {namespaces: []}}]}",
            ".from[0].source.namespaces",
            "empty list",
        ),
        (
            "{from: [{source: {ipBlocks: [1.2.3]}}]}",
            ".from[0].source.ipBlocks[0]",
            "no address",
        ),
        (
            "{from: [{source: {namespaces: [a], serviceAccounts: [b]}}]}",
            ".from[0].source",
            "beside principals",
        ),
        (
            "{from: [{source: {serviceAccounts: [a/b/c]}}]}",
            ".from[0].source.serviceAccounts[0]",
            "namespace/account",
        ),
        (
            "{from: [{source: {principals: ['']}}]}",
            ".from[0].source.principals[0]",
            "not be empty",
        ),
        (
            "{to: [{operation: {ports: ['0']}}]}",
            ".to[0].operation.ports[0]",
            "no port",
        ),
        (
            "{to: [{operation: {paths: ['/a{*}']}}]}",
            ".to[0].operation.paths[0]",
            "template",
        ),
        (
            "{to: [{operation: {paths: ['/{**}/{*}']}}]}",
            ".to[0].operation.paths[0]",
            "template",
        ),
        (
            "{when: [{key: source.port, values: ['1']}]}",
            ".when[0].key",
            "no attribute",
        ),
        ("{when: [{key: source.ip}]}", ".when[0]", "at least one of"),
        (
            "{when: [{key: source.ip, values: [a]}]}",
            ".when[0].values[0]",
            "no address",
        ),
        (
            "{when: [{key: 'request.headers[a', values: [a]}]}",
            ".when[0].key",
            "no attribute",
        ),
    ] {
        let spec = format!("{{rules: [{rule}]}}");
        refused(
            SECURITY,
            "AuthorizationPolicy",
            &[(&spec, &format!("spec.rules[0]{path}"), words)],
        );
    }
    refused(
        SECURITY,
        "AuthorizationPolicy",
        &[
            ("{action: CUSTOM, rules: [{}]}", "spec.provider", "missing"),
            (
                "{provider: {name: a}, rules: [{}]}",
                "spec.provider",
                "only for action CUSTOM",
            ),
        ],
    );
    warned(
        SECURITY,
        "AuthorizationPolicy",
        &[
            ("{action: DENY}", "spec.rules", "never happens"),
            (
                "{rules: [{from: [{source: {principals: ['spiffe://td/ns/a/sa/b']}}]}]}",
                "spec.rules[0].from[0].source.principals[0]",
                "td/ns/a/sa/b",
            ),
        ],
    );
    accepted(
        SECURITY,
        "AuthorizationPolicy",
        &[
            "{}",
            "{rules: [{}]}",
            "{action: DENY, rules: [{from: [{source: {notNamespaces: [a]}}], to: [{operation: {methods: [GET], paths: ['/a/{*}/{**}', /b*]}}], when: [{key: 'request.auth.claims[a][b]', values: [c]}]}]}",
        ],
    );
}

#[test]
fn telemetry_and_proxy_config() {
    refused(
        "telemetry.istio.io/v1",
        "Telemetry",
        &[
            (
                "{tracing: [{randomSamplingPercentage: 101}]}",
                "spec.tracing[0].randomSamplingPercentage",
                "0 to 100",
            ),
            (
                "{tracing: [{providers: [{name: a}, {name: b}]}]}",
                "spec.tracing[0].providers",
                "only one",
            ),
            (
                "{tracing: [{customTags: {a: {}}}]}",
                "spec.tracing[0].customTags.a",
                "exactly one",
            ),
            (
                "{tracing: [{customTags: {a: {header: {}}}}]}",
                "spec.tracing[0].customTags.a.header.name",
                "missing",
            ),
            (
                "{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}",
                "spec.metrics[0].overrides[0].tagOverrides.a.value",
                "UPSERT",
            ),
            (
                "{metrics: [{providers: [{}]}]}",
                "spec.metrics[0].providers[0].name",
                "missing",
            ),
            (
                "{accessLogging: [{filter: {}}]}",
                "spec.accessLogging[0].filter.expression",
                "missing",
            ),
        ],
    );
    refused(
        "networking.istio.io/v1beta1",
        "ProxyConfig",
        &[
            ("{concurrency: -1}", "spec.concurrency", "negative"),
            ("{image: {imageType: tiny}}", "spec.image.imageType", "distroless"),
        ],
    );
}
