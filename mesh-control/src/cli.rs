//! The command line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_api::names::{NodeId, port};

use crate::cli_compile;
use crate::cli_inject::KubeInject;
use crate::compile::Proxy;
use crate::serve::ca::token::{ServiceAccount, Tokens};
use crate::serve::webhook::NativeSidecars;
use crate::serve::{self, Options, Source};
use crate::source::directory::Directory;
use crate::source::mesh::MeshSource;
use crate::source::{self, Diagnostic, Severity};
use crate::store::Store;

/// Ferromesh's control plane: Istio's objects in, Envoy configuration and workload certificates out.
#[derive(Debug, Parser)]
#[command(name = "mesh-control", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log as JSON, one object a line.
    #[arg(long, global = true)]
    log_json: bool,
    /// What to log: error, warn, info, debug, or by part: info,mesh_control::serve::ads=debug.
    #[arg(long, global = true, env = "MESH_LOG", default_value = "info")]
    log: String,
}

const EXAMPLES: &str = "\
Examples:
  Serve proxies from a folder of YAML, and follow its changes:
    mesh-control serve --source dir:./mesh --ca-dir ./mesh-ca
  Prove a workload to the CA (give the file to its proxy):
    mesh-control token --service-account shop/web --ca-dir ./mesh-ca --out web.token
  See what one proxy would be sent:
    mesh-control compile --source dir:./mesh --node sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local
  Check a folder; one line for each thing that is wrong:
    mesh-control validate --source dir:./mesh";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve proxies: configuration (xDS) and certificates.
    #[command(after_help = SERVE_HELP)]
    Serve(Serve),
    /// Print what one proxy would be sent. No ports, no clock: the same answer every time.
    Compile(Compile),
    /// Write a signed token that proves a service account to the CA.
    Token(Token),
    /// Inject the proxy into the Pods of a file, as the webhook would.
    Inject(KubeInject),
    /// Read a folder and print what is wrong with it. Ends with 1 if anything is.
    Validate(Validate),
}

const SERVE_HELP: &str = "\
Ports:
  15010  xDS and CA in plaintext; on loopback only, unless --grpc-addr says otherwise
  15012  xDS and CA over TLS; callers prove themselves by token or by their mesh certificate
  15014  /metrics, /ready, /version; and on the machine itself /debug (syncz, configz, config_dump)
  15017  webhooks of the API server, with --source kubernetes

With --source kubernetes the CA's key is in the Secret `cacerts` (yours) or `istio-ca-secret` (made at the first start),
and --ca-dir is a folder for its files that need not be kept. POD_NAMESPACE, POD_NAME and REVISION say who we are.

Otherwise the folder of --ca-dir holds the root and its key. Put your own ca-cert.pem, ca-key.pem, root-cert.pem and
cert-chain.pem there before the first start to sign with your own CA. bundle/root-cert.pem in it is what proxies trust.";

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    objects: Objects,
    /// Address of the ports 15012 and 15014.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    listen: IpAddr,
    /// Plaintext xDS and CA [default: 127.0.0.1:15010].
    #[arg(long, value_name = "ADDRESS:PORT")]
    grpc_addr: Option<SocketAddr>,
    /// xDS and CA over TLS [default: port 15012 on --listen].
    #[arg(long, value_name = "ADDRESS:PORT")]
    secure_grpc_addr: Option<SocketAddr>,
    /// Metrics and debug pages [default: port 15014 on --listen].
    #[arg(long, value_name = "ADDRESS:PORT")]
    monitoring_addr: Option<SocketAddr>,
    /// Webhooks, with --source kubernetes [default: port 15017 on --listen].
    #[arg(long, value_name = "ADDRESS:PORT")]
    webhook_addr: Option<SocketAddr>,
    #[command(flatten)]
    ca: CaDir,
    /// Inject proxies as containers that start before all others and end after them: auto where all nodes can
    /// (Kubernetes 1.29), true, or false.
    #[arg(long, env = "ENABLE_NATIVE_SIDECARS", value_enum, default_value_t = NativeSidecars::Auto)]
    native_sidecars: NativeSidecars,
    /// Further names or addresses by which proxies reach this server, for its certificate.
    #[arg(long = "san", value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
struct CaDir {
    /// Folder of the CA's keys and certificates; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "mesh-ca", env = "MESH_CA_DIR")]
    ca_dir: PathBuf,
}

#[derive(Debug, Args)]
struct Objects {
    /// Where the objects are: a folder of YAML, or the cluster of this Pod or of KUBECONFIG.
    #[arg(long, value_name = "kubernetes|dir:PATH", value_parser = source)]
    source: Source,
    /// MeshConfig (YAML); without it the key `mesh` of ConfigMap istio-system/istio counts, if the source has it.
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// Trust domain of identities; without it that of the MeshConfig.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// Do not retry the 503 of an upstream where no VirtualService gives conditions: it may have acted before it answered.
    #[arg(long, env = "EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY", value_parser = BoolishValueParser::new())]
    exclude_unsafe_503: bool,
}

fn source(text: &str) -> Result<Source, String> {
    match text.split_once(':') {
        Some(("dir", path)) if !path.is_empty() => Ok(Source::Directory(path.into())),
        _ if text == "kubernetes" => Ok(Source::Kubernetes),
        _ => Err("expected kubernetes, or dir:PATH, for example dir:./mesh".to_owned()),
    }
}

#[derive(Debug, Args)]
struct Compile {
    #[command(flatten)]
    objects: Objects,
    /// The proxy: KIND~IP~POD.NAMESPACE~NAMESPACE.svc.cluster.local with KIND sidecar or router.
    #[arg(long, value_name = "ID")]
    node: String,
    /// A label of the proxy's pod, if the source does not have the pod. May be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Output::Json)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Json,
    Yaml,
}

#[derive(Debug, Args)]
struct Token {
    /// The service account that the token proves.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service_account: ServiceAccount,
    /// How long it is good: 12h, 30m, 7d, 90s.
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = duration)]
    ttl: Duration,
    /// Write it to this file (mode 0600) and not to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    ca: CaDir,
}

#[derive(Debug, Args)]
struct Validate {
    #[command(flatten)]
    objects: Objects,
}

fn duration(text: &str) -> Result<Duration, String> {
    let help = || format!("{text:?} is no time; write a number with d, h, m or s, such as 12h");
    let unit = text.chars().next_back().ok_or_else(help)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return Err(help()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| help())?;
    match number.checked_mul(seconds) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(help()),
    }
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// For everything that keeps the command from doing its work.
pub fn run(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Serve(args) => {
            log(&cli.log, cli.log_json)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                let running = serve::start(args.options()).await?;
                running.wait(stop_signal()).await
            })?;
            Ok(0)
        }
        Command::Compile(args) => args.run(),
        Command::Token(args) => args.run(),
        Command::Inject(args) => {
            if let Some(text) = args.run()? {
                print!("{text}");
            }
            Ok(0)
        }
        Command::Validate(args) => args.run(),
    }
}

fn log(filter: &str, json: bool) -> Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter: EnvFilter = filter.parse().with_context(|| format!("--log {filter:?}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let set = if json {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
    set.map_err(|e| anyhow::anyhow!("cannot log: {e}"))
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "a signal cannot be waited for");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

impl Serve {
    fn options(self) -> Options {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Options {
            source: self.objects.source,
            mesh_config: self.objects.mesh_config,
            grpc: self.grpc_addr.unwrap_or((loopback, port::XDS_PLAINTEXT).into()),
            secure_grpc: self.secure_grpc_addr.unwrap_or((self.listen, port::XDS_TLS).into()),
            monitoring: self
                .monitoring_addr
                .unwrap_or((self.listen, port::CONTROL_MONITORING).into()),
            webhook: self.webhook_addr.unwrap_or((self.listen, port::WEBHOOKS).into()),
            ca_dir: self.ca.ca_dir,
            trust_domain: self.objects.trust_domain,
            exclude_unsafe_503: self.objects.exclude_unsafe_503,
            native_sidecars: self.native_sidecars,
            names: self.names,
        }
    }
}

impl Objects {
    fn load(&self) -> Result<(Store, source::Loaded)> {
        let Source::Directory(root) = &self.source else {
            anyhow::bail!("only a folder can be read here: give --source dir:PATH");
        };
        if !root.is_dir() {
            anyhow::bail!("--source dir:{}: there is no such folder", root.display());
        }
        let mut loaded = Directory::new(root).load();
        let mut mesh = MeshSource::new(self.mesh_config.clone(), self.trust_domain.clone())
            .excluding_unsafe_503(self.exclude_unsafe_503);
        let mesh = mesh.load(&mut loaded);
        let store = Store::build(loaded.objects.iter().cloned(), mesh);
        Ok((store, loaded))
    }
}

impl Validate {
    fn run(&self) -> Result<u8> {
        let (store, loaded) = self.objects.load()?;
        let findings = source::findings(&store, &loaded);
        for finding in &findings {
            println!("{finding}");
        }
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        let (objects, warnings) = (store.objects().len(), findings.len() - errors);
        eprintln!("{objects} objects in force, {errors} errors, {warnings} warnings");
        Ok(u8::from(errors > 0))
    }
}

impl Token {
    fn run(&self) -> Result<u8> {
        let token = Tokens::open(&self.ca.ca_dir)?.issue(&self.service_account, self.ttl, SystemTime::now())?;
        match &self.out {
            None => println!("{token}"),
            Some(file) => serve::ca::token::write(file, &token)?,
        }
        Ok(0)
    }
}

impl Compile {
    fn run(&self) -> Result<u8> {
        let (store, loaded) = self.objects.load()?;
        let findings: BTreeSet<Diagnostic> = source::findings(&store, &loaded).into_iter().collect();
        let mut labels = BTreeMap::new();
        for label in &self.labels {
            let (key, value) = label
                .split_once('=')
                .with_context(|| format!("--label {label:?} is not KEY=VALUE"))?;
            labels.insert(key.to_owned(), value.to_owned());
        }
        let id = NodeId::parse(&self.node).context("--node")?;
        let yaml = matches!(self.output, Output::Yaml);
        let (text, warnings) = cli_compile::run(&store, &Proxy::new(id, labels), yaml)?;
        for finding in &findings {
            eprintln!("{finding}");
        }
        let reported = source::Reported::of(&findings);
        // Settings of the mesh are among the findings already, with file and line.
        let rest = warnings
            .iter()
            .filter(|w| w.object != "MeshConfig" && !reported.covers(w));
        for warning in rest {
            let place = &loaded.places;
            eprintln!(
                "{}",
                place.diagnostic(&warning.object, &warning.field, &warning.message, Severity::Warning)
            );
        }
        print!("{text}");
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sources_are_read() {
        assert_eq!(source("kubernetes"), Ok(Source::Kubernetes));
        assert_eq!(source("dir:./mesh"), Ok(Source::Directory("./mesh".into())));
        for bad in ["", "dir:", "mesh", "kubernetes:"] {
            assert!(source(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in ["", "h", "5", "-1h", "0s", "99999999999999999999d", "1é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
