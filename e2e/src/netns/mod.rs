//! Network namespaces that stand for pods, joined by a bridge in a namespace of its own.
//!
//! ```text
//! host ──veth── fm-ID-net: br0 ──veth── fm-ID-POD: eth0
//! ```
//!
//! Nothing is connected to a network of the machine: the one cable to the host carries only what the host itself sends to
//! the mesh and the answers. Pods have a /32 address and send everything to the bridge's namespace, which so is their
//! router: there ClusterIPs become pod addresses ([`services`]), and there a capture sees all traffic ([`capture`]).

pub mod capture;
pub mod command;
pub mod enter;
pub mod rootless;
pub mod services;
mod state;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use command::{ip, ip_batch, restore};
use rand::Rng as _;
use state::State;

/// How the names of all our namespaces and links begin.
pub const PREFIX: &str = "fm-";

/// Why network namespaces cannot be used here; `None` if they can.
pub fn unavailable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root, for network namespaces and iptables (try: sudo -E)".to_owned());
    }
    for (program, package) in [("ip", "iproute2"), ("iptables-restore", "iptables")] {
        let found = std::process::Command::new(program)
            .arg("-V")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        if found.is_err() {
            return Some(format!("it needs {program} (Debian: apt-get install {package})"));
        }
    }
    None
}

/// A mesh's network. Dropping it ends every process in its namespaces and removes them.
#[derive(Debug)]
pub struct Network {
    id: String,
    /// Third byte of all our addresses.
    number: u8,
    state: State,
    next_host: AtomicU8,
    next_link: AtomicU32,
}

/// A pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Name of the network namespace.
    pub name: String,
    /// Address of `eth0`.
    pub ip: Ipv4Addr,
}

impl Space {
    /// File by which the namespace is entered.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }
}

impl Network {
    /// Removes what a crashed run left behind, then makes an empty network.
    ///
    /// # Errors
    /// When we are not root, `ip` or `iptables` is missing, or no range of addresses is free.
    pub fn create() -> Result<Network> {
        if let Some(why) = unavailable() {
            bail!("the mesh's network cannot be made: {why}");
        }
        let lock = state::lock()?;
        state::clean_up_crashed(&lock)?;
        let number = free_number(&lock)?;
        let id = format!("{:06x}", rand::rng().random_range(0..0x100_0000));
        let state = State::create(&lock, &id, number)?;
        let network = Network {
            id,
            number,
            state,
            next_host: AtomicU8::new(2),
            next_link: AtomicU32::new(0),
        };
        network.build().context("the mesh's network")?;
        Ok(network)
    }

    /// Part of every name that this network made.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Folder for files of this run; it is removed with the network.
    pub fn files(&self) -> PathBuf {
        self.state.files()
    }

    /// Leaves [`Network::files`] where they are, for someone who wants to know what went wrong.
    pub fn keep_files(&self) {
        self.state.keep_files();
    }

    /// Namespace of the bridge.
    pub fn root(&self) -> Space {
        Space {
            name: format!("{PREFIX}{}-net", self.id),
            ip: self.gateway(),
        }
    }

    /// Interface in [`Network::root`] that sees all traffic between pods.
    pub fn bridge(&self) -> &'static str {
        "br0"
    }

    /// Address of the bridge, the pods' router.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 1)
    }

    /// An address of the range for Services.
    pub fn service_address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, self.number, host)
    }

    /// The name server's address.
    pub fn dns_address(&self) -> Ipv4Addr {
        self.service_address(10)
    }

    /// Address by which the mesh knows the host.
    pub fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 245, self.number, 1)
    }

    fn build(&self) -> Result<()> {
        let (root, n) = (self.root().name, self.number);
        self.state.add(&root)?;
        ip(&format!("netns add {root}"))?;
        // Rules first, cables after: there is no moment in which traffic could get out.
        let host_net = format!("10.245.{n}.0/30");
        restore(
            &root,
            &format!(
                "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                 -A INPUT -i lo -j ACCEPT\n\
                 -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A INPUT -p icmp -j ACCEPT\n\
                 -A INPUT -d {dns}/32 -p udp --dport 53 -j ACCEPT\n\
                 -A INPUT -j REJECT\n\
                 -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A FORWARD -i br0 -o br0 -j ACCEPT\n\
                 -A FORWARD -s {host_net} -o br0 -j ACCEPT\n\
                 -A FORWARD -j REJECT --reject-with icmp-net-unreachable\nCOMMIT\n",
                dns = self.dns_address()
            ),
        )?;
        enter::inside(&self.root().path(), || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            // Every refused connection is told so at once, however many there are.
            std::fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0")?;
            // Pods are told of no shorter way: each packet passes the bridge's namespace.
            std::fs::write("/proc/sys/net/ipv4/conf/all/send_redirects", "0")?;
            std::fs::write("/proc/sys/net/ipv4/conf/default/send_redirects", "0")
        })?
        .context("forwarding between pods")?;
        ip_batch(&[
            format!("-n {root} link set lo up"),
            // An address of its own: else a bridge takes the lowest of its ports', another one when that pod goes, and the
            // others talk to nobody until they ask anew who the router is.
            format!("-n {root} link add br0 address 02:fe:00:00:00:{n:02x} type bridge"),
            format!("-n {root} addr add {}/24 dev br0", self.gateway()),
            format!("-n {root} addr add {}/32 dev lo", self.dns_address()),
            // Addresses of Services without endpoints refuse at once.
            format!("-n {root} route add unreachable 10.96.{n}.0/24"),
            format!("-n {root} link set br0 up"),
        ])?;
        let link = format!("{PREFIX}{}", self.id);
        ip_batch(&[
            format!("link add {link} type veth peer name host netns {root}"),
            format!("-n {root} addr add 10.245.{n}.2/30 dev host"),
            format!("-n {root} link set host up"),
            format!("addr add 10.245.{n}.1/30 dev {link}"),
            format!("link set {link} up"),
            format!("route add 10.244.{n}.0/24 via 10.245.{n}.2"),
            format!("route add 10.96.{n}.0/24 via 10.245.{n}.2"),
        ])
    }

    /// Makes a namespace with an address; `name` tells people what it is for.
    ///
    /// # Errors
    /// When `ip` refuses, or when all addresses of the network are taken.
    pub fn add(&self, name: &str) -> Result<Space> {
        let host = self.next_host.fetch_add(1, Ordering::Relaxed);
        if host == 0 || host == 255 {
            bail!("all addresses of the mesh's network are in use");
        }
        let space = Space {
            name: format!("{PREFIX}{}-{name}", self.id),
            ip: Ipv4Addr::new(10, 244, self.number, host),
        };
        let link = format!("v{}", self.next_link.fetch_add(1, Ordering::Relaxed));
        let (ns, root, gateway) = (&space.name, self.root().name, self.gateway());
        self.state.add(ns)?;
        ip_batch(&[
            format!("netns add {ns}"),
            format!("-n {ns} link set lo up"),
            format!("link add eth0 netns {ns} type veth peer name {link} netns {root}"),
            format!("-n {root} link set {link} master br0"),
            format!("-n {root} link set {link} up"),
            format!("-n {ns} addr add {}/32 dev eth0", space.ip),
            format!("-n {ns} link set eth0 up"),
            format!("-n {ns} route add {gateway}/32 dev eth0"),
            format!("-n {ns} route add default via {gateway}"),
        ])
        .with_context(|| format!("namespace {ns}"))?;
        Ok(space)
    }

    /// Ends what runs in a namespace and removes it.
    pub fn remove(&self, space: &Space) {
        state::remove_namespace(&space.name);
        self.state.forget(&space.name);
    }

    /// What the processes of a namespace see in /etc: resolv.conf and hosts.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write_etc(&self, space: &Space, file: &str, text: &str) -> Result<()> {
        let folder = Path::new("/etc/netns").join(&space.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
        std::fs::write(folder.join(file), text).with_context(|| format!("{}/{file}", folder.display()))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.state.remove_all();
    }
}

/// A third byte that neither the host's routes nor another run uses.
fn free_number(lock: &state::Lock) -> Result<u8> {
    let routes = ip("-4 route show table all")?;
    let taken = state::numbers(lock);
    let start = rand::rng().random_range(1..=254u8);
    (0..254u16)
        .filter_map(|step| u8::try_from((u16::from(start) - 1 + step) % 254 + 1).ok())
        .find(|n| {
            let ours = [format!("10.244.{n}."), format!("10.245.{n}."), format!("10.96.{n}.")];
            !taken.contains(n) && !ours.iter().any(|prefix| routes.contains(prefix.as_str()))
        })
        .context("no range 10.244.N.0/24 is free: are there other meshes running?")
}
