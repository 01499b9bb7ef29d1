//! The command line, which `cargo xtask bench` hands over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::net::TcpListener;

use crate::measure::Cores;
use crate::peers::{Peer, Programs};
use crate::pki::{Pki, Wrap};
use crate::{cases, control, floor, instructions, isolate, line, machine, plot, run, summary, table};

/// Measure mesh-proxy beside its peers.
#[derive(Debug, Parser)]
#[command(name = "mesh-bench", bin_name = "cargo xtask bench")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The data path: requests, streams, handshakes, memory.
    Data(Data),
    /// Instructions of one request through the sidecar's chain, under callgrind.
    Instructions(Instructions),
    /// The control plane: compiling, propagation to many proxies, memory.
    Control(control::Control),
    /// The forwarder that decides nothing (started by the bench).
    #[command(hide = true)]
    Floor(Floor),
}

/// What to measure, and where to write it.
#[derive(Debug, Args)]
pub(crate) struct Data {
    /// Whom to compare with.
    #[arg(long, value_delimiter = ',', default_value = "envoy,nginx,haproxy")]
    peer: Vec<Rival>,
    /// Only the main cases, short and once: about four minutes.
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    case: Vec<String>,
    /// How often each is measured (once with --quick, else three times); the table shows the median.
    #[arg(long)]
    repeat: Option<u32>,
    /// Seconds of each load.
    #[arg(long)]
    seconds: Option<u64>,
    /// No repetition begins that would end later.
    #[arg(long, default_value_t = 35)]
    minutes: u64,
    /// Show the table of each load too, not only the summary.
    #[arg(long)]
    details: bool,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write table and plots into this folder (docs/bench in the checkout).
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
    /// Say which cases there are, and end.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Instructions {
    /// Another build of mesh-proxy to compare with (`cargo xtask bench instructions --against REV` makes it).
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Requests that are counted, and then twice as many, in each round.
    #[arg(long, default_value_t = 200)]
    requests: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rival {
    Envoy,
    Nginx,
    Haproxy,
}

#[derive(Debug, Args)]
struct Floor {
    #[arg(long)]
    protocol: FloorProtocol,
    #[arg(long)]
    listen: u16,
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    tls_in: bool,
    #[arg(long)]
    tls_out: bool,
    /// Folder of certificates.
    #[arg(long)]
    pki: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FloorProtocol {
    Http1,
    Http2,
    Tcp,
}

impl Cli {
    /// Does what was asked for.
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            Command::Data(options) => data(&options),
            Command::Instructions(options) => {
                isolate::enter()?;
                instructions::run(&Programs::find()?, options.against.as_deref(), options.requests.max(1))
            }
            Command::Control(options) => control::run(&options),
            Command::Floor(options) => serve_floor(&options),
        }
    }
}

fn data(options: &Data) -> Result<()> {
    let named = |name: &str| options.case.is_empty() || options.case.iter().any(|c| name.contains(c.as_str()));
    let mut chosen = cases::all();
    chosen.retain(|c| named(c.name) && (c.quick || !options.quick || !options.case.is_empty()));
    if options.list {
        for case in chosen {
            line(&format!("{:<18} {}", case.name, case.title));
        }
        return Ok(());
    }
    anyhow::ensure!(
        !chosen.is_empty(),
        "no case is named {:?}; --list names them",
        options.case
    );
    isolate::enter()?;
    let programs = Programs::find()?;
    let cores = Cores::of_machine()?;
    let machine = machine::Machine::look(&cores, &programs);
    for text in machine.lines() {
        line(&text);
    }
    let mut peers = vec![Peer::Direct, Peer::Floor, Peer::MeshProxy];
    peers.extend(options.peer.iter().map(|r| match r {
        Rival::Envoy => Peer::Envoy,
        Rival::Nginx => Peer::Nginx,
        Rival::Haproxy => Peer::Haproxy,
    }));
    let settings = run::Settings {
        peers,
        repeat: options.repeat.unwrap_or(if options.quick { 1 } else { 3 }).max(1),
        seconds: options.seconds.unwrap_or(2).max(1),
        quick: options.quick,
        limit: std::time::Duration::from_secs(options.minutes * 60),
        programs,
        cores,
    };
    let report = run::run(&chosen, &settings, machine)?;
    if options.details {
        for text in table::lines(&report) {
            line(&text);
        }
        line("");
    }
    for text in summary::lines(&report) {
        line(&text);
    }
    if let Some(path) = &options.json {
        report.write(path)?;
        line(&format!("written: {}", path.display()));
    }
    if let Some(folder) = &options.docs {
        plot::write(&report, folder)?;
        line(&format!("written: {}", folder.display()));
    }
    Ok(())
}

fn serve_floor(options: &Floor) -> Result<()> {
    let pki = Pki::of(&options.pki);
    let alpn: &[&str] = match options.protocol {
        FloorProtocol::Http1 => &["http/1.1"],
        FloorProtocol::Http2 => &["h2"],
        FloorProtocol::Tcp => &[],
    };
    let mut wrap = Wrap::default();
    if options.tls_in {
        wrap.server = Some(std::sync::Arc::new(pki.server(alpn)?).into());
    }
    if options.tls_out {
        wrap.client = Some(std::sync::Arc::new(pki.client(alpn)?).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", options.listen))
            .await
            .with_context(|| format!("port {}", options.listen))?;
        match options.protocol {
            FloorProtocol::Http1 => floor::http1(listener, options.to, wrap).await,
            FloorProtocol::Http2 => floor::streams::http2(listener, options.to, wrap).await,
            FloorProtocol::Tcp => floor::streams::tcp(listener, options.to, wrap).await,
        }
    })
}

/// A folder for the files of a run.
pub(crate) fn scratch(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}
