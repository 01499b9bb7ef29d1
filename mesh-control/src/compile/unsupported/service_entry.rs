//! ServiceEntries and WorkloadEntries.

use mesh_api::istio::{Resolution, ServiceEntry, WorkloadEntry};

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
    if spec.resolution == Resolution::DynamicDns {
        found.push(Warning {
            object: name.to_owned(),
            field: "spec.resolution".to_owned(),
            message: "DYNAMIC_DNS is not in force yet: connections go where the caller resolved the name, as with NONE"
                .to_owned(),
        });
    }
    found
}

pub(super) fn report_workload(name: &str, spec: &WorkloadEntry) -> Vec<Warning> {
    fields(name, spec, |path| of_list(WORKLOAD_ENTRY, path))
}
