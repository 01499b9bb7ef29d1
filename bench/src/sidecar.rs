//! The chain of a sidecar, as mesh-control compiles it for a mesh of some services: as a bootstrap with nothing to fetch, or
//! as a bootstrap that knows the control plane and the resources that are pushed (`push`).
//!
//! Only what needs a captured connection or a control plane is replaced: the listener that a connection to the service
//! would be handed to gets a port of its own, routes and endpoints stand in their owners, secrets come from files. Filters,
//! telemetry, timeouts, retries, TLS settings and statistics stay. Envoy skips Istio's own filters (`is_optional`), which
//! mesh-proxy runs: the comparison is to our disadvantage there.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use mesh_api::envoy::type_url;
use serde_json::{Map, Value, json};

use crate::cases::Protocol;
use crate::peers::{Plan, Role, address, admin, speak_http2};

const NAMESPACE: &str = "bench";
/// Where applications and services listen.
const APP_PORT: u16 = 8080;

/// The host of a service.
pub(crate) fn host(number: u32) -> String {
    format!("svc-{number}.{NAMESPACE}.svc.cluster.local")
}

/// The bootstrap of a proxy: the caller's sidecar, or (the second of a pair) that of the service which the load asks for.
pub(crate) fn bootstrap(plan: &Plan<'_>, services: u32) -> Result<Value> {
    let compiled = compiled(plan, services)?;
    let endpoints = assignments(array(&compiled, "endpoints"));
    let mut clusters = array(&compiled, "clusters").clone();
    for cluster in &mut clusters {
        settle_cluster(cluster, &endpoints);
    }
    aim(&mut clusters, plan, services);
    let mut listener = listener(&compiled, plan)?;
    inline_routes(&mut listener, array(&compiled, "routes"));
    let mut bootstrap = outline(plan, services);
    bootstrap["static_resources"] = json!({"listeners": [listener], "clusters": clusters, "secrets": secrets(plan)});
    static_secrets(&mut bootstrap);
    Ok(bootstrap)
}

/// A bootstrap that knows only where the control plane is, and the secrets.
pub(crate) fn pushed_bootstrap(plan: &Plan<'_>, services: u32) -> Value {
    let mut control = json!({
        "name": "xds-grpc", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address("127.0.0.1", plan.ports.control())}}]}]},
    });
    control["typed_extension_protocol_options"] = speak_http2();
    let mut bootstrap = outline(plan, services);
    bootstrap["static_resources"] = json!({"clusters": [control], "secrets": secrets(plan)});
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    bootstrap["dynamic_resources"] = json!({"cds_config": ads, "lds_config": ads, "ads_config": {
        "api_type": "DELTA_GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}});
    bootstrap
}

/// What is pushed to such a proxy, by type: clusters with their endpoints apart, and the listener with its routes apart.
pub(crate) fn pushed_resources(plan: &Plan<'_>, services: u32) -> Result<Vec<(&'static str, Vec<Value>)>> {
    let compiled = compiled(plan, services)?;
    let mut clusters = array(&compiled, "clusters").clone();
    aim(&mut clusters, plan, services);
    let asked: HashSet<String> = clusters.iter().filter_map(endpoints_of).collect();
    let mut endpoints = array(&compiled, "endpoints").clone();
    endpoints.retain(|e| e["cluster_name"].as_str().is_some_and(|name| asked.contains(name)));
    let listener = listener(&compiled, plan)?;
    let mut routes = array(&compiled, "routes").clone();
    let listener_text = listener.to_string();
    routes.retain(|r| listener_text.contains(&format!("\"route_config_name\":{}", r["name"])));
    let mut all = vec![
        (type_url::CLUSTER, clusters),
        (type_url::ENDPOINT, endpoints),
        (type_url::LISTENER, vec![listener]),
        (type_url::ROUTE, routes),
    ];
    all.iter_mut().flat_map(|(_, list)| list).for_each(static_secrets);
    Ok(all)
}

/// What both have: the node, the choice of statistics, the administration port.
fn outline(plan: &Plan<'_>, services: u32) -> Value {
    let app = match plan.role {
        Role::Server => format!("svc-{}", services / 2),
        Role::Alone | Role::Client => "client".to_owned(),
    };
    let mut bootstrap = json!({
        "node": {
            "id": format!("sidecar~127.0.0.1~{app}-0.{NAMESPACE}~{NAMESPACE}.svc.cluster.local"),
            "cluster": format!("{app}.{NAMESPACE}"),
            "metadata": {
                "NAME": format!("{app}-0"), "NAMESPACE": NAMESPACE, "WORKLOAD_NAME": app, "CLUSTER_ID": "Kubernetes",
                "MESH_ID": "cluster.local", "SERVICE_ACCOUNT": "default",
                "LABELS": {"app": app, "service.istio.io/canonical-name": app, "service.istio.io/canonical-revision": "latest"},
            },
        },
        "stats_config": {"stats_matcher": statistics(), "use_all_default_tags": false},
    });
    bootstrap["admin"] = admin(plan);
    bootstrap
}

/// The listener that the load knocks at, on a port of its own.
fn listener(compiled: &Value, plan: &Plan<'_>) -> Result<Value> {
    let mut listener = match plan.role {
        Role::Server => inbound(compiled)?,
        Role::Alone | Role::Client => outbound(compiled)?,
    };
    listener["address"] = address("127.0.0.1", plan.listen());
    for key in ["bind_to_port", "use_original_dst"] {
        remove(&mut listener, key);
    }
    Ok(listener)
}

/// Istio's choice of statistics for sidecars.
fn statistics() -> Value {
    let prefixes = [
        "reporter=",
        "cluster_manager",
        "listener_manager",
        "server",
        "cluster.xds-grpc",
        "wasm",
        "component",
    ];
    let suffixes = [
        "rbac.allowed",
        "rbac.denied",
        "shadow_allowed",
        "shadow_denied",
        "downstream_cx_active",
    ];
    let patterns: Vec<Value> = prefixes
        .iter()
        .map(|p| json!({"prefix": p}))
        .chain(suffixes.iter().map(|s| json!({"suffix": s})))
        .collect();
    json!({"inclusion_list": {"patterns": patterns}})
}

/// What mesh-control sends to the proxy of this role; compiled once for a run.
fn compiled(plan: &Plan<'_>, services: u32) -> Result<Value> {
    let folder = plan.folder.parent().unwrap_or(plan.folder);
    let source = folder.join(format!("mesh-{services}"));
    if !source.is_dir() {
        std::fs::create_dir(&source).with_context(|| source.display().to_string())?;
        std::fs::write(source.join("mesh.yaml"), mesh(services))?;
    }
    let (kind, node) = if plan.role == Role::Server {
        ("server", format!("sidecar~10.250.0.1~svc-{}-0", services / 2))
    } else {
        ("client", "sidecar~10.250.0.9~client-0".to_owned())
    };
    let kept: PathBuf = folder.join(format!("compiled-{services}-{kind}.json"));
    if !kept.is_file() {
        let output = Command::new(&plan.programs.mesh_control)
            .args(["compile", "--log", "error", "--source"])
            .arg(format!("dir:{}", source.display()))
            .args(["--node", &format!("{node}.{NAMESPACE}~{NAMESPACE}.svc.cluster.local")])
            .output()
            .with_context(|| format!("cannot start {}", plan.programs.mesh_control.display()))?;
        if !output.status.success() {
            bail!(
                "mesh-control compile failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        std::fs::write(&kept, output.stdout)?;
    }
    serde_json::from_slice(&std::fs::read(&kept)?).context("the output of mesh-control compile")
}

/// A mesh of so many services with two endpoints each. The one in the middle has a pod, and so has the client.
fn mesh(services: u32) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}\n"
    );
    let mut pod = |name: &str, app: &str, ip: &str| {
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {app}, \
             security.istio.io/tlsMode: istio}}}}\nspec: {{containers: [{{name: app, image: app, ports: [{{containerPort: \
             {APP_PORT}}}]}}]}}\nstatus: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: \"True\"}}]}}\n"
        );
    };
    let asked = services / 2;
    pod("client-0", "client", "10.250.0.9");
    pod(&format!("svc-{asked}-0"), &format!("svc-{asked}"), "10.250.0.1");
    for n in 0..services {
        let (high, low) = (n / 250, n % 250 + 1);
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: svc-{n}, namespace: {NAMESPACE}}}\nspec: {{clusterIP: \
             10.96.{high}.{low}, selector: {{app: svc-{n}}}, ports: [{{name: http, port: 80, targetPort: {APP_PORT}}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: svc-{n}, namespace: {NAMESPACE}, \
             labels: {{kubernetes.io/service-name: svc-{n}}}}}\naddressType: IPv4\nports: [{{name: http, port: {APP_PORT}, \
             protocol: TCP}}]\nendpoints:\n",
        );
        for net in [10, 11] {
            let ip = if n == asked && net == 10 {
                "10.250.0.1".to_owned()
            } else {
                format!("{net}.1{:02}.{}.{low}", high / 250, high % 250)
            };
            let _ = writeln!(yaml, "- {{addresses: [{ip}], conditions: {{ready: true}}}}");
        }
    }
    yaml
}

fn array<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    static NONE: Vec<Value> = Vec::new();
    value[key].as_array().unwrap_or(&NONE)
}

fn listener_named(compiled: &Value, name: &str) -> Result<Value> {
    let found = array(compiled, "listeners").iter().find(|l| l["name"] == name);
    found
        .cloned()
        .with_context(|| format!("mesh-control compiled no listener {name}"))
}

/// The listener that `virtualOutbound` hands a call of port 80 to.
fn outbound(compiled: &Value) -> Result<Value> {
    listener_named(compiled, "0.0.0.0_80")
}

/// `virtualInbound`, with the chains of the application's port only.
fn inbound(compiled: &Value) -> Result<Value> {
    let mut listener = listener_named(compiled, "virtualInbound")?;
    if let Some(chains) = listener["filter_chains"].as_array_mut() {
        chains.retain(|c| c["filter_chain_match"]["destination_port"] == APP_PORT);
        for (number, chain) in chains.iter_mut().enumerate() {
            chain["name"] = json!(format!("chain-{number}"));
            if let Some(found) = chain["filter_chain_match"].as_object_mut() {
                found.remove("destination_port");
            }
        }
        if chains.is_empty() {
            bail!("mesh-control compiled no inbound chain for port {APP_PORT}");
        }
    }
    if let Some(filters) = listener["listener_filters"].as_array_mut() {
        filters.retain(|f| f["name"] != "envoy.filters.listener.original_dst");
    }
    Ok(listener)
}

/// Endpoints by the name that clusters ask for.
fn assignments(endpoints: &[Value]) -> HashMap<&str, &Value> {
    let all = endpoints.iter();
    all.map(|e| (e["cluster_name"].as_str().unwrap_or_default(), e))
        .collect()
}

/// The name by which a cluster asks for its endpoints, if it does.
fn endpoints_of(cluster: &Value) -> Option<String> {
    if cluster["type"] != "EDS" {
        return None;
    }
    let named = cluster["eds_cluster_config"]["service_name"].as_str();
    named.or_else(|| cluster["name"].as_str()).map(str::to_owned)
}

/// Endpoints over EDS become the cluster's own.
fn settle_cluster(cluster: &mut Value, endpoints: &HashMap<&str, &Value>) {
    let Some(name) = endpoints_of(cluster) else { return };
    let known = endpoints.get(name.as_str()).copied();
    cluster["type"] = json!("STATIC");
    let mut assignment = known
        .cloned()
        .unwrap_or_else(|| json!({"cluster_name": name, "endpoints": []}));
    assignment["cluster_name"] = cluster["name"].clone();
    cluster["load_assignment"] = assignment;
    remove(cluster, "eds_cluster_config");
}

/// Lets the cluster that the load is for send to where the plan says.
fn aim(clusters: &mut [Value], plan: &Plan<'_>, services: u32) {
    let own = match plan.role {
        Role::Server => format!("inbound|{APP_PORT}||"),
        Role::Alone | Role::Client => format!("outbound|80||{}", host(services / 2)),
    };
    let Some(cluster) = clusters.iter_mut().find(|c| c["name"] == own.as_str()) else {
        return;
    };
    let to = plan.to();
    let http2 = plan.case.protocol == Protocol::Http2;
    if http2 {
        cluster["typed_extension_protocol_options"] = speak_http2();
    }
    let mut metadata = json!({"istio": {"workload": "svc;bench;svc;;Kubernetes"}});
    if plan.tls_out() {
        metadata["envoy.transport_socket_match"] = json!({"tlsMode": "istio"});
        // Istio's filter chooses the ALPN by the request; an Envoy without it would say what is for TCP.
        let sockets = cluster["transport_socket_matches"].as_array_mut();
        for socket in sockets.into_iter().flatten() {
            let alpn = socket.pointer_mut("/transport_socket/typed_config/common_tls_context/alpn_protocols");
            if let Some(alpn) = alpn {
                *alpn = json!([if http2 { "istio-h2" } else { "istio-http/1.1" }]);
            }
        }
    }
    cluster["type"] = json!("STATIC");
    remove(cluster, "eds_cluster_config");
    if cluster["lb_policy"] == "CLUSTER_PROVIDED" {
        cluster["lb_policy"] = json!("LEAST_REQUEST");
    }
    let name = cluster["name"].clone();
    cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [{
        "endpoint": {"address": address(&to.ip().to_string(), to.port())},
        "metadata": {"filter_metadata": metadata}}]}]});
}

/// Routes over RDS become the connection manager's own.
fn inline_routes(value: &mut Value, routes: &[Value]) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("rds").map(|r| r["route_config_name"].clone())
                && let Some(route) = routes.iter().find(|r| r["name"] == name)
            {
                fields.remove("rds");
                fields.insert("route_config".to_owned(), route.clone());
            }
            fields.values_mut().for_each(|v| inline_routes(v, routes));
        }
        Value::Array(all) => all.iter_mut().for_each(|v| inline_routes(v, routes)),
        _ => {}
    }
}

/// Secrets over SDS become those of the bootstrap: a reference by name without a source means just that.
fn static_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("sds_config");
            fields.values_mut().for_each(static_secrets);
        }
        Value::Array(all) => all.iter_mut().for_each(static_secrets),
        _ => {}
    }
}

fn secrets(plan: &Plan<'_>) -> Value {
    let file = |name: &str| json!({"filename": plan.pki.file(name)});
    json!([
        {"name": "default", "tls_certificate": {"certificate_chain": file("cert.pem"), "private_key": file("key.pem")}},
        {"name": "ROOTCA", "validation_context": {"trusted_ca": file("ca.pem")}},
    ])
}

fn remove(value: &mut Value, key: &str) {
    value
        .as_object_mut()
        .map(|fields: &mut Map<String, Value>| fields.remove(key));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_becomes_part_of_the_file() {
        let mut listener = json!({"filters": [{"rds": {"route_config_name": "80"}}]});
        inline_routes(&mut listener, &[json!({"name": "80", "virtual_hosts": []})]);
        assert_eq!(
            listener,
            json!({"filters": [{"route_config": {"name": "80", "virtual_hosts": []}}]})
        );
        let mut cluster = json!({"name": "a", "type": "EDS", "eds_cluster_config": {"service_name": "b"}});
        settle_cluster(
            &mut cluster,
            &assignments(&[json!({"cluster_name": "b", "endpoints": [1]})]),
        );
        assert_eq!(
            cluster,
            json!({"name": "a", "type": "STATIC", "load_assignment": {"cluster_name": "a", "endpoints": [1]}})
        );
        let mut secret = json!([{"name": "default", "sds_config": {"ads": {}}}]);
        static_secrets(&mut secret);
        assert_eq!(secret, json!([{"name": "default"}]));
    }
}
