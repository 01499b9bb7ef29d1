//! Everything that a proxy holds.

use anyhow::Result;
use clap::{ArgAction, Args};
use jiff::Timestamp;

use super::{Common, bootstrap, cluster, dump, endpoint, listener, route, secret};
use crate::cluster::ClusterOptions;
use crate::dump::Dump;
use crate::envoy_json::camel_case;

/// Of which proxy. The filters are those of the single tables; each counts for the tables that have it.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    common: Common,
    /// Clusters of hosts with this in their names
    #[arg(long, value_name = "HOST", default_value = "")]
    fqdn: String,
    /// Clusters of this subset
    #[arg(long, value_name = "NAME", default_value = "")]
    subset: String,
    /// Clusters for what comes to the application, or for what it sends
    #[arg(long, value_name = "DIRECTION", value_parser = ["inbound", "outbound"])]
    direction: Option<String>,
    /// Clusters, listeners and endpoints of this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Listeners and endpoints of this address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    address: String,
    /// Listeners of this type: HTTP, TCP, HTTP+TCP, UNKNOWN
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    kind: String,
    /// The route table of this name
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// Each filter chain and each route in a line; without, each listener and each route table
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    verbose: bool,
}

/// All tables, or the dump.
pub(super) async fn run(options: &Options, at: &ClusterOptions) -> Result<String> {
    let dump = dump(&options.common.which, at).await?;
    if let Some(form) = options.common.form.structured() {
        return form.write(&camel_case("envoy.admin.v3.ConfigDump", dump.value()));
    }
    Ok(options.tables(&dump))
}

impl Options {
    pub(super) fn tables(&self, dump: &Dump) -> String {
        let cluster = cluster::Filter {
            fqdn: self.fqdn.clone(),
            port: self.port,
            subset: self.subset.clone(),
            direction: self.direction.clone(),
        };
        let listener = listener::Filter {
            address: self.address.clone(),
            port: self.port,
            kind: self.kind.clone(),
            verbose: self.verbose,
        };
        let route = route::Filter {
            name: self.name.clone(),
            verbose: self.verbose,
        };
        let endpoint = endpoint::Filter {
            address: self.address.clone(),
            port: self.port,
            ..endpoint::Filter::default()
        };
        let tables = [
            bootstrap::versions(dump),
            cluster::table(&cluster.of(dump)),
            listener::rows(&listener, &listener.of(dump)),
            route::rows(&route, &route.of(dump)),
            secret::table(dump, Timestamp::now()),
            endpoint::table(&endpoint.assignments(dump)),
        ];
        let there: Vec<String> = tables.into_iter().filter(|table| !table.is_empty()).collect();
        there.join("\n")
    }
}
