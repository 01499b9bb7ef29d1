//! ServiceEntries and WorkloadEntries.

use mesh_api::istio::{Resolution, ServiceEntry, WorkloadEntry, WorkloadGroup};

use super::{Warning, fields, of_list};

const SERVICE_ENTRY: &[&str] = &[
    "hosts",
    "addresses",
    "ports",
    "location",
    "resolution",
    "endpoints[].address",
    "endpoints[].ports",
    "endpoints[].labels",
    "endpoints[].locality",
    "endpoints[].weight",
    "endpoints[].serviceAccount",
    "workloadSelector",
    "exportTo",
    "subjectAltNames",
];

const WORKLOAD_ENTRY: &[&str] = &["address", "ports", "labels", "locality", "weight", "serviceAccount"];

pub(super) fn report(name: &str, spec: &ServiceEntry) -> Vec<Warning> {
    let mut found = fields(name, spec, |path| of_list(SERVICE_ENTRY, path));
    for (index, port) in spec.ports.iter().enumerate() {
        let other = port.target_port != 0 && port.target_port != port.number;
        if spec.resolution == Resolution::DynamicDns && other {
            found.push(Warning {
                object: name.to_owned(),
                field: format!("spec.ports[{index}].targetPort"),
                message: "has no effect with resolution DYNAMIC_DNS: HTTP goes to the port that the request names, TLS to the port's number"
                    .to_owned(),
            });
        }
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        found.extend(socket_file(name, &format!("spec.endpoints[{index}].address"), endpoint));
    }
    found
}

pub(super) fn report_workload(name: &str, spec: &WorkloadEntry) -> Vec<Warning> {
    let mut found = fields(name, spec, |path| of_list(WORKLOAD_ENTRY, path));
    found.extend(socket_file(name, "spec.address", spec));
    found
}

const WORKLOAD_GROUP: &[&str] = &[
    "metadata",
    "template.ports",
    "template.labels",
    "template.locality",
    "template.weight",
    "template.serviceAccount",
];

pub(super) fn report_group(name: &str, spec: &WorkloadGroup) -> Vec<Warning> {
    fields(name, spec, |path| of_list(WORKLOAD_GROUP, path))
}

fn socket_file(name: &str, field: &str, entry: &WorkloadEntry) -> Option<Warning> {
    entry.address.starts_with("unix://").then(|| Warning {
        object: name.to_owned(),
        field: field.to_owned(),
        message: "socket files are not implemented, so the endpoint is left out; write an address".to_owned(),
    })
}
