//! Everything that a proxy holds.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

use super::{Common, cluster, dump, endpoint, listener, route, secret};
use crate::cluster::ClusterOptions;
use crate::envoy_json::camel_case;

/// Of which proxy.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    common: Common,
}

/// All tables, or the dump.
pub(super) async fn run(options: &Options, at: &ClusterOptions) -> Result<String> {
    let dump = dump(&options.common.which, at).await?;
    if let Some(form) = options.common.output.structured() {
        return form.write(&camel_case("envoy.admin.v3.ConfigDump", dump.value()));
    }
    let tables = [
        cluster::table(&cluster::Filter::default().of(&dump)),
        listener::table(&listener::Filter::default().of(&dump)),
        route::table(&route::Filter::default().of(&dump)),
        endpoint::table(&endpoint::Filter::default().assignments(&dump)),
        secret::table(&dump, Timestamp::now()),
    ];
    Ok(tables.join("\n"))
}
