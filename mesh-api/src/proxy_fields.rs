//! Which fields of Istio's `ProxyConfig` somebody acts on, known to the proxy's agent and to the control plane alike, so that
//! both report the same ones.

/// Fields that the proxy's agent acts on.
pub const IN_FORCE: &[&str] = &[
    "concurrency",
    "controlPlaneAuthPolicy",
    "discoveryAddress",
    "proxyAdminPort",
    "proxyMetadata",
    "proxyStatsMatcher",
    "statusPort",
    "terminationDrainDuration",
];

/// Why a field has no effect, and what to do instead; `None` for those that somebody acts on, and for names that are no
/// fields.
#[must_use]
pub fn without_effect(field: &str) -> Option<&'static str> {
    Some(match field {
        "configPath" | "binaryPath" | "proxyBootstrapTemplatePath" | "customConfigFile" => {
            "has no effect: mesh-proxy is one program and makes its bootstrap itself; remove it, or patch with an EnvoyFilter"
        }
        "serviceCluster" => {
            "has no effect: the proxy is called by its Pod's labels; set service.istio.io/canonical-name on the Pod"
        }
        "drainDuration" | "parentShutdownDuration" => {
            "has no effect: connections are told to end once, when draining begins; set terminationDrainDuration"
        }
        "discoveryRefreshDelay" | "availabilityZone" | "sds" | "zipkinAddress" | "envoyMetricsServiceAddress" => {
            "has no effect, as in Istio, where it is deprecated; remove it"
        }
        "interceptionMode" => "has no effect: set the annotation sidecar.istio.io/interceptionMode on the Pods",
        "tracing" | "tracingServiceName" => "is not in force yet: proxies send no spans",
        "envoyAccessLogService" => {
            "is not in force yet: access logs go to files only; set accessLogFile in the settings of the mesh"
        }
        "envoyMetricsService" | "statsdUdpAddress" | "statsCompression" => {
            "is not in force: metrics are not sent; scrape them from /stats/prometheus on port 15090"
        }
        "statNameLength" => "has no effect: names of statistics are never cut; remove it",
        "runtimeValues" => "is not in force: the proxy has no runtime values; remove it",
        "extraStatTags" => "is not in force yet: metrics have Istio's standard labels only",
        "gatewayTopology" => "is not in force yet: X-Forwarded-For and client certificates are treated as by default",
        "meshId" => "is not in force yet: metrics and traces carry no name of the mesh",
        "readinessProbe" => {
            "is not in force yet: write the probe into the Pod, or keep a WorkloadEntry only while the workload is well"
        }
        "holdApplicationUntilProxyStarts" => {
            "is not in force yet: let the application wait until http://127.0.0.1:15021/healthz/ready answers 200"
        }
        "caCertificatesPem" => "is not in force yet: set caCertificates in the settings of the mesh",
        "image" => "has no effect: there is one image of the proxy; remove it",
        "privateKeyProvider" => "is not implemented: private keys are kept in memory; remove it",
        "proxyHeaders" => {
            "is not in force yet: the proxy adds Istio's default headers; change them with headers in a VirtualService"
        }
        "fileFlushInterval" | "fileFlushMinSizeKb" | "fileFlushMinSizeKB" => {
            "has no effect: lines of the access log are written at once; remove it"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_not_said_to_have_no_effect() {
        assert!(IN_FORCE.iter().all(|field| without_effect(field).is_none()));
    }

    #[cfg(feature = "istio")]
    #[test]
    fn each_field_is_one_or_the_other() {
        let fields = serde_json::to_value(crate::mesh_config::ProxyConfig::default()).expect("JSON");
        for field in fields.as_object().expect("an object").keys() {
            let known = IN_FORCE.contains(&field.as_str()) || without_effect(field).is_some();
            assert!(known, "{field}");
        }
    }
}
