use super::{NETWORKING, accepted, refused, warned};

/// Wraps an HTTP rule that goes to one destination.
fn rule(fields: &str) -> String {
    format!("{{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}], {fields}}}]}}")
}

#[test]
fn virtual_service_as_a_whole() {
    refused(
        NETWORKING,
        "VirtualService",
        &[
            ("{hosts: [a]}", "spec", "no rule"),
            (
                "{hosts: ['*'], http: [{redirect: {uri: /}}]}",
                "spec.hosts[0]",
                "not allowed for sidecars",
            ),
            (
                "{hosts: [a, b, A], http: [{redirect: {uri: /}}]}",
                "spec.hosts[2]",
                "twice",
            ),
            (
                "{hosts: [a_b], http: [{redirect: {uri: /}}]}",
                "spec.hosts[0]",
                "no host name",
            ),
            (
                "{hosts: [a], gateways: [A/b], http: [{redirect: {uri: /}}]}",
                "spec.gateways[0]",
                "namespace/name",
            ),
            (
                "{gateways: [g], http: [{redirect: {uri: /}}]}",
                "spec.hosts",
                "at least one host",
            ),
            (
                "{hosts: [a], exportTo: [., '*'], http: [{redirect: {uri: /}}]}",
                "spec.exportTo[1]",
                "stand alone",
            ),
            (
                "{http: [{delegate: {name: other}}]}",
                "spec.http[0].delegate",
                "cannot delegate again",
            ),
            (
                "{hosts: [a], tls: [{match: [{sniHosts: [b]}], route: [{destination: {host: a}}]}]}",
                "spec.tls[0].match[0].sniHosts[0]",
                "not within the hosts",
            ),
            (
                "{hosts: [a], tls: [{route: [{destination: {host: a}}]}]}",
                "spec.tls[0].match",
                "sniHosts",
            ),
            (
                "{hosts: [a], tcp: [{match: [{port: 1}]}]}",
                "spec.tcp[0].route",
                "at least one destination",
            ),
            (
                "{hosts: [a], tcp: [{match: [{port: 70000}], route: [{destination: {host: a}}]}]}",
                "spec.tcp[0].match[0].port",
                "1 to 65535",
            ),
            (
                "{hosts: [a], tcp: [{match: [{destinationSubnets: [10.0/8]}], route: [{destination: {host: a}}]}]}",
                "spec.tcp[0].match[0].destinationSubnets[0]",
                "10.0.0.0/8",
            ),
        ],
    );
    accepted(
        NETWORKING,
        "VirtualService",
        &[
            "{hosts: ['*'], gateways: [ns/g], http: [{redirect: {uri: /}}]}",
            "{http: [{directResponse: {status: 418, body: {string: short}}}]}",
            "{hosts: ['*.b'], tls: [{match: [{sniHosts: [a.b]}], route: [{destination: {host: a}}]}]}",
            "{hosts: [a, 10.0.0.1], http: [{delegate: {name: other, namespace: ns}}]}",
        ],
    );
}

#[test]
fn http_rules() {
    for (fields, path, words) in [
        ("redirect: {uri: /}", "", "only one of route, redirect"),
        (
            "mirror: {host: b}, mirrors: [{destination: {host: c}}]",
            "",
            "only one of mirror and mirrors",
        ),
        ("timeout: 0s", ".timeout", "at least 1ms"),
        ("retries: {attempts: -1}", ".retries.attempts", "negative"),
        (
            "retries: {attempts: 0, retryOn: 5xx}",
            ".retries.attempts",
            "turns retries off",
        ),
        (
            "retries: {attempts: 1, retryOn: 'reset,resset'}",
            ".retries.retryOn",
            "\"resset\"",
        ),
        (
            "retries: {attempts: 1, retryOn: '503,700'}",
            ".retries.retryOn",
            "\"700\"",
        ),
        (
            "match: [{uri: {regex: '('}}]",
            ".match[0].uri.regex",
            "no regular expression",
        ),
        (
            "match: [{headers: {'a b': {}}}]",
            ".match[0].headers[\"a b\"]",
            "no header name",
        ),
        ("match: [{port: 65536}]", ".match[0].port", "1 to 65535"),
        (
            "match: [{sourceLabels: {app: 'a b'}}]",
            ".match[0].sourceLabels.app",
            "no label value",
        ),
        ("rewrite: {}", ".rewrite", "says nothing"),
        (
            "rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}",
            ".rewrite",
            "only one of uri",
        ),
        (
            "rewrite: {uriRegexRewrite: {match: '[', rewrite: b}}",
            ".rewrite.uriRegexRewrite.match",
            "regular expression",
        ),
        ("fault: {}", ".fault", "says nothing"),
        (
            "fault: {abort: {percentage: {value: 50}}}",
            ".fault.abort",
            "exactly one of httpStatus",
        ),
        (
            "fault: {abort: {httpStatus: 199, percentage: {value: 50}}}",
            ".fault.abort.httpStatus",
            "200 to 599",
        ),
        (
            "fault: {abort: {grpcStatus: NOPE, percentage: {value: 50}}}",
            ".fault.abort.grpcStatus",
            "UNAVAILABLE",
        ),
        (
            "fault: {abort: {httpStatus: 500, percentage: {value: 101}}}",
            ".fault.abort.percentage.value",
            "101",
        ),
        (
            "fault: {abort: {httpStatus: 500, percent: 101}}",
            ".fault.abort.percent",
            "101",
        ),
        (
            "fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}",
            ".fault.abort.percentage.value",
            "0.0001",
        ),
        (
            "fault: {delay: {percentage: {value: 5}}}",
            ".fault.delay.fixedDelay",
            "missing",
        ),
        (
            "fault: {delay: {exponentialDelay: 1s, percent: 5}}",
            ".fault.delay.exponentialDelay",
            "not supported",
        ),
        (
            "fault: {delay: {fixedDelay: 1s, percent: 101}}",
            ".fault.delay.percent",
            "0 to 100",
        ),
        ("mirror: {host: ''}", ".mirror.host", "missing"),
        ("mirror: {host: b}, mirror_percent: 101", ".mirrorPercent", "0 to 100"),
        (
            "corsPolicy: {allowMethods: [FETCH]}",
            ".corsPolicy.allowMethods[0]",
            "no method",
        ),
        (
            "corsPolicy: {maxAge: 1.5s}",
            ".corsPolicy.maxAge",
            "whole number of seconds",
        ),
        (
            "headers: {request: {set: {'a:b': c}}}",
            ".headers.request.set[\"a:b\"]",
            "no header name",
        ),
        (
            "headers: {request: {remove: [x-a, Host]}}",
            ".headers.request.remove[1]",
            "needs its host",
        ),
        (
            "headers: {response: {remove: ['']}}",
            ".headers.response.remove[0]",
            "no header name",
        ),
    ] {
        refused(
            NETWORKING,
            "VirtualService",
            &[(&rule(fields), &format!("spec.http[0]{path}"), words)],
        );
    }
    refused(
        NETWORKING,
        "VirtualService",
        &[
            ("{hosts: [a], http: [{name: one}]}", "spec.http[0]", "where requests go"),
            (
                "{hosts: [a], http: [{redirect: {uri: /, redirectCode: 200}}]}",
                "spec.http[0].redirect.redirectCode",
                "200",
            ),
            (
                "{hosts: [a], http: [{redirect: {port: 1, derivePort: FROM_REQUEST_PORT}}]}",
                "spec.http[0].redirect",
                "only one",
            ),
            (
                "{hosts: [a], http: [{redirect: {}}]}",
                "spec.http[0].redirect",
                "says nothing",
            ),
            (
                "{hosts: [a], http: [{redirect: {scheme: ftp}}]}",
                "spec.http[0].redirect.scheme",
                "http or https",
            ),
            (
                "{hosts: [a], http: [{directResponse: {status: 600}}]}",
                "spec.http[0].directResponse.status",
                "200 to 599",
            ),
            (
                "{hosts: [a], http: [{directResponse: {status: 200, body: {bytes: '*'}}}]}",
                "spec.http[0].directResponse.body.bytes",
                "base64",
            ),
            (
                "{hosts: [a], http: [{redirect: {uri: /}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}}]}",
                "spec.http[0].fault",
                "beside redirect",
            ),
            (
                "{hosts: [a], http: [{route: [{destination: {host: '*'}}]}]}",
                "spec.http[0].route[0].destination.host",
                "no destination",
            ),
            (
                "{hosts: [a], http: [{route: [{weight: 1}]}]}",
                "spec.http[0].route[0].destination.host",
                "missing",
            ),
            (
                "{hosts: [a], http: [{route: [{destination: {host: a, subset: V_1}}]}]}",
                "spec.http[0].route[0].destination.subset",
                "subset name",
            ),
            (
                "{hosts: [a], http: [{route: [{destination: {host: a}, weight: -5}, {destination: {host: b}, weight: 5}]}]}",
                "spec.http[0].route[0].weight",
                "-5 is negative",
            ),
            (
                "{hosts: [a], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
                "spec.http[0].route",
                "all weights are 0",
            ),
        ],
    );
    warned(
        NETWORKING,
        "VirtualService",
        &[
            (
                &rule("fault: {delay: {fixedDelay: 1s}}"),
                "spec.http[0].fault.delay",
                "never fires",
            ),
            (
                &rule("fault: {abort: {httpStatus: 500}}"),
                "spec.http[0].fault.abort",
                "never fires",
            ),
            (
                &rule("match: [{headers: {X-User: {}}}]"),
                "spec.http[0].match[0].headers.X-User",
                "lower case",
            ),
            (
                "{hosts: [a], http: [{redirect: {uri: /}}, {match: [{uri: {prefix: /a}}], redirect: {uri: /b}}]}",
                "spec.http[1]",
                "never used",
            ),
        ],
    );
    for fields in [
        "match: [{uri: {prefix: /a}, headers: {x-user: {exact: b}, x-any: {}}, queryParams: {q: {regex: 'a+'}}}]",
        "retries: {attempts: 3, perTryTimeout: 0.5s, retryOn: '5xx, 429,reset', backoff: 25ms}",
        "fault: {delay: {fixedDelay: 2s, percent: 10}}",
        "fault: {delay: {fixedDelay: 3s, percent: 50}, abort: {httpStatus: 500, percent: 20}}",
        "mirror: {host: b, subset: v2, port: {number: 80}}, mirrorPercentage: {value: 0.5}",
        "corsPolicy: {allowOrigins: [{regex: '.*'}], allowMethods: [GET], maxAge: 24h, allowCredentials: true}",
        "headers: {request: {set: {':authority': c}}}",
    ] {
        accepted(NETWORKING, "VirtualService", &[&rule(fields)]);
    }
}
