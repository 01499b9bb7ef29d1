//! The command line: Envoy's flags, the agent's subcommands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The data plane of Ferromesh: an Envoy v3 proxy and its agent in one program.
#[derive(Debug, Parser)]
#[command(
    name = "mesh-proxy",
    version,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:
  mesh-proxy -c envoy.yaml                   run an Envoy v3 bootstrap
  mesh-proxy -c envoy.yaml --mode validate   say what is wrong with it, and leave
  mesh-proxy sidecar                         run beside an application, settings from the environment (POD_NAME, PROXY_CONFIG, ...)
  mesh-proxy request GET clusters            ask the running proxy's admin port (127.0.0.1:15000)

A field of a configuration that is not implemented is refused with its path, never ignored."
)]
pub struct Cli {
    /// What to do; without one, run the bootstrap of -c.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Envoy's flags.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as the sidecar of an application; settings come from the environment that the injector sets.
    Sidecar(AgentArgs),
    /// Run as a gateway; settings come from the environment that the injector sets.
    Router(AgentArgs),
    /// `proxy sidecar` or `proxy router`, as pod templates spell it.
    Proxy {
        /// Role.
        #[command(subcommand)]
        role: ProxyRole,
    },
    /// Ask the admin port of the proxy on this machine.
    Request {
        /// GET or POST.
        #[arg(value_parser = ["GET", "POST"], ignore_case = true)]
        method: String,
        /// Path with query: `/stats`, `config_dump?include_eds=true`.
        path: String,
        /// Address of the admin port.
        #[arg(long, default_value = "127.0.0.1:15000", env = "FERROMESH_ADMIN")]
        admin: String,
        /// Another port of this machine: 15020 for the agent's pages.
        #[arg(long, value_name = "PORT", conflicts_with = "admin")]
        debug_port: Option<u16>,
    },
    /// Wait until the proxy on this machine is ready (`holdApplicationUntilProxyStarts`).
    Wait {
        /// Milliseconds between two looks.
        #[arg(long = "periodMillis", default_value_t = 500)]
        period_millis: u64,
        /// Milliseconds that an answer may take.
        #[arg(long = "requestTimeoutMillis", default_value_t = 500)]
        request_timeout_millis: u64,
        /// Seconds until waiting ends without success.
        #[arg(long = "timeoutSeconds", default_value_t = 60)]
        timeout_seconds: u64,
        /// Readiness page.
        #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
        url: String,
    },
    /// Print the version.
    Version {
        /// The number alone.
        #[arg(long, short)]
        short: bool,
        /// Form of the output.
        #[arg(long, short, value_enum)]
        output: Option<VersionOutput>,
    },
    /// Write the capture rules: runs mesh-init, which stands beside this program, with the same flags.
    #[command(name = "istio-iptables", disable_help_flag = true)]
    IstioIptables {
        /// Flags of mesh-init.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<std::ffi::OsString>,
    },
}

/// `version --output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VersionOutput {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Role behind `proxy`.
#[derive(Debug, Subcommand)]
pub enum ProxyRole {
    /// Beside an application.
    Sidecar(AgentArgs),
    /// A gateway.
    Router(AgentArgs),
}

/// Flags of the agent. Istio's templates write them in camel case.
#[derive(Debug, Clone, Default, Args)]
pub struct AgentArgs {
    /// DNS domain of the pod, `NAMESPACE.svc.cluster.local`.
    #[arg(long)]
    pub domain: Option<String>,
    /// Log level: trace, debug, info, warning, error, critical, off.
    #[arg(long = "proxyLogLevel", alias = "log-level", short = 'l', default_value = "info")]
    pub log_level: String,
    /// Levels by component; accepted for pod templates, Envoy's component names mean nothing here.
    #[arg(long = "proxyComponentLogLevel")]
    pub component_log_level: Option<String>,
    /// Log level of the agent's part (`default:info`); accepted for pod templates, the proxy's level holds for both.
    #[arg(long = "log_output_level")]
    pub log_output_level: Option<String>,
    /// Log lines as JSON objects.
    #[arg(long = "log_as_json")]
    pub log_as_json: bool,
    /// File that gets a line for each ejection of an endpoint.
    #[arg(long = "outlierLogPath", value_name = "FILE")]
    pub outlier_log_path: Option<String>,
    /// Port of Istio's token exchange, which is not there.
    #[arg(long = "stsPort", hide = true)]
    pub sts_port: Option<u16>,
    /// Name of the pod's service in Istio before 1.10; the pod's labels say it.
    #[arg(long = "serviceCluster", hide = true)]
    pub service_cluster: Option<String>,
    /// Template of Envoy's bootstrap, which the proxy makes without one.
    #[arg(long = "templateFile", hide = true)]
    pub template_file: Option<String>,
    /// Number of worker threads; 0 for one a core. Overrides `concurrency` of the ProxyConfig.
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// Seconds that draining takes at most. Overrides `terminationDrainDuration` of the ProxyConfig.
    #[arg(long)]
    pub drain_time_s: Option<u64>,
    /// Directory for the last good configuration.
    #[arg(long, env = "FERROMESH_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Envoy's flags.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Bootstrap, YAML or JSON.
    #[arg(short = 'c', long = "config-path", value_name = "FILE")]
    pub config_path: Option<PathBuf>,
    /// Bootstrap as text, in place of a file.
    #[arg(long, value_name = "YAML", conflicts_with = "config_path")]
    pub config_yaml: Option<String>,
    /// `validate` checks the bootstrap and leaves.
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Number of worker threads; 0 (the default) for one a core.
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// Log level: trace, debug, info, warning, error, critical, off.
    #[arg(short = 'l', long, default_value = "info")]
    pub log_level: String,
    /// Overrides `node.id`.
    #[arg(long)]
    pub service_node: Option<String>,
    /// Overrides `node.cluster`.
    #[arg(long)]
    pub service_cluster: Option<String>,
    /// Seconds that draining takes at most after SIGTERM.
    #[arg(long, default_value_t = 0)]
    pub drain_time_s: u64,
    /// Directory for the last good configuration of the control plane; none without it.
    #[arg(long, env = "FERROMESH_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Hot restart is Envoy's; accepted.
    #[arg(long, hide = true)]
    pub base_id: Option<u32>,
    /// Hot restart is Envoy's; accepted.
    #[arg(long, hide = true)]
    pub use_dynamic_base_id: bool,
    /// Hot restart is Envoy's; accepted.
    #[arg(long, hide = true)]
    pub restart_epoch: Option<u32>,
    /// Hot restart is Envoy's; accepted.
    #[arg(long, hide = true)]
    pub disable_hot_restart: bool,
    /// Accepted; lines are in one format.
    #[arg(long, hide = true)]
    pub log_format: Option<String>,
    /// Accepted; Envoy's component names mean nothing here.
    #[arg(long, hide = true)]
    pub component_log_level: Option<String>,
    /// Accepted; draining is always immediate.
    #[arg(long, hide = true)]
    pub drain_strategy: Option<String>,
    /// Accepted; there is no parent process.
    #[arg(long, hide = true)]
    pub parent_shutdown_time_s: Option<u64>,
}

/// `--mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Run.
    #[default]
    Serve,
    /// Check the configuration and leave.
    Validate,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn envoys_and_the_agents_spellings_are_taken() {
        let cli = Cli::try_parse_from([
            "mesh-proxy",
            "-c",
            "a.yaml",
            "--mode",
            "validate",
            "-l",
            "debug",
            "--base-id",
            "3",
        ])
        .expect("Envoy's flags");
        assert_eq!(cli.run.mode, Mode::Validate);
        let cli = Cli::try_parse_from([
            "mesh-proxy",
            "proxy",
            "sidecar",
            "--domain",
            "shop.svc.cluster.local",
            "--proxyLogLevel=warning",
            "--proxyComponentLogLevel=misc:error",
            "--log_output_level=default:info",
        ])
        .expect("Istio's template");
        let Some(Command::Proxy {
            role: ProxyRole::Sidecar(args),
        }) = cli.command
        else {
            panic!("{:?}", cli.command)
        };
        assert_eq!(args.log_level, "warning");
    }

    #[test]
    fn the_agents_commands_are_taken_as_in_istio() {
        for line in [
            "request GET /stats",
            "request --debug-port 15020 POST drain",
            "request --debug-port=15004 GET /debug/syncz",
            "request --admin 127.0.0.1:15020 POST drain",
            "wait",
            "wait --timeoutSeconds 5 --periodMillis=100 --requestTimeoutMillis 50 --url http://localhost:15021/healthz/ready",
            "version",
            "version --short",
            "version -o json",
            "istio-iptables -p 15001 -i * -b * --run-validation -x",
            "proxy router --domain a.svc.cluster.local --log_as_json --concurrency 2 --outlierLogPath=/dev/stdout --stsPort=15463",
        ] {
            let words = std::iter::once("pilot-agent").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
