//! `/debug/registryz` and `/debug/endpointz`: services and their endpoints, with the fields of Istio's model.

use serde_json::{Value, json};

use crate::store::Store;
use crate::store::endpoint::Endpoint;
use crate::store::service::{Resolution, Service, ServicePort};

/// Name of the cluster in addresses, where nobody gave it another.
const CLUSTER: &str = "Kubernetes";

/// Every service.
pub(super) fn services(store: &Store) -> Value {
    store.all_services().map(|service| of_service(service)).collect()
}

/// Every port of every service with its endpoints.
pub(super) fn endpoints(store: &Store) -> Value {
    let mut out = Vec::new();
    for service in store.all_services() {
        let known = store.endpoints(service);
        for port in &service.ports {
            let all = known.get(&port.number).map(Vec::as_slice).unwrap_or_default();
            let all: Vec<Value> = all.iter().map(|e| of_endpoint(service, port, e)).collect();
            let port = if port.name.is_empty() {
                port.number.to_string()
            } else {
                port.name.clone()
            };
            out.push(json!({"svc": format!("{}:{port}", service.host), "ep": all}));
        }
    }
    Value::Array(out)
}

fn of_service(service: &Service) -> Value {
    let vips: Vec<String> = service
        .vips
        .iter()
        .map(|net| {
            if net.prefix_len() == net.max_prefix_len() {
                net.addr().to_string()
            } else {
                net.to_string()
            }
        })
        .collect();
    let default = vips.first().cloned().unwrap_or_else(|| "0.0.0.0".to_owned());
    let registry = if service.kubernetes { "Kubernetes" } else { "External" };
    json!({
        "Attributes": {
            "ServiceRegistry": registry,
            "Name": service.name,
            "Namespace": service.namespace,
            "LabelSelectors": service.selector,
            "ExportTo": service.export_to,
        },
        "hostname": service.host,
        "ports": service.ports.iter().map(of_port).collect::<Vec<_>>(),
        "clusterVIPs": {"Addresses": {CLUSTER: vips}},
        "defaultAddress": default,
        "autoAllocatedIPv4Address": service.auto_vip.map(|ip| ip.to_string()),
        "creationTime": service.created.map(|at| at.to_string()),
        "Resolution": resolution(service),
        "MeshExternal": service.external,
        "object": service.object,
    })
}

/// Istio's numbers.
fn resolution(service: &Service) -> u8 {
    match service.resolution {
        Resolution::Passthrough => 2,
        _ if service.headless => 2,
        Resolution::Eds => 0,
        Resolution::StrictDns => 1,
        Resolution::LogicalDns => 3,
        Resolution::DynamicDns => 5,
    }
}

fn of_port(port: &ServicePort) -> Value {
    json!({"name": port.name, "port": port.number, "protocol": format!("{:?}", port.protocol).to_uppercase()})
}

fn of_endpoint(service: &Service, port: &ServicePort, endpoint: &Endpoint) -> Value {
    let workload = &endpoint.workload;
    json!({
        "service": {"hostname": service.host, "Attributes": {"Name": service.name, "Namespace": service.namespace}},
        "servicePort": of_port(port),
        "endpoint": {
            "Address": endpoint.address,
            "EndpointPort": endpoint.port,
            "ServicePortName": port.name,
            "Labels": workload.labels,
            "ServiceAccount": workload.service_account,
            "Locality": {"Label": workload.locality, "ClusterID": CLUSTER},
            "LbWeight": workload.weight,
            "TLSMode": if workload.mesh_tls { "istio" } else { "disabled" },
            "Namespace": workload.namespace,
            "WorkloadName": workload.owner,
        },
        "labels": workload.labels,
    })
}
