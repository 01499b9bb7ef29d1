//! The program: what is started, in which order, and how it ends.

mod capture;
mod dns;
mod drain;
mod log;
mod request;
mod sockets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context as _;
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use prost::Message;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::{self, CommandLine, LogControl};
use crate::agent::{self, Agent};
use crate::cli::{AgentArgs, Cli, Command, Mode, ProxyRole, RunArgs, VersionOutput};
use crate::listener;
use crate::shared::{Drain, Shared};
use crate::snapshot::build::{Builder, Invalid};
use crate::snapshot::config::Config;
use crate::upstream::{health_check, outlier, slow_start};
use crate::worker::Workers;
use crate::{bootstrap, tls, xds};

/// Does what the command line says.
///
/// # Errors
/// What keeps the program from doing it, as one text for the operator.
pub fn main(cli: Cli) -> anyhow::Result<ExitCode> {
    tls::install_provider();
    match cli.command {
        None => from_file(cli.run),
        Some(
            Command::Sidecar(args)
            | Command::Proxy {
                role: ProxyRole::Sidecar(args),
            },
        ) => from_environment(agent::Role::Sidecar, args),
        Some(
            Command::Router(args)
            | Command::Proxy {
                role: ProxyRole::Router(args),
            },
        ) => from_environment(agent::Role::Router, args),
        Some(Command::Request {
            method,
            path,
            admin,
            debug_port,
        }) => {
            let admin = debug_port.map_or(admin, |port| format!("127.0.0.1:{port}"));
            let answer = request::ask(&admin, &method, &path, request::TIMEOUT)?;
            print(&answer.body)?;
            anyhow::ensure!(answer.status < 400, "{method} {path}: status {}", answer.status);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Wait {
            period_millis,
            request_timeout_millis,
            timeout_seconds,
            url,
        }) => {
            request::wait(
                &url,
                Duration::from_millis(period_millis),
                Duration::from_millis(request_timeout_millis.max(1)),
                Duration::from_secs(timeout_seconds),
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Version { short, output }) => {
            print(version(short, output).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::IstioIptables { flags }) => Err(request::become_init(&flags)),
    }
}

fn version(short: bool, output: Option<VersionOutput>) -> String {
    let number = env!("CARGO_PKG_VERSION");
    match output {
        Some(VersionOutput::Json) => format!("{{\"clientVersion\": {{\"version\": \"{number}\"}}}}"),
        Some(VersionOutput::Yaml) => format!("clientVersion:\n  version: {number}"),
        None if short => number.to_owned(),
        None => format!("version.BuildInfo{{Version:\"{number}\"}}"),
    }
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    if !bytes.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn from_file(args: RunArgs) -> anyhow::Result<ExitCode> {
    let (shown, mut bootstrap) = match (&args.config_path, &args.config_yaml) {
        (Some(path), _) => (path.display().to_string(), bootstrap::read(path)?),
        (None, Some(text)) => ("--config-yaml".to_owned(), bootstrap::parse(text)?),
        (None, None) => anyhow::bail!("a bootstrap is required: -c FILE; see --help"),
    };
    if let Some(id) = &args.service_node {
        bootstrap.node.get_or_insert_default().id.clone_from(id);
    }
    if let Some(cluster) = &args.service_cluster {
        bootstrap.node.get_or_insert_default().cluster.clone_from(cluster);
    }
    if args.mode == Mode::Validate {
        return Ok(validate(&shown, bootstrap));
    }
    let log = log::start(&args.log_level, false)?;
    serve(Settings {
        shown,
        bootstrap,
        agent: None,
        workers: args.concurrency.unwrap_or(0),
        drain: drain::Limits {
            quiet: Duration::ZERO,
            most: Duration::from_secs(args.drain_time_s),
            with_app: false,
        },
        data_dir: args.data_dir,
        log: Some(log),
        command_line: CommandLine {
            config_path: args.config_path,
            concurrency: args.concurrency.unwrap_or(0),
            log_level: args.log_level,
            drain_time_s: args.drain_time_s,
        },
    })
}

fn from_environment(role: agent::Role, args: AgentArgs) -> anyhow::Result<ExitCode> {
    let log = log::start(&args.log_level, args.log_as_json)?;
    let environment = agent::Environment::from_process();
    let agent = Agent::new(role, &args, &environment).map_err(|errors| {
        let list: Vec<_> = errors.iter().map(|e| format!("\n  {e}")).collect();
        anyhow::anyhow!("the environment does not describe a pod of the mesh:{}", list.concat())
    })?;
    for warning in agent.warnings.iter().chain(&without_effect(&args)) {
        tracing::warn!("{warning}");
    }
    let mut bootstrap = agent.bootstrap();
    if let Some(path) = &args.outlier_log_path {
        let manager = bootstrap.cluster_manager.get_or_insert_default();
        let detection = manager.outlier_detection.get_or_insert_default();
        detection.event_log_path.clone_from(path);
    }
    serve(Settings {
        shown: "the environment".to_owned(),
        bootstrap,
        workers: agent.concurrency,
        drain: drain::Limits {
            quiet: agent.quiet,
            most: agent.drain,
            with_app: matches!(role, agent::Role::Sidecar),
        },
        data_dir: agent.data_dir.clone(),
        log: Some(log),
        command_line: CommandLine {
            config_path: None,
            concurrency: agent.concurrency,
            log_level: args.log_level,
            drain_time_s: agent.drain.as_secs(),
        },
        agent: Some(agent),
    })
}

/// Flags of Istio's templates that ask for something which is not there.
fn without_effect(args: &AgentArgs) -> Vec<String> {
    let flags = [
        (args.sts_port.is_some(), "--stsPort: tokens are not exchanged"),
        (
            args.service_cluster.is_some(),
            "--serviceCluster: the pod's labels say its service; set service.istio.io/canonical-name",
        ),
        (
            args.template_file.is_some(),
            "--templateFile: the proxy makes its bootstrap itself",
        ),
    ];
    let set = flags.into_iter().filter_map(|(set, why)| set.then_some(why));
    set.map(|why| format!("no effect: {why}")).collect()
}

/// `--mode validate`: as Envoy, one line when all is well; else all that is wrong.
fn validate(shown: &str, mut bootstrap: Bootstrap) -> ExitCode {
    let shared = Shared::new(bootstrap::node(&bootstrap));
    let mut builder = Builder::new(shared).with_patience(Duration::ZERO);
    let mut refused = bootstrap::check_outline(&mut bootstrap);
    let of_source = xds::check_bootstrap(&bootstrap);
    refused.extend(bootstrap::load_static(&mut bootstrap, &mut builder).1);
    refused.extend(of_source);
    if refused.is_empty() {
        let _ = print(format!("configuration '{shown}' OK").as_bytes());
        return ExitCode::SUCCESS;
    }
    eprintln!("{}", refusals(shown, &refused));
    ExitCode::FAILURE
}

fn refusals(shown: &str, refused: &[Invalid]) -> String {
    let lines: Vec<_> = refused.iter().map(|r| format!("\n  {r}")).collect();
    format!("configuration '{shown}' cannot be used:{}", lines.concat())
}

/// Everything that a run needs to know.
struct Settings {
    shown: String,
    bootstrap: Bootstrap,
    agent: Option<Agent>,
    /// 0 for one a core.
    workers: u32,
    drain: drain::Limits,
    data_dir: Option<PathBuf>,
    log: Option<LogControl>,
    command_line: CommandLine,
}

/// For the access logs of the last connections to reach their files.
const LAST_LINES: Duration = Duration::from_secs(1);

fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(run(settings));
    // Tasks that wait on files or names do not keep the process.
    runtime.shutdown_background();
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs the proxy until it is told to end. In this order: configuration that is at hand, admin ports, workers and
/// listeners, then everything that talks to the control plane. All of it except the workers is on this thread.
async fn run(mut settings: Settings) -> anyhow::Result<()> {
    let (agent, bootstrap) = (&settings.agent, &mut settings.bootstrap);
    let mut node = bootstrap::node(bootstrap);
    node.identity = agent.as_ref().map(|a| a.identity.to_string().into());
    let shared = Shared::new(node);
    shared.resources.set_bootstrap(bootstrap.encode_to_vec());

    // Configuration at hand: static resources, then what the control plane said in an earlier life.
    let mut refused = bootstrap::check_outline(bootstrap);
    let mut builder = Builder::new(shared.clone());
    // It may name a static cluster.
    let source = xds::Settings::from_bootstrap(bootstrap, agent.as_ref());
    let (snapshot, of_resources) = bootstrap::load_static(bootstrap, &mut builder);
    refused.extend(of_resources);
    let Settings {
        shown,
        agent,
        drain: limits,
        ..
    } = &settings;
    let source = match source {
        Ok(source) => source,
        Err(e) => {
            refused.push(e);
            None
        }
    };
    anyhow::ensure!(refused.is_empty(), "{}", refusals(shown, &refused));
    if let Some(snapshot) = snapshot {
        shared.publish(snapshot);
    }
    let config = Config::new(shared.clone(), builder);
    let dynamic = source.is_some();
    set_readiness(&shared, dynamic, agent.as_ref());
    let last_good = settings.data_dir.as_deref().map(xds::LastGood::new);
    if dynamic && let Some(last_good) = &last_good {
        last_good.load(&config);
    }

    // Admin ports.
    let (commands, mut asked) = mpsc::unbounded_channel();
    let options = admin_options(&settings, commands);
    let bound = admin::start(shared.clone(), options).await?;
    if let Some(address) = bound.admin {
        tracing::info!(%address, "admin API");
    }

    // The data path.
    let count = match settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n as usize,
    };
    let workers = Workers::start(count, &shared).context("cannot start workers")?;
    listener::start(&shared, &workers);
    tracing::info!(workers = count, node = shared.node.id, "serving");

    let manager = settings.bootstrap.cluster_manager.as_ref();
    if let Some(detection) = manager.and_then(|m| m.outlier_detection.as_ref())
        && !detection.event_log_path.is_empty()
    {
        outlier::log_to(&detection.event_log_path);
    }

    // What keeps the configuration fresh.
    let follow = config.clone();
    tokio::spawn(async move { follow.run().await });
    tokio::spawn(dns::run(config.clone(), shared.clone()));
    tokio::spawn(health_check::run(shared.clone()));
    tokio::spawn(outlier::run(shared.clone()));
    tokio::spawn(slow_start::run(shared.clone()));
    tokio::spawn(watch_listeners(shared.clone()));
    if let Some(agent) = agent {
        if let Some(goal) = agent.capture_proof {
            tokio::spawn(capture::prove(shared.clone(), goal));
        }
        agent.start(&config, last_good.as_ref()).await?;
    }
    if let Some(source) = source {
        tokio::spawn(xds::run(source, config.clone(), last_good));
    }

    let mut signals = Signals::new()?;
    wait_for_the_end(&shared, &mut asked, &mut signals).await;
    tokio::select! {
        () = drain::drain(&shared, *limits) => {}
        signal = signals.any() => tracing::info!("{signal} again: ending at once"),
    }
    // The last thing: nothing else runs on this thread any more.
    crate::telemetry::access_log::flush(LAST_LINES);
    Ok(())
}

/// What is not needed is there from the start.
fn set_readiness(shared: &Shared, dynamic: bool, agent: Option<&Agent>) {
    let readiness = &shared.readiness;
    readiness.clusters.store(!dynamic, Relaxed);
    readiness.listeners_configured.store(!dynamic, Relaxed);
    readiness.identity.store(agent.is_none(), Relaxed);
    let proof = agent.and_then(|a| a.capture_proof);
    readiness.uncaptured.store(proof.is_some(), Relaxed);
}

/// Notes when the workers listen.
async fn watch_listeners(shared: Arc<Shared>) {
    let mut ready = shared.listeners.ready();
    if ready.wait_for(|ready| *ready).await.is_ok() {
        shared.readiness.workers.store(true, Relaxed);
    }
}

fn admin_options(settings: &Settings, commands: mpsc::UnboundedSender<admin::Command>) -> admin::Options {
    let page = |port: fn(&agent::Ports) -> u16| {
        let agent = settings.agent.as_ref()?;
        Some(SocketAddr::new(agent.wildcard(), port(&agent.ports)))
    };
    let address = settings.bootstrap.admin.as_ref().and_then(|a| a.address.as_ref());
    admin::Options {
        admin: address.and_then(bootstrap::socket_address),
        agent: settings.agent.is_some(),
        readiness: page(|p| p.readiness),
        metrics: page(|p| p.metrics),
        status: page(|p| p.status),
        app_metrics: settings.agent.as_ref().and_then(|a| a.app_metrics.clone()),
        app_probes: settings
            .agent
            .as_ref()
            .map(|a| a.app_probes.clone())
            .unwrap_or_default(),
        commands,
        log: settings.log.clone(),
        command_line: settings.command_line.clone(),
    }
}

/// Signals that end the program.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A signal, or the admin API.
async fn wait_for_the_end(shared: &Shared, asked: &mut mpsc::UnboundedReceiver<admin::Command>, signals: &mut Signals) {
    loop {
        tokio::select! {
            signal = signals.any() => {
                tracing::info!("{signal}");
                return;
            }
            command = asked.recv() => match command {
                Some(admin::Command::Quit) => {
                    tracing::info!("asked to end by the admin API");
                    return;
                }
                Some(admin::Command::Drain { .. }) => {
                    tracing::info!("asked to drain by the admin API");
                    shared.drain.send_replace(Drain::Draining);
                }
                None => std::future::pending().await,
            },
        }
    }
}
