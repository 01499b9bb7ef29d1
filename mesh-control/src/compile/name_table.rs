//! The names that the DNS proxy in the pod answers.

use mesh_api::nds::{NameTable, name_table::NameInfo};

use super::context::Context;

/// Every service that the proxy sees, with its address; headless services with those of their Pods.
pub(super) fn name_table(ctx: &Context<'_>) -> NameTable {
    let mut table = NameTable::default();
    for service in ctx.services() {
        if service.external_name.is_some() {
            continue;
        }
        let mut ips: Vec<String> = ctx
            .addresses_of(service)
            .iter()
            .filter(|a| a.prefix_len() == a.max_prefix_len())
            .map(|a| a.addr().to_string())
            .collect();
        if service.headless {
            ips = ctx
                .store
                .endpoints(service)
                .values()
                .flatten()
                .map(|e| e.address.clone())
                .filter(|a| a.parse::<std::net::IpAddr>().is_ok())
                .collect();
        }
        ips.sort();
        ips.dedup();
        if ips.is_empty() {
            continue;
        }
        let info = if service.kubernetes {
            NameInfo {
                ips,
                registry: "Kubernetes".to_owned(),
                shortname: service.name.clone(),
                namespace: service.namespace.clone(),
            }
        } else {
            NameInfo {
                ips,
                registry: "External".to_owned(),
                ..Default::default()
            }
        };
        table.table.insert(service.host.clone(), info);
    }
    table
}
