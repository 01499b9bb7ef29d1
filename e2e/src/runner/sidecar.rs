//! What Istio's injector would add to a pod: the arguments of the init container and the environment of the proxy.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mesh_api::names::annotation;
use serde_json::{Map, Value, json};

use super::plan::{Injection, PodPlan};
use super::process::User;

/// Where the control plane is found.
pub const DISCOVERY: &str = "istiod.istio-system.svc:15012";

/// Files of one pod's proxy.
#[derive(Debug, Clone)]
pub struct Files {
    /// Token that proves the service account.
    pub token: PathBuf,
    /// Root certificate of the control plane.
    pub root_cert: PathBuf,
    /// Folder in which the proxy keeps what it must not lose.
    pub data: PathBuf,
}

/// `REDIRECT`, `TPROXY` or `NONE`.
pub fn interception(plan: &PodPlan) -> &str {
    match plan.injection {
        Injection::Sidecar => plan.annotation(annotation::INTERCEPTION_MODE).unwrap_or("REDIRECT"),
        Injection::Gateway | Injection::None => "NONE",
    }
}

/// Whom the proxy runs as.
pub fn user(plan: &PodPlan) -> User {
    if interception(plan) == "TPROXY" {
        User::TPROXY
    } else {
        User::PROXY
    }
}

/// The pod's ProxyConfig: the annotation over the mesh's defaults.
///
/// # Errors
/// When the annotation is no YAML object.
pub fn proxy_config(plan: &PodPlan, defaults: &Value) -> Result<Value> {
    let mut config = json!({ "discoveryAddress": DISCOVERY });
    merge(&mut config, defaults);
    if let Some(text) = plan.annotation(annotation::PROXY_CONFIG) {
        let own: Map<String, Value> = serde_saphyr::from_str(text)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| format!("annotation {}", annotation::PROXY_CONFIG))?;
        merge(&mut config, &Value::Object(own));
    }
    Ok(config)
}

/// Puts one document over another; maps are joined, all else is replaced.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (under, over) => *under = over.clone(),
    }
}

fn metadata(config: &Value) -> Vec<(String, String)> {
    let pairs = config
        .get("proxyMetadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    pairs
        .map(|(name, value)| {
            (
                name.clone(),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            )
        })
        .collect()
}

/// Arguments of `mesh-init`; `None` when nothing is captured. A `mark` tells the proxy's packets in place of its user.
pub fn init_arguments(plan: &PodPlan, config: &Value, mark: Option<u32>) -> Option<Vec<String>> {
    let mode = interception(plan);
    if mode == "NONE" {
        return None;
    }
    let or = |name: &str, default: &str| plan.annotation(name).unwrap_or(default).to_owned();
    let excluded = match plan.annotation(annotation::EXCLUDE_INBOUND_PORTS) {
        Some(ports) if !ports.is_empty() => format!("15090,15021,15020,{ports}"),
        _ => "15090,15021,15020".to_owned(),
    };
    let user = user(plan);
    let mut arguments: Vec<String> = [
        ("-p", "15001".to_owned()),
        ("-z", "15006".to_owned()),
        ("-u", user.uid.to_string()),
        ("-m", mode.to_owned()),
        ("-i", or(annotation::INCLUDE_OUTBOUND_RANGES, "*")),
        ("-x", or(annotation::EXCLUDE_OUTBOUND_RANGES, "")),
        ("-b", or(annotation::INCLUDE_INBOUND_PORTS, "*")),
        ("-d", excluded),
        ("-q", or(annotation::INCLUDE_OUTBOUND_PORTS, "")),
        ("-o", or(annotation::EXCLUDE_OUTBOUND_PORTS, "")),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect();
    if user == User::TPROXY {
        // Uid 0 is the application's init too, so only the group tells the proxy.
        arguments.extend(["-g".to_owned(), user.gid.to_string()]);
    }
    if metadata(config)
        .iter()
        .any(|(name, value)| name == "ISTIO_META_DNS_CAPTURE" && value == "true")
    {
        arguments.push("--redirect-dns".to_owned());
    }
    if let Some(mark) = mark {
        // The proxy marks what it sends for applications. Its own way to the control plane stays out of capture by port.
        let mut excluded = or(annotation::EXCLUDE_OUTBOUND_PORTS, "");
        if !excluded.is_empty() {
            excluded.push(',');
        }
        excluded.push_str("15012");
        arguments.extend(["-o".to_owned(), excluded, "--proxy-mark".to_owned(), mark.to_string()]);
    }
    Some(arguments)
}

/// Environment of the proxy.
pub fn env(plan: &PodPlan, ip: IpAddr, host: IpAddr, config: &Value, files: &Files) -> Vec<(String, String)> {
    let path = |path: &Path| path.display().to_string();
    let apps: Vec<&str> = plan.containers().map(|container| container.name.as_str()).collect();
    let mut env: Vec<(String, String)> = [
        ("PILOT_CERT_PROVIDER", "istiod".to_owned()),
        ("CA_ADDR", DISCOVERY.to_owned()),
        ("POD_NAME", plan.name.clone()),
        ("POD_NAMESPACE", plan.namespace.clone()),
        ("INSTANCE_IP", ip.to_string()),
        ("SERVICE_ACCOUNT", plan.service_account.clone()),
        ("HOST_IP", host.to_string()),
        ("PROXY_CONFIG", config.to_string()),
        ("TRUST_DOMAIN", mesh_api::names::DEFAULT_TRUST_DOMAIN.to_owned()),
        ("ISTIO_META_POD_PORTS", Value::Array(plan.ports()).to_string()),
        ("ISTIO_META_APP_CONTAINERS", apps.join(",")),
        ("ISTIO_META_CLUSTER_ID", "Kubernetes".to_owned()),
        ("ISTIO_META_NODE_NAME", plan.node().to_owned()),
        ("ISTIO_META_INTERCEPTION_MODE", interception(plan).to_owned()),
        ("ISTIO_META_WORKLOAD_NAME", plan.workload.clone()),
        ("ISTIO_META_OWNER", plan.owner.clone()),
        ("ISTIO_META_MESH_ID", mesh_api::names::DEFAULT_TRUST_DOMAIN.to_owned()),
        ("ISTIO_METAJSON_LABELS", json!(plan.meta.labels).to_string()),
        ("ISTIO_METAJSON_ANNOTATIONS", json!(plan.meta.annotations).to_string()),
        ("FERROMESH_TOKEN_PATH", path(&files.token)),
        ("CA_ROOT_CA", path(&files.root_cert)),
        ("XDS_ROOT_CA", path(&files.root_cert)),
        ("FERROMESH_DATA_DIR", path(&files.data)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if plan.annotation("prometheus.io/scrape") == Some("true") {
        let of = |name: &str| {
            plan.annotation(&format!("prometheus.io/{name}"))
                .unwrap_or_default()
                .to_owned()
        };
        let scrape = json!({"scrape": "true", "path": of("path"), "port": of("port")});
        env.push(("ISTIO_PROMETHEUS_ANNOTATIONS".to_owned(), scrape.to_string()));
    }
    env.extend(metadata(config));
    env
}

/// Arguments of the proxy.
pub fn proxy_arguments(plan: &PodPlan) -> Vec<String> {
    let role = if plan.injection == Injection::Gateway {
        "router"
    } else {
        "sidecar"
    };
    let domain = format!("{}.svc.cluster.local", plan.namespace);
    [
        role,
        "--domain",
        &domain,
        "--proxyLogLevel=warning",
        "--proxyComponentLogLevel=misc:error",
        "--log_output_level=default:info",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::runner::plan;

    fn pod(annotations: &Value) -> PodPlan {
        let meta =
            serde_json::from_value(json!({"labels": {"app": "web"}, "annotations": annotations})).expect("metadata");
        let spec = json!({"containers": [{"name": "web", "image": "httpbin", "ports": [{"containerPort": 80}]}]});
        let spec = serde_json::from_value(spec).expect("a spec");
        let owner = plan::Owner {
            resource: "deployments",
            name: "web",
            namespace: "shop",
        };
        let labels = BTreeMap::from([("istio-injection".to_owned(), "enabled".to_owned())]);
        plan::pod(owner, "web-1", &meta, &spec, &labels).expect("a plan")
    }

    #[test]
    fn capture_follows_the_injectors_defaults_and_the_annotations() {
        let config = |pod: &PodPlan| proxy_config(pod, &Value::Null).expect("valid");
        let plain = pod(&json!({}));
        assert_eq!(
            init_arguments(&plain, &config(&plain), None)
                .map(|a| a.join(" "))
                .as_deref(),
            Some("-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020 -q  -o ")
        );
        let chosen = pod(&json!({
            "sidecar.istio.io/interceptionMode": "TPROXY",
            "traffic.sidecar.istio.io/excludeInboundPorts": "9090",
            "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
            "proxy.istio.io/config": "proxyMetadata:\n  ISTIO_META_DNS_CAPTURE: \"true\"\n",
        }));
        let line = init_arguments(&chosen, &config(&chosen), None)
            .expect("captured")
            .join(" ");
        assert!(
            line.contains("-u 0 -m TPROXY -i 10.0.0.0/8") && line.contains("-d 15090,15021,15020,9090"),
            "{line}"
        );
        assert!(line.ends_with("-g 1337 --redirect-dns"), "{line}");
        let marked = init_arguments(&chosen, &config(&chosen), Some(77))
            .expect("captured")
            .join(" ");
        assert!(marked.ends_with("-o 15012 --proxy-mark 77"), "{marked}");
        let none = pod(&json!({"sidecar.istio.io/interceptionMode": "NONE"}));
        assert_eq!(init_arguments(&none, &config(&none), None), None);
    }

    #[test]
    fn the_proxy_learns_who_it_is() {
        let pod = pod(&json!({"proxy.istio.io/config": "concurrency: 2\nproxyMetadata: {A: b}\n"}));
        let config = proxy_config(&pod, &json!({"concurrency": 1, "drainDuration": "5s"})).expect("valid");
        let files = Files {
            token: "/t".into(),
            root_cert: "/r".into(),
            data: "/d".into(),
        };
        let env: BTreeMap<_, _> = env(&pod, [10, 1, 1, 1].into(), [127, 0, 0, 1].into(), &config, &files)
            .into_iter()
            .collect();
        assert_eq!(
            env["ISTIO_META_OWNER"],
            "kubernetes://apis/apps/v1/namespaces/shop/deployments/web"
        );
        assert_eq!(
            env["ISTIO_META_POD_PORTS"],
            r#"[{"containerPort":80,"protocol":"TCP"}]"#
        );
        assert_eq!(env["A"], "b");
        let shown: Value = serde_json::from_str(&env["PROXY_CONFIG"]).expect("JSON");
        assert_eq!(
            (&shown["concurrency"], &shown["drainDuration"]),
            (&json!(2), &json!("5s"))
        );
        assert_eq!(shown["discoveryAddress"], DISCOVERY);
        assert_eq!(
            proxy_arguments(&pod)[..3],
            ["sidecar", "--domain", "shop.svc.cluster.local"]
        );
    }
}
