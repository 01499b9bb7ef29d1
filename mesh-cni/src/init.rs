//! What `mesh-init` does, and `mesh-cni iptables`, by which the plugin and the node agent set up a pod.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use crate::apply::{self, Programs};
use crate::cli::{Cli, Surroundings};
use crate::validate::{Check, ValidateError, validate};

/// By this the node agent tells a pod that is not captured from one that fails for another reason, as in Istio.
pub const NOT_CAPTURED: u8 = 126;

/// Does what the command line says, and says on standard error why not.
pub fn main(name: &str, cli: &Cli) -> ExitCode {
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{name}: {error:#}");
            match error.downcast_ref() {
                Some(ValidateError::NotCaptured { .. }) => ExitCode::from(NOT_CAPTURED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    log(cli);
    if let Some(path) = &cli.network_namespace {
        apply::enter_namespace(path)?;
    }
    let around = Surroundings {
        resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        has_ipv6: apply::has_global_ipv6(),
    };
    let config = cli.config(&around)?;
    let rules = crate::rules(&config);
    if cli.dry_run {
        std::io::stdout().write_all(rules.text().as_bytes())?;
        return Ok(());
    }
    let programs = Programs {
        variant: cli.force_iptables_binary.clone(),
    };
    let earlier = crate::rules::earlier(&config);
    if cli.cleanup_only {
        apply::cleanup(&programs, &earlier)?;
        tracing::info!("capture rules removed");
        return Ok(());
    }
    if cli.skip_rule_apply {
        tracing::info!("no rules written, as --skip-rule-apply asks");
    } else {
        tracing::info!("rules to write:\n{}", rules.text());
        apply::apply(&programs, &rules, &earlier)?;
        tracing::info!("capture rules written");
    }
    if cli.run_validation {
        let check = Check {
            port: cli.iptables_probe_port,
            timeout: cli.probe_timeout,
        };
        validate(&config, check)?;
        tracing::info!("the pod's traffic is captured");
    }
    Ok(())
}

/// Istio's `default:info` names a scope and a level; only the level counts here.
fn log(cli: &Cli) {
    let level = cli.log_output_level.rsplit(':').next().unwrap_or("info");
    let filter = match level {
        "none" => "off",
        "fatal" => "error",
        other => other,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if cli.log_as_json {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}
