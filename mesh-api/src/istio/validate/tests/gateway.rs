use super::{NETWORKING, accepted, refused, warned};

#[test]
fn gateway() {
    let server = |fields: &str| format!("{{selector: {{istio: g}}, servers: [{{hosts: ['*'], {fields}}}]}}");
    let https = "port: {number: 443, name: https, protocol: HTTPS}";
    for (fields, path, words) in [
        (
            "port: {number: 0, name: a, protocol: HTTP}".to_owned(),
            ".port.number",
            "1 to 65535",
        ),
        ("port: {number: 80, protocol: HTTP}".to_owned(), ".port.name", "missing"),
        (
            "port: {number: 80, name: a, protocol: SPDY}".to_owned(),
            ".port.protocol",
            "no protocol",
        ),
        (
            "port: {number: 80, name: a, protocol: HTTP}, tls: {mode: SIMPLE}".to_owned(),
            ".tls",
            "plaintext",
        ),
        (https.to_owned(), ".tls", "is missing; HTTPS needs tls"),
        (
            format!("{https}, tls: {{mode: SIMPLE}}"),
            ".tls.credentialName",
            "certificate",
        ),
        (
            format!("{https}, tls: {{mode: SIMPLE, serverCertificate: /c}}"),
            ".tls.privateKey",
            "missing",
        ),
        (
            format!("{https}, tls: {{mode: MUTUAL, serverCertificate: /c, privateKey: /k}}"),
            ".tls.caCertificates",
            "roots",
        ),
        (
            format!("{https}, tls: {{mode: SIMPLE, credentialName: a, credentialNames: [b]}}"),
            ".tls",
            "only one of",
        ),
        (
            format!("{https}, tls: {{mode: ISTIO_MUTUAL, credentialName: a}}"),
            ".tls.credentialName",
            "own certificates",
        ),
        (
            format!(
                "{https}, tls: {{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}}"
            ),
            ".tls.maxProtocolVersion",
            "older",
        ),
        (
            format!("{https}, tls: {{mode: MUTUAL, credentialName: a, verifyCertificateHash: [abc]}}"),
            ".tls.verifyCertificateHash[0]",
            "SHA-256",
        ),
        (
            format!("{https}, bind: here, tls: {{mode: PASSTHROUGH}}"),
            ".bind",
            "no address",
        ),
    ] {
        refused(
            NETWORKING,
            "Gateway",
            &[(&server(&fields), &format!("spec.servers[0]{path}"), words)],
        );
    }
    refused(
        NETWORKING,
        "Gateway",
        &[
            ("{selector: {a: b}}", "spec.servers", "at least one server"),
            (
                "{selector: {a: b}, servers: [{port: {number: 80, name: a, protocol: HTTP}}]}",
                "spec.servers[0].hosts",
                "missing",
            ),
            (
                "{selector: {a: b}, servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [A_/b]}]}",
                "spec.servers[0].hosts[0]",
                "no namespace",
            ),
            (
                "{selector: {a: b}, servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [b]}, {port: {number: 81, name: a, protocol: HTTP}, hosts: [b]}]}",
                "spec.servers[1].port.name",
                "another server",
            ),
        ],
    );
    warned(
        NETWORKING,
        "Gateway",
        &[(
            "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [b]}]}",
            "spec.selector",
            "every gateway",
        )],
    );
    for fields in [
        "port: {number: 80, name: a, protocol: HTTP}, tls: {httpsRedirect: true}".to_owned(),
        format!("{https}, tls: {{mode: PASSTHROUGH}}"),
        format!("{https}, tls: {{mode: MUTUAL, credentialName: a}}"),
        "port: {number: 3306, name: a, protocol: TCP}, tls: {mode: SIMPLE, credentialName: a}".to_owned(),
    ] {
        accepted(NETWORKING, "Gateway", &[&server(&fields)]);
    }
}
