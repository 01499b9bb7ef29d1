//! Rules of DestinationRule.

use super::{common, load_balancer};
use crate::istio::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy, HttpSettings,
    OutlierDetection, TcpSettings, TrafficPolicy, TunnelSettings,
    error::{At, Findings},
    syntax,
};

pub(super) fn check(spec: &DestinationRule, at: &At<'_>, f: &mut Findings) {
    if spec.host.is_empty() {
        f.error(&at.field("host"), "is missing; write the name of a service");
    } else {
        common::wildcard_host(&at.field("host"), &spec.host, f);
    }
    common::export_to(&at.field("exportTo"), &spec.export_to, false, f);
    common::workload_selector(&at.field("workloadSelector"), spec.workload_selector.as_ref(), f);
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(&at.field("trafficPolicy"), policy, f);
    }
    let subsets = at.field("subsets");
    for (i, subset) in spec.subsets.iter().enumerate() {
        let at = subsets.index(i);
        let name = at.field("name");
        if subset.name.is_empty() {
            f.error(&name, "is missing; write the name by which routes call the subset");
        } else if !syntax::is_dns1123(&subset.name, false) {
            f.error(
                &name,
                format!(
                    "{:?} is no subset name; write lower-case letters, digits and '-'",
                    subset.name
                ),
            );
        } else if spec.subsets[..i].iter().any(|other| other.name == subset.name) {
            f.error(
                &name,
                format!("there is another subset {:?}; give each its own name", subset.name),
            );
        }
        common::labels(&at.field("labels"), &subset.labels, f);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(&at.field("trafficPolicy"), policy, f);
        }
    }
}

fn traffic_policy(at: &At<'_>, policy: &TrafficPolicy, f: &mut Findings) {
    if *policy == TrafficPolicy::default() {
        f.error(at, "is empty; write at least one policy, or leave it out");
    }
    let TrafficPolicy {
        load_balancer: lb,
        connection_pool: pool,
        outlier_detection: outlier,
        tls,
        port_level_settings,
        tunnel: tunnelled,
        proxy_protocol: _,
        retry_budget,
    } = policy;
    if let Some(value) = lb {
        load_balancer::check(&at.field("loadBalancer"), value, outlier.is_some(), f);
    }
    if let Some(value) = pool {
        connection_pool(&at.field("connectionPool"), value, f);
    }
    if let Some(value) = outlier {
        outlier_detection(&at.field("outlierDetection"), value, f);
    }
    if let Some(value) = tls {
        client_tls(&at.field("tls"), value, f);
    }
    if let Some(value) = tunnelled {
        tunnel(&at.field("tunnel"), value, f);
    }
    if let Some(value) = retry_budget
        && value.percent.is_some_and(|p| !(0.0..=100.0).contains(&p))
    {
        f.error(&at.field("retryBudget").field("percent"), "must be from 0 to 100");
    }
    for (i, settings) in port_level_settings.iter().enumerate() {
        let at = at.field("portLevelSettings");
        let at = at.index(i);
        match &settings.port {
            None => f.error(&at.field("port"), "is missing; write port: {number: 8080}"),
            Some(port) => {
                common::port(&at.field("port").field("number"), port.number, f);
                if port_level_settings[..i]
                    .iter()
                    .any(|other| other.port.as_ref() == Some(port))
                {
                    f.error(
                        &at.field("port").field("number"),
                        format!("there are other settings for port {}; put them together", port.number),
                    );
                }
            }
        }
        if let Some(value) = &settings.load_balancer {
            load_balancer::check(
                &at.field("loadBalancer"),
                value,
                settings.outlier_detection.is_some(),
                f,
            );
        }
        if let Some(value) = &settings.connection_pool {
            connection_pool(&at.field("connectionPool"), value, f);
        }
        if let Some(value) = &settings.outlier_detection {
            outlier_detection(&at.field("outlierDetection"), value, f);
        }
        if let Some(value) = &settings.tls {
            client_tls(&at.field("tls"), value, f);
        }
    }
}

pub(super) fn connection_pool(at: &At<'_>, pool: &ConnectionPoolSettings, f: &mut Findings) {
    if pool.tcp.is_none() && pool.http.is_none() {
        f.error(at, "is empty; write tcp or http, or leave it out");
    }
    if let Some(value) = &pool.tcp {
        tcp(&at.field("tcp"), value, f);
    }
    if let Some(value) = &pool.http {
        http(&at.field("http"), value, f);
    }
}

fn tcp(at: &At<'_>, value: &TcpSettings, f: &mut Findings) {
    common::not_negative(&at.field("maxConnections"), value.max_connections, f);
    common::duration(&at.field("connectTimeout"), value.connect_timeout, f);
    common::duration(&at.field("maxConnectionDuration"), value.max_connection_duration, f);
    common::duration_or_zero(&at.field("idleTimeout"), value.idle_timeout, f);
    if let Some(keepalive) = &value.tcp_keepalive {
        let at = at.field("tcpKeepalive");
        common::duration(&at.field("time"), keepalive.time, f);
        common::duration(&at.field("interval"), keepalive.interval, f);
    }
}

fn http(at: &At<'_>, value: &HttpSettings, f: &mut Findings) {
    for (name, number) in [
        ("http1MaxPendingRequests", value.http1_max_pending_requests),
        ("http2MaxRequests", value.http2_max_requests),
        ("maxRequestsPerConnection", value.max_requests_per_connection),
        ("maxRetries", value.max_retries),
        ("maxConcurrentStreams", value.max_concurrent_streams),
    ] {
        common::not_negative(&at.field(name), number, f);
    }
    common::duration(&at.field("idleTimeout"), value.idle_timeout, f);
    if value.use_client_protocol && value.h2_upgrade_policy == H2UpgradePolicy::Upgrade {
        f.error(
            &at.field("useClientProtocol"),
            "cannot be true beside h2UpgradePolicy: UPGRADE; one keeps the client's protocol, the other changes it",
        );
    }
    if let Some(keepalive) = &value.http2_keepalive {
        let at = at.field("http2KeepAlive");
        for (name, value) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
            if value.is_none() {
                f.error(&at.field(name), "is missing; both interval and timeout are needed");
            }
            common::duration(&at.field(name), value, f);
        }
    }
}

fn outlier_detection(at: &At<'_>, value: &OutlierDetection, f: &mut Findings) {
    if value.consecutive_errors != 0 {
        f.warning(
            &at.field("consecutiveErrors"),
            "is deprecated and has no effect; write consecutive5xxErrors or consecutiveGatewayErrors",
        );
    }
    if !value.split_external_local_origin_errors && value.consecutive_local_origin_failures.is_some_and(|n| n > 0) {
        f.error(
            &at.field("consecutiveLocalOriginFailures"),
            "needs splitExternalLocalOriginErrors: true",
        );
    }
    common::duration(&at.field("interval"), value.interval, f);
    common::duration(&at.field("baseEjectionTime"), value.base_ejection_time, f);
    common::range(
        &at.field("maxEjectionPercent"),
        value.max_ejection_percent.into(),
        0,
        100,
        f,
    );
    common::range(
        &at.field("minHealthPercent"),
        value.min_health_percent.into(),
        0,
        100,
        f,
    );
    for (i, code) in value.outlier_detection_http_error_codes.iter().enumerate() {
        common::range(
            &at.field("outlierDetectionHttpErrorCodes").index(i),
            (*code).into(),
            100,
            599,
            f,
        );
    }
}

fn client_tls(at: &At<'_>, tls: &ClientTlsSettings, f: &mut Findings) {
    let files = [
        ("clientCertificate", &tls.client_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
    ];
    let set = |name: &str| files.iter().any(|(n, value)| *n == name && !value.is_empty());
    if !tls.credential_name.is_empty() {
        for (name, _) in files.iter().filter(|(name, _)| set(name)) {
            f.error(
                &at.field(name),
                "cannot be set beside credentialName; the secret holds it",
            );
        }
    } else if tls.mode == ClientTlsMode::Mutual {
        for name in ["clientCertificate", "privateKey"] {
            if !set(name) {
                f.error(
                    &at.field(name),
                    "is missing; MUTUAL needs clientCertificate and privateKey, or credentialName",
                );
            }
        }
    }
    if tls.mode == ClientTlsMode::IstioMutual {
        for (name, _) in files.iter().filter(|(name, _)| set(name)) {
            f.error(
                &at.field(name),
                "cannot be set with ISTIO_MUTUAL, which uses the mesh's own certificates",
            );
        }
        if !tls.credential_name.is_empty() {
            f.error(
                &at.field("credentialName"),
                "cannot be set with ISTIO_MUTUAL, which uses the mesh's own certificates",
            );
        }
    }
    if tls.insecure_skip_verify == Some(true) {
        for (name, set) in [
            ("caCertificates", !tls.ca_certificates.is_empty()),
            ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ] {
            if set {
                f.error(
                    &at.field(name),
                    "cannot be set beside insecureSkipVerify: true, which checks nothing",
                );
            }
        }
    }
}

fn tunnel(at: &At<'_>, value: &TunnelSettings, f: &mut Findings) {
    if !matches!(value.protocol.as_str(), "" | "CONNECT" | "POST") {
        f.error(
            &at.field("protocol"),
            format!("{:?} is no protocol of a tunnel; write CONNECT or POST", value.protocol),
        );
    }
    if !syntax::is_host(&value.target_host) && !syntax::is_ip(&value.target_host) {
        f.error(
            &at.field("targetHost"),
            format!("{:?} is no host; write a full name or an address", value.target_host),
        );
    }
    common::port(&at.field("targetPort"), value.target_port, f);
}
