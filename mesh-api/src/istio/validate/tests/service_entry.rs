use super::{NETWORKING, accepted, refused, warned};

#[test]
fn service_entry_and_workloads() {
    refused(
        NETWORKING,
        "ServiceEntry",
        &[
            (
                "{ports: [{number: 80, name: a, protocol: HTTP}]}",
                "spec.hosts",
                "at least one host",
            ),
            (
                "{hosts: ['*'], ports: [{number: 80, name: a, protocol: HTTP}]}",
                "spec.hosts[0]",
                "too wide",
            ),
            (
                "{hosts: ['*.a'], resolution: DNS, ports: [{number: 80, name: a, protocol: HTTP}]}",
                "spec.hosts[0]",
                "cannot be looked up",
            ),
            (
                "{hosts: [a], ports: [{number: 80, name: a, protocol: HTTP}, {number: 80, name: b, protocol: HTTP}]}",
                "spec.ports[1].number",
                "twice",
            ),
            (
                "{hosts: [a], ports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: a, protocol: HTTP}]}",
                "spec.ports[1].name",
                "another port",
            ),
            (
                "{hosts: [a], ports: [{number: 80, name: a, protocol: HTP}]}",
                "spec.ports[0].protocol",
                "no protocol",
            ),
            (
                "{hosts: [a], resolution: DNS, addresses: [10.0.0.0/8], ports: [{number: 80, name: a, protocol: HTTP}]}",
                "spec.addresses[0]",
                "range",
            ),
            (
                "{hosts: [a], ports: [{number: 80, name: a, protocol: HTTP}], endpoints: [{address: 1.1.1.1}]}",
                "spec.endpoints",
                "NONE",
            ),
            (
                "{hosts: [a], resolution: STATIC, ports: [{number: 80, name: a, protocol: HTTP}], endpoints: [{address: b.example}]}",
                "spec.endpoints[0].address",
                "resolution DNS",
            ),
            (
                "{hosts: [a], resolution: STATIC, ports: [{number: 80, name: a, protocol: HTTP}], endpoints: [{address: 1.1.1.1, ports: {b: 1}}]}",
                "spec.endpoints[0].ports.b",
                "no port \"b\"",
            ),
            (
                "{hosts: [a], resolution: STATIC, ports: [{number: 80, name: a, protocol: HTTP}], endpoints: [{}]}",
                "spec.endpoints[0].address",
                "missing",
            ),
            (
                "{hosts: [a], resolution: STATIC, workloadSelector: {labels: {a: b}}, ports: [{number: 80, name: a, protocol: HTTP}], endpoints: [{address: 1.1.1.1}]}",
                "spec",
                "only one of workloadSelector",
            ),
            (
                "{hosts: [a], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: a, protocol: HTTP}], endpoints: [{address: b}, {address: c}]}",
                "spec.endpoints",
                "at most one",
            ),
            (
                "{hosts: [a.b], resolution: DYNAMIC_DNS, ports: [{number: 80, name: a, protocol: HTTP}]}",
                "spec.hosts[0]",
                "wildcards",
            ),
        ],
    );
    warned(
        NETWORKING,
        "ServiceEntry",
        &[
            (
                "{hosts: [a], resolution: STATIC, ports: [{number: 80, name: a, protocol: HTTP}]}",
                "spec.endpoints",
                "is empty",
            ),
            (
                "{hosts: [a], ports: [{number: 80, name: a, protocol: TCP}]}",
                "spec.addresses",
                "takes all traffic",
            ),
        ],
    );
    accepted(
        NETWORKING,
        "ServiceEntry",
        &[
            "{hosts: [a.example], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}",
            "{hosts: [a], resolution: STATIC, addresses: [10.0.0.0/8], ports: [{number: 80, name: a}], endpoints: [{address: 'unix:///run/a.sock'}], exportTo: ['~']}",
        ],
    );
    refused(
        NETWORKING,
        "WorkloadEntry",
        &[
            ("{}", "spec.address", "missing"),
            ("{address: 'unix://run'}", "spec.address", "absolute"),
            ("{address: 'unix:///run/'}", "spec.address", "folder"),
            ("{address: 'unix:///run/a', ports: {a: 1}}", "spec.ports", "no ports"),
            ("{address: 1.1.1.1, ports: {a: 0}}", "spec.ports.a", "1 to 65535"),
        ],
    );
    refused(
        NETWORKING,
        "WorkloadGroup",
        &[
            ("{template: {}, probe: {}}", "spec.probe", "exactly one"),
            (
                "{template: {}, probe: {httpGet: {port: 80, scheme: FTP}}}",
                "spec.probe.httpGet.scheme",
                "HTTPS",
            ),
            (
                "{template: {}, probe: {tcpSocket: {}}}",
                "spec.probe.tcpSocket.port",
                "1 to 65535",
            ),
        ],
    );
}
