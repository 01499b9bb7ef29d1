//! The settings of the mesh, which have no schema: every key has values here.

use std::sync::Arc;

use mesh_api::mesh_config::{MeshConfig, ProxyConfig};
use mesh_api::proxy_fields;
use mesh_control::compile::unsupported_mesh;
use mesh_control::source::{Loaded, discovery};
use mesh_control::store::Store;
use serde_json::{Map, Value, json};

use crate::page::Row;
use crate::probe::{State, covers, read, sent};
use crate::world::WORLD;

/// Settings beside which a field means something.
fn base(path: &str) -> Value {
    match path {
        "accessLogFormat" | "accessLogEncoding" | "disableEnvoyListenerLog" => json!({"accessLogFile": "/dev/stdout"}),
        "outboundTrafficPolicy.tls" => json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY_DYNAMIC_DNS"}}),
        p if p.starts_with("tcpKeepalive") => json!({"tcpKeepalive": {"probes": 3}}),
        _ => json!({}),
    }
}

/// Each field with a value of its own.
fn fields() -> Vec<(&'static str, Value)> {
    let tls = || json!({"mode": "SIMPLE"});
    vec![
        ("proxyListenPort", json!(15009)),
        ("proxyInboundListenPort", json!(15010)),
        ("proxyHttpPort", json!(15007)),
        ("connectTimeout", json!("7s")),
        ("hboneIdleTimeout", json!("7s")),
        ("protocolDetectionTimeout", json!("7s")),
        ("tcpKeepalive.probes", json!(7)),
        ("tcpKeepalive.time", json!("70s")),
        ("tcpKeepalive.interval", json!("7s")),
        ("ingressClass", json!("probe")),
        ("ingressService", json!("probe")),
        ("ingressSelector", json!("probe")),
        ("ingressControllerMode", json!("OFF")),
        ("enableTracing", json!(false)),
        ("accessLogFile", json!("/dev/stdout")),
        ("accessLogFormat", json!("%PROTOCOL%\n")),
        ("accessLogEncoding", json!("JSON")),
        ("enableEnvoyAccessLogService", json!(true)),
        ("disableEnvoyListenerLog", json!(true)),
        ("outboundTrafficPolicy.mode", json!("REGISTRY_ONLY")),
        ("outboundTrafficPolicy.tls", tls()),
        ("inboundTrafficPolicy.mode", json!("LOCALHOST")),
        ("configSources", json!([{"address": "k8s://"}])),
        ("enableAutoMtls", json!(false)),
        ("trustDomain", json!("probe")),
        ("trustDomainAliases", json!(["probe"])),
        ("caCertificates", json!([{"pem": "probe"}])),
        ("defaultServiceExportTo", json!(["probe"])),
        ("defaultVirtualServiceExportTo", json!(["probe"])),
        ("defaultDestinationRuleExportTo", json!(["probe"])),
        ("rootNamespace", json!("probe")),
        ("localityLbSetting.enabled", json!(false)),
        (
            "localityLbSetting.distribute",
            json!([{"from": "*", "to": {"us-west1/*": 30, "us-east1/*": 70}}]),
        ),
        (
            "localityLbSetting.failover",
            json!([{"from": "us-west1", "to": "eu-west1"}]),
        ),
        ("localityLbSetting.failoverPriority", json!(["version"])),
        ("zoneAwareLbSetting", json!({"enabled": true})),
        ("dnsRefreshRate", json!("7s")),
        ("h2UpgradePolicy", json!("UPGRADE")),
        ("inboundClusterStatName", json!("%SERVICE%")),
        ("outboundClusterStatName", json!("%SERVICE%")),
        ("certificates", json!([{}])),
        (
            "serviceSettings",
            json!([{"settings": {"clusterLocal": true}, "hosts": ["*"]}]),
        ),
        ("serviceScopeConfigs", json!([{"scope": "GLOBAL"}])),
        ("enablePrometheusMerge", json!(false)),
        ("verifyCertificateAtClient", json!(true)),
        ("ca", json!({"address": "ca.example.com:443"})),
        ("extensionProviders", json!([{"name": "probe", "prometheus": {}}])),
        ("defaultProviders", json!({"metrics": ["prometheus"]})),
        ("discoverySelectors", json!([{"matchLabels": {"probe": "7"}}])),
        ("pathNormalization.normalization", json!("NONE")),
        ("defaultHttpRetryPolicy.attempts", json!(7)),
        ("defaultHttpRetryPolicy.perTryTimeout", json!("7s")),
        ("defaultHttpRetryPolicy.retryOn", json!("5xx")),
        ("defaultHttpRetryPolicy.retryRemoteLocalities", json!(true)),
        ("defaultHttpRetryPolicy.retryIgnorePreviousHosts", json!(false)),
        ("defaultHttpRetryPolicy.backoff", json!("7s")),
        ("meshMTLS", json!({"minProtocolVersion": "TLSV1_3"})),
        ("tlsDefaults", json!({"minProtocolVersion": "TLSV1_3"})),
        ("compliancePolicy", json!("fips-140-2")),
        ("defaultTrafficPolicy", tls()),
        ("serviceEntryVisibility", json!({})),
        ("defaultConfig.configPath", json!("/probe")),
        ("defaultConfig.binaryPath", json!("/probe")),
        ("defaultConfig.serviceCluster", json!("probe")),
        ("defaultConfig.tracingServiceName", json!("CANONICAL_NAME_ONLY")),
        ("defaultConfig.drainDuration", json!("7s")),
        ("defaultConfig.terminationDrainDuration", json!("7s")),
        ("defaultConfig.parentShutdownDuration", json!("7s")),
        ("defaultConfig.discoveryAddress", json!("probe:15012")),
        ("defaultConfig.discoveryRefreshDelay", json!("7s")),
        ("defaultConfig.zipkinAddress", json!("probe:9411")),
        ("defaultConfig.statsdUdpAddress", json!("probe:8125")),
        ("defaultConfig.envoyMetricsServiceAddress", json!("probe:15000")),
        ("defaultConfig.proxyAdminPort", json!(15007)),
        ("defaultConfig.availabilityZone", json!("probe")),
        ("defaultConfig.controlPlaneAuthPolicy", json!("NONE")),
        ("defaultConfig.customConfigFile", json!("/probe")),
        ("defaultConfig.statNameLength", json!(70)),
        ("defaultConfig.concurrency", json!(7)),
        ("defaultConfig.proxyBootstrapTemplatePath", json!("/probe")),
        ("defaultConfig.interceptionMode", json!("TPROXY")),
        ("defaultConfig.tracing", json!({"sampling": 70.0})),
        ("defaultConfig.sds", json!({"enabled": true})),
        ("defaultConfig.envoyAccessLogService", json!({"address": "probe:15000"})),
        ("defaultConfig.envoyMetricsService", json!({"address": "probe:15000"})),
        ("defaultConfig.proxyMetadata", json!({"ISTIO_META_DNS_CAPTURE": "true"})),
        ("defaultConfig.runtimeValues", json!({"probe": "7"})),
        ("defaultConfig.statusPort", json!(15007)),
        ("defaultConfig.extraStatTags", json!(["probe"])),
        ("defaultConfig.gatewayTopology", json!({"numTrustedProxies": 7})),
        ("defaultConfig.meshId", json!("probe")),
        (
            "defaultConfig.readinessProbe",
            json!({"periodSeconds": 7, "httpGet": {"port": 80}}),
        ),
        (
            "defaultConfig.proxyStatsMatcher",
            json!({"inclusionPrefixes": ["probe"]}),
        ),
        ("defaultConfig.holdApplicationUntilProxyStarts", json!(true)),
        ("defaultConfig.caCertificatesPem", json!(["probe"])),
        ("defaultConfig.image", json!({"imageType": "debug"})),
        ("defaultConfig.privateKeyProvider", json!({"cryptomb": {}})),
        (
            "defaultConfig.proxyHeaders",
            json!({"attemptCount": {"disabled": true}}),
        ),
        ("defaultConfig.fileFlushInterval", json!("7s")),
        ("defaultConfig.statsCompression", json!(true)),
        ("defaultConfig.fileFlushMinSizeKb", json!(7)),
    ]
}

/// Fields that others than the compile step act on.
fn acted_on_elsewhere(path: &str) -> bool {
    let of_proxy = path.strip_prefix("defaultConfig.");
    // The roots are sent with the certificates.
    of_proxy.is_some_and(|field| proxy_fields::IN_FORCE.contains(&field)) || path == "caCertificates"
}

fn keys(value: &impl serde::Serialize, prefix: &str) -> Vec<String> {
    let value = serde_json::to_value(value).expect("JSON");
    let keys = value.as_object().expect("an object").keys();
    keys.filter(|key| *key != "defaultConfig")
        .map(|key| format!("{prefix}{key}"))
        .collect()
}

/// What becomes of each setting.
pub(crate) fn rows() -> Vec<Row> {
    let fields = fields();
    let mut all = keys(&MeshConfig::default(), "");
    all.extend(keys(&ProxyConfig::default(), "defaultConfig."));
    for key in &all {
        let inside = format!("{key}.");
        let tried = |path: &str| path == key || path.starts_with(&inside);
        assert!(
            fields.iter().any(|(path, _)| tried(path)),
            "{key} is tried with no value"
        );
    }
    let one = |(path, value): (&str, Value)| Row {
        kind: "MeshConfig",
        state: probe(path, value),
        field: path.to_owned(),
    };
    let mut rows: Vec<Row> = fields.into_iter().map(one).collect();
    rows.sort_by(|a, b| a.field.cmp(&b.field));
    rows
}

fn probe(path: &str, value: Value) -> State {
    let base = base(path);
    let mut changed = base.clone();
    let mut place = &mut changed;
    for step in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[step];
    }
    *place = value;
    let text = changed.to_string();
    let mesh = match MeshConfig::from_yaml(&text) {
        Ok(mesh) => mesh,
        Err(errors) => {
            let named = errors.into_iter().find(|e| covers(&e.path, path));
            return named.map_or(State::Silent(text), |e| State::Refused(e.message));
        }
    };
    let validated = mesh.validate().into_iter().map(|e| (e.path, e.message));
    let reported = unsupported_mesh(&mesh).into_iter().map(|w| (w.field, w.message));
    if let Some((_, message)) = validated.chain(reported).find(|(field, _)| covers(field, path)) {
        return State::Reported(message);
    }
    let before = MeshConfig::from_yaml(&base.to_string()).expect("the base");
    if acted_on_elsewhere(path) || of(before) != of(mesh) {
        State::Works
    } else {
        State::Silent(text)
    }
}

fn of(mesh: MeshConfig) -> Vec<mesh_control::compile::Packed> {
    let mut world = Loaded {
        objects: WORLD.iter().map(read).collect(),
        ..Loaded::default()
    };
    discovery::filter(&mut world, &mesh);
    let store = Store::build(world.objects, Arc::new(mesh));
    sent(&store).into_iter().map(|(packed, _)| packed).collect()
}
