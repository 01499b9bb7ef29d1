//! The configuration of the mesh.

use mesh_api::mesh_config::{MeshConfig, MeshOutboundMode};
use mesh_api::proxy_fields;
use serde::Serialize;
use serde_json::Value;

use super::Warning;
use super::destination_rule::unknown_place;

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
    // By its own fields.
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
    // By the certificate authority.
    "caCertificates",
    // Before objects are compiled.
    "discoverySelectors",
];

/// What to do in place of a field that is not in force.
fn instead(field: &str) -> &'static str {
    match field {
        "proxyHttpPort" => "is not in force: applications are captured; remove it",
        "hboneIdleTimeout" => "is not in force: there is no HBONE here; remove it",
        "ingressClass" | "ingressService" | "ingressSelector" | "ingressControllerMode" => {
            "is not in force: Ingress objects are not read; write a Gateway and a VirtualService"
        }
        "enableTracing" => "is not in force yet: proxies send no spans",
        "enableEnvoyAccessLogService" => "is not in force yet: access logs go to files only; set accessLogFile",
        "inboundTrafficPolicy" => {
            "is not in force yet: inbound traffic goes to the address that the client asked for; let the application listen there"
        }
        "configSources" => "is not in force: objects come from the folder that mesh-control is started with",
        "zoneAwareLbSetting" => "is not in force: write localityLbSetting",
        "inboundClusterStatName" | "outboundClusterStatName" => {
            "is not in force yet: clusters are called by their own names in statistics"
        }
        "serviceSettings" | "serviceScopeConfigs" => "is not in force: there is one cluster only; remove it",
        "ca" => "is not in force: mesh-control signs certificates itself; remove it",
        "extensionProviders" | "defaultProviders" => {
            "is not in force yet: of the providers only the access log and the metrics that are built in are used; set accessLogFile"
        }
        "meshMTLS" | "tlsDefaults" => {
            "is not in force yet: TLS 1.2 is the oldest version everywhere; set minProtocolVersion in the servers of Gateways"
        }
        "enablePrometheusMerge" => {
            "is not in force: proxies merge the metrics of Pods that have the annotations prometheus.io/…; remove those annotations"
        }
        "compliancePolicy" => {
            "is not in force: cipher suites and curves are not restricted; set them in the servers of Gateways"
        }
        _ => "is read and not in force yet; it has no effect",
    }
}

/// The fields of the mesh configuration that differ from Istio's defaults and are not in force yet.
pub fn unsupported_mesh(mesh: &MeshConfig) -> Vec<Warning> {
    let default = MeshConfig::default();
    let warning = |field: String, message: &str| Warning {
        object: "MeshConfig".to_owned(),
        field,
        message: message.to_owned(),
    };
    let mut found: Vec<Warning> = changed(mesh, &default)
        .filter(|key| !MESH_CONFIG.contains(&key.as_str()))
        .map(|key| {
            let message = instead(&key);
            warning(key, message)
        })
        .collect();
    found.extend(
        changed(&mesh.default_config, &default.default_config).filter_map(|key| {
            let message = proxy_fields::without_effect(&key)?;
            Some(warning(format!("defaultConfig.{key}"), message))
        }),
    );
    let outbound = &mesh.outbound_traffic_policy;
    if outbound.tls.is_some() && outbound.mode != MeshOutboundMode::AllowAnyDynamicDns {
        found.push(warning(
            "outboundTrafficPolicy.tls".to_owned(),
            "has no effect without mode ALLOW_ANY_DYNAMIC_DNS: unknown destinations are passed on as they are; write a ServiceEntry and a DestinationRule with tls",
        ));
    }
    for (index, roots) in mesh.ca_certificates.iter().enumerate() {
        let limits = [
            (!roots.cert_signers.is_empty(), "certSigners"),
            (!roots.trust_domains.is_empty(), "trustDomains"),
        ];
        for (_, name) in limits.into_iter().filter(|(set, _)| *set) {
            let field = format!("caCertificates[{index}].{name}");
            found.push(warning(
                field,
                "is not in force: the roots are trusted for everybody; remove it",
            ));
        }
    }
    if let Some(setting) = &mesh.locality_lb_setting {
        let keys = setting.failover_priority.iter().enumerate();
        found.extend(keys.filter_map(|(index, key)| {
            Some(warning(
                format!("localityLbSetting.failoverPriority[{index}]"),
                unknown_place(key)?,
            ))
        }));
    }
    found
}

/// Keys of what differs.
fn changed<T: Serialize>(one: &T, default: &T) -> impl Iterator<Item = String> {
    let as_map = |value: &T| match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let default = as_map(default);
    let differs = move |(key, value): (String, Value)| (default.get(&key) != Some(&value)).then_some(key);
    as_map(one).into_iter().filter_map(differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_mesh_are_looked_at_too() {
        let mesh = MeshConfig::from_yaml("accessLogFile: /dev/stdout\nproxyHttpPort: 15007\n").expect("readable");
        let fields: Vec<String> = unsupported_mesh(&mesh).into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["proxyHttpPort"]);
        let text = "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE}}";
        let mesh = MeshConfig::from_yaml(text).expect("readable");
        assert_eq!(unsupported_mesh(&mesh), []);
        let mesh = MeshConfig::from_yaml("outboundTrafficPolicy: {tls: {mode: SIMPLE}}").expect("readable");
        let fields: Vec<String> = unsupported_mesh(&mesh).into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["outboundTrafficPolicy.tls"]);
        let text = "{defaultConfig: {concurrency: 2, image: {imageType: debug}}, localityLbSetting: {failoverPriority: [kubernetes.io/hostname]}}";
        let mesh = MeshConfig::from_yaml(text).expect("readable");
        let fields: Vec<String> = unsupported_mesh(&mesh).into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["defaultConfig.image", "localityLbSetting.failoverPriority[0]"]);
        let mesh = MeshConfig::from_yaml("outboundTrafficPolicy: {mode: REGISTRY_ONLY}").expect("readable");
        assert_eq!(unsupported_mesh(&mesh), []);
        assert_eq!(unsupported_mesh(&MeshConfig::default()), []);
    }
}
