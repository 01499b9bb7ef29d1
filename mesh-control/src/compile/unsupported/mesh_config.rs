//! The configuration of the mesh.

use mesh_api::mesh_config::{MeshConfig, MeshOutboundMode};
use serde_json::Value;

use super::super::switch;
use super::Warning;

/// Fields of the mesh configuration that are in force: read here, by the proxies' agents, or by the certificate authority.
const MESH_CONFIG: &[&str] = &[
    "proxyListenPort",
    "proxyInboundListenPort",
    "connectTimeout",
    "protocolDetectionTimeout",
    "tcpKeepalive",
    "accessLogFile",
    "accessLogFormat",
    "accessLogEncoding",
    "disableEnvoyListenerLog",
    "defaultConfig",
    "outboundTrafficPolicy",
    "enableAutoMtls",
    "trustDomain",
    "trustDomainAliases",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "defaultDestinationRuleExportTo",
    "rootNamespace",
    "dnsRefreshRate",
    "h2UpgradePolicy",
    "localityLbSetting",
    "pathNormalization",
    "defaultHttpRetryPolicy",
    "enablePrometheusMerge",
];

/// The fields of the mesh configuration that differ from Istio's defaults and are not in force yet.
pub fn unsupported_mesh(mesh: &MeshConfig) -> Vec<Warning> {
    let as_map = |mesh: &MeshConfig| match serde_json::to_value(mesh) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let defaults = as_map(&MeshConfig::default());
    let retries = mesh.default_http_retry_policy.as_ref();
    let remote = !switch::RETRY_PRIORITY && retries.and_then(|r| r.retry_remote_localities).is_some();
    let near = mesh.locality_lb_setting.as_ref();
    let shares = !switch::LOCALITY_WEIGHTS && near.is_some_and(|s| !s.distribute.is_empty());
    let order = !switch::OUTLIER && mesh.locality_lb_setting != MeshConfig::default().locality_lb_setting;
    let outbound = &mesh.outbound_traffic_policy;
    let inside = [
        (shares, "localityLbSetting.distribute"),
        (order, "localityLbSetting"),
        (remote, "defaultHttpRetryPolicy.retryRemoteLocalities"),
        (outbound.tls_settings.is_some(), "outboundTrafficPolicy.tlsSettings"),
    ];
    let inside = inside
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, field)| field.to_owned());
    let dynamic = (outbound.mode == MeshOutboundMode::AllowAnyDynamicDns).then(|| Warning {
        object: "MeshConfig".to_owned(),
        field: "outboundTrafficPolicy.mode".to_owned(),
        message: "ALLOW_ANY_DYNAMIC_DNS is not in force yet: connections go where the caller resolved the name, as with ALLOW_ANY"
            .to_owned(),
    });
    as_map(mesh)
        .into_iter()
        .filter(|(key, value)| defaults.get(key) != Some(value) && !MESH_CONFIG.contains(&key.as_str()))
        .map(|(field, _)| field)
        .chain(inside)
        .map(|field| Warning {
            object: "MeshConfig".to_owned(),
            field,
            message: "is read and not in force yet; it has no effect".to_owned(),
        })
        .chain(dynamic)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_mesh_are_looked_at_too() {
        let mesh = MeshConfig::from_yaml("accessLogFile: /dev/stdout\nproxyHttpPort: 15007\n").expect("readable");
        let fields: Vec<String> = unsupported_mesh(&mesh).into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["proxyHttpPort"]);
        let text = "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tlsSettings: {mode: SIMPLE}}";
        let mesh = MeshConfig::from_yaml(text).expect("readable");
        let fields: Vec<String> = unsupported_mesh(&mesh).into_iter().map(|w| w.field).collect();
        assert_eq!(
            fields,
            ["outboundTrafficPolicy.tlsSettings", "outboundTrafficPolicy.mode"]
        );
        let mesh = MeshConfig::from_yaml("outboundTrafficPolicy: {mode: REGISTRY_ONLY}").expect("readable");
        assert_eq!(unsupported_mesh(&mesh), []);
        assert_eq!(unsupported_mesh(&MeshConfig::default()), []);
    }
}
