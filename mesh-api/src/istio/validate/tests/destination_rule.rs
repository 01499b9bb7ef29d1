use super::{NETWORKING, accepted, refused, warned};

#[test]
fn destination_rule() {
    for (policy, path, words) in [
        ("{}", "", "is empty"),
        ("{connectionPool: {}}", ".connectionPool", "is empty"),
        (
            "{connectionPool: {tcp: {maxConnections: -1}}}",
            ".connectionPool.tcp.maxConnections",
            "negative",
        ),
        (
            "{connectionPool: {tcp: {connectTimeout: 0s}}}",
            ".connectionPool.tcp.connectTimeout",
            "at least 1ms",
        ),
        (
            "{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}",
            ".connectionPool.http.http2KeepAlive.timeout",
            "missing",
        ),
        (
            "{connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}}",
            ".connectionPool.http.useClientProtocol",
            "UPGRADE",
        ),
        (
            "{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}",
            ".loadBalancer",
            "only one of simple",
        ),
        (
            "{loadBalancer: {consistentHash: {}}}",
            ".loadBalancer.consistentHash",
            "has no key",
        ),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}",
            ".loadBalancer.consistentHash",
            "only one",
        ),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}}",
            ".loadBalancer.consistentHash.maglev.tableSize",
            "prime",
        ),
        (
            "{loadBalancer: {warmup: {}}}",
            ".loadBalancer.warmup.duration",
            "missing",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 70, b: 20}}]}}}",
            ".loadBalancer.localityLbSetting.distribute[0].to",
            "add up to 90",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a/*/b, to: {a: 100}}]}}}",
            ".loadBalancer.localityLbSetting.distribute[0].from",
            "no locality",
        ),
        (
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}}",
            ".loadBalancer.localityLbSetting.failover[0]",
            "itself",
        ),
        (
            "{outlierDetection: {maxEjectionPercent: 101}}",
            ".outlierDetection.maxEjectionPercent",
            "0 to 100",
        ),
        (
            "{outlierDetection: {consecutiveLocalOriginFailures: 3}}",
            ".outlierDetection.consecutiveLocalOriginFailures",
            "splitExternalLocalOriginErrors",
        ),
        (
            "{outlierDetection: {outlierDetectionHttpErrorCodes: [99]}}",
            ".outlierDetection.outlierDetectionHttpErrorCodes[0]",
            "100 to 599",
        ),
        (
            "{tls: {mode: MUTUAL, clientCertificate: /c}}",
            ".tls.privateKey",
            "missing",
        ),
        (
            "{tls: {mode: ISTIO_MUTUAL, privateKey: /k}}",
            ".tls.privateKey",
            "mesh's own",
        ),
        (
            "{tls: {mode: SIMPLE, credentialName: c, caCertificates: /c}}",
            ".tls.caCertificates",
            "beside credentialName",
        ),
        (
            "{tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}}",
            ".tls.subjectAltNames",
            "insecureSkipVerify",
        ),
        (
            "{tunnel: {targetHost: a, targetPort: 0}}",
            ".tunnel.targetPort",
            "1 to 65535",
        ),
        (
            "{portLevelSettings: [{tls: {mode: DISABLE}}]}",
            ".portLevelSettings[0].port",
            "missing",
        ),
        (
            "{portLevelSettings: [{port: {number: 80}}, {port: {number: 80}}]}",
            ".portLevelSettings[1].port.number",
            "port 80",
        ),
        ("{retryBudget: {percent: 120}}", ".retryBudget.percent", "0 to 100"),
    ] {
        let spec = format!("{{host: a, trafficPolicy: {policy}}}");
        refused(
            NETWORKING,
            "DestinationRule",
            &[(&spec, &format!("spec.trafficPolicy{path}"), words)],
        );
    }
    refused(
        NETWORKING,
        "DestinationRule",
        &[
            ("{}", "spec.host", "missing"),
            (
                "{host: a, subsets: [{name: v1}, {name: v1}]}",
                "spec.subsets[1].name",
                "another subset",
            ),
            (
                "{host: a, subsets: [{labels: {version: v1}}]}",
                "spec.subsets[0].name",
                "missing",
            ),
            (
                "{host: a, subsets: [{name: V1}]}",
                "spec.subsets[0].name",
                "no subset name",
            ),
            (
                "{host: a, subsets: [{name: v1, labels: {'*': x}}]}",
                "spec.subsets[0].labels[\"*\"]",
                "label key",
            ),
            (
                "{host: a, workloadSelector: {matchLabels: {app: '*'}}}",
                "spec.workloadSelector.matchLabels.app",
                "label value",
            ),
        ],
    );
    warned(
        NETWORKING,
        "DestinationRule",
        &[
            (
                "{host: a, trafficPolicy: {outlierDetection: {consecutiveErrors: 5}}}",
                "spec.trafficPolicy.outlierDetection.consecutiveErrors",
                "deprecated",
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}}",
                "spec.trafficPolicy.loadBalancer.localityLbSetting",
                "outlierDetection",
            ),
        ],
    );
    accepted(
        NETWORKING,
        "DestinationRule",
        &[
            "{host: '*.local', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
            "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {tableSize: 65537}}}}}",
            "{host: a, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0s, tcpKeepalive: {probes: 3, time: 2h}}}}}",
            "{host: a, trafficPolicy: {proxyProtocol: {version: V2}, tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}}}",
        ],
    );
}
