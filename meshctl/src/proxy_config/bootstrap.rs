//! What the proxy was started with.

use anyhow::{Context as _, Result};
use clap::Args;

use super::Common;
use crate::dump::Dump;
use crate::envoy_json::bare;
use crate::output::{Form, Output};

/// Of which proxy, and how.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,
}

/// The bootstrap, or (`-o short`) the versions that it names.
pub(super) fn run(dump: &Dump, form: Form) -> Result<String> {
    let section = dump.sections("BootstrapConfigDump").next();
    let section = section.context("the dump has no bootstrap")?;
    match form.or(Output::Json) {
        Some(form) => form.write(&bare("envoy.admin.v3.BootstrapConfigDump", section)),
        None => Ok(versions(dump)),
    }
}

/// What istioctl prints above its tables.
pub(super) fn versions(dump: &Dump) -> String {
    let Some(section) = dump.sections("BootstrapConfigDump").next() else {
        return String::new();
    };
    let node = &section["bootstrap"]["node"];
    let build = &node["user_agent_build_version"]["version"];
    let number = |field: &str| build[field].as_u64().unwrap_or_default();
    let envoy = if build.is_object() {
        format!(
            "{}.{}.{}",
            number("major_number"),
            number("minor_number"),
            number("patch")
        )
    } else {
        node["user_agent_version"].as_str().unwrap_or("unknown").to_owned()
    };
    let meta = |key: &str| node["metadata"][key].as_str().unwrap_or("unknown").to_owned();
    format!(
        "Istio Version:       {}\nIstio Proxy Version: {}\nEnvoy Version:       {envoy}\n",
        meta("ISTIO_VERSION"),
        meta("ISTIO_PROXY_SHA"),
    )
}
