//! The proxies, each with the configuration that a case asks for, one worker each.

mod envoy;
mod haproxy;
mod nginx;
mod process;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cases::{Case, Chain, Hops, Protocol};
use crate::pki::Pki;
pub(crate) use envoy::{address, admin, asked_host, speak_http2};
pub(crate) use process::Process;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// No proxy at all: what load and upstream give by themselves.
    Direct,
    /// The bare hyper forwarder.
    Floor,
    MeshProxy,
    Envoy,
    Nginx,
    Haproxy,
}

impl Peer {
    /// As tables show it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "no proxy",
            Self::Floor => "floor (bare hyper)",
            Self::MeshProxy => "mesh-proxy",
            Self::Envoy => "Envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Whether this is somebody else's proxy, which ours is compared with.
    pub(crate) const fn is_rival(self) -> bool {
        matches!(self, Self::Envoy | Self::Nginx | Self::Haproxy)
    }

    /// Whether it can do what the case asks for.
    pub(crate) const fn can(self, case: &Case) -> bool {
        match self {
            Self::MeshProxy | Self::Envoy => true,
            Self::Direct => {
                matches!(case.hops, Hops::One)
                    && matches!(case.chain, Chain::Bare)
                    && !matches!(case.protocol, Protocol::Https)
            }
            // It decides nothing, whatever there were to decide.
            Self::Floor => !matches!(case.chain, Chain::Pushed(_)),
            Self::Nginx => matches!(case.chain, Chain::Bare | Chain::Hosts(_)),
            Self::Haproxy => matches!(case.chain, Chain::Bare),
        }
    }
}

/// Ports of one start, never used twice in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    first: u16,
}

impl Ports {
    /// The ports of start number so and so.
    pub(crate) fn of_start(number: u16) -> Self {
        Self {
            first: 20_000 + (number % 4_000) * 10,
        }
    }

    /// Where the load knocks.
    pub(crate) fn front(self) -> u16 {
        self.first
    }

    /// Between the proxies of a pair.
    pub(crate) fn between(self) -> u16 {
        self.first + 1
    }

    /// Where the control plane of pushed cases is.
    pub(crate) fn control(self) -> u16 {
        self.first + 4
    }

    /// The administration port of a proxy.
    pub(crate) fn admin(self, role: Role) -> u16 {
        self.first
            + match role {
                Role::Client => 3,
                Role::Alone | Role::Server => 2,
            }
    }
}

/// Which proxy of a row this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The only one.
    Alone,
    /// The first of a pair: plaintext in, mutual TLS out.
    Client,
    /// The second of a pair: mutual TLS in, plaintext out.
    Server,
}

/// All that a configuration is made from.
pub(crate) struct Plan<'a> {
    pub(crate) case: &'a Case,
    pub(crate) role: Role,
    pub(crate) ports: Ports,
    pub(crate) upstream: SocketAddr,
    pub(crate) pki: &'a Pki,
    /// For configuration files; one for each start.
    pub(crate) folder: &'a Path,
    pub(crate) programs: &'a Programs,
}

impl Plan<'_> {
    /// Where this proxy listens.
    pub(crate) fn listen(&self) -> u16 {
        match self.role {
            Role::Alone | Role::Client => self.ports.front(),
            Role::Server => self.ports.between(),
        }
    }

    /// Where it sends to.
    pub(crate) fn to(&self) -> SocketAddr {
        match self.role {
            Role::Alone | Role::Server => self.upstream,
            Role::Client => SocketAddr::from(([127, 0, 0, 1], self.ports.between())),
        }
    }

    /// Mutual TLS towards the client.
    pub(crate) fn tls_in(&self) -> bool {
        self.role == Role::Server || self.case.protocol == Protocol::Https
    }

    /// Mutual TLS towards the upstream.
    pub(crate) fn tls_out(&self) -> bool {
        self.role == Role::Client
    }

    /// Writes a file of this proxy.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let role = match self.role {
            Role::Alone => "",
            Role::Client => "client-",
            Role::Server => "server-",
        };
        let path = self.folder.join(format!("{role}{name}"));
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) mesh_proxy: PathBuf,
    pub(crate) mesh_control: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
}

impl Programs {
    /// What `cargo xtask bench` has built and fetched; by hand, what lies beside this program.
    pub(crate) fn find() -> Result<Self> {
        let own = std::env::current_exe().context("own path")?;
        let folder = std::env::var_os("FERROMESH_BIN_DIR").map(PathBuf::from);
        let folder = folder.or_else(|| own.parent().map(Path::to_owned)).unwrap_or_default();
        Ok(Self {
            mesh_proxy: folder.join("mesh-proxy"),
            mesh_control: folder.join("mesh-control"),
            envoy: std::env::var_os("ENVOY_BIN").map(PathBuf::from),
        })
    }
}

/// Starts one proxy.
pub(crate) fn start(peer: Peer, plan: &Plan<'_>) -> Result<Process> {
    let (program, args) = command(peer, plan)?;
    Process::spawn(&program, &args, plan.folder)
}

/// Writes the configuration of one proxy, and gives its program and arguments.
pub(crate) fn command(peer: Peer, plan: &Plan<'_>) -> Result<(PathBuf, Vec<String>)> {
    match peer {
        Peer::MeshProxy => envoy::mesh_proxy(plan),
        Peer::Envoy => envoy::envoy(plan),
        Peer::Nginx => nginx::command(plan),
        Peer::Haproxy => haproxy::command(plan),
        Peer::Floor => floor(plan),
        Peer::Direct => anyhow::bail!("there is nothing to start without a proxy"),
    }
}

fn floor(plan: &Plan<'_>) -> Result<(PathBuf, Vec<String>)> {
    let mut args = vec![
        "floor".to_owned(),
        "--protocol".to_owned(),
        match plan.case.protocol {
            Protocol::Http1 | Protocol::Https => "http1",
            Protocol::Http2 => "http2",
            Protocol::Tcp => "tcp",
        }
        .to_owned(),
        "--listen".to_owned(),
        plan.listen().to_string(),
        "--to".to_owned(),
        plan.to().to_string(),
    ];
    if plan.tls_in() {
        args.push("--tls-in".to_owned());
    }
    if plan.tls_out() {
        args.push("--tls-out".to_owned());
    }
    args.extend(["--pki".to_owned(), plan.pki.file("")]);
    Ok((std::env::current_exe()?, args))
}
