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

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// Of what kind the addresses of pods and Services are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// `10.x.N.H`
    #[default]
    V4,
    /// `fd10:x:N::H`
    V6,
}

/// The networks of a mesh, with the part of their addresses that tells them apart: decimal for IPv4, hexadecimal for IPv6.
#[derive(Debug, Clone, Copy)]
enum Range {
    Services,
    Pods,
    Host,
}

impl Range {
    const ALL: [Range; 3] = [Range::Services, Range::Pods, Range::Host];

    fn address(self, family: Family, number: u8, host: u8) -> IpAddr {
        let (v4, v6) = match self {
            Range::Services => (96, 0x96),
            Range::Pods => (244, 0x244),
            Range::Host => (245, 0x245),
        };
        match family {
            Family::V4 => Ipv4Addr::new(10, v4, number, host).into(),
            Family::V6 => Ipv6Addr::new(0xfd10, v6, number.into(), 0, 0, 0, 0, host.into()).into(),
        }
    }

    /// The whole range as `ip` takes and shows it.
    fn net(self, family: Family, number: u8) -> String {
        let first = self.address(family, number, 0);
        match family {
            Family::V4 => format!("{first}/24"),
            Family::V6 => format!("{first}/48"),
        }
    }
}

/// A mesh's network. Dropping it ends every process in its namespaces and removes them.
#[derive(Debug)]
pub struct Network {
    id: String,
    family: Family,
    /// Third byte, or third group, of all our addresses.
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
    pub ip: IpAddr,
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
    pub fn create(family: Family) -> Result<Network> {
        if let Some(why) = unavailable() {
            bail!("the mesh's network cannot be made: {why}");
        }
        let lock = state::lock()?;
        state::clean_up_crashed(&lock)?;
        let number = free_number(&lock, family)?;
        let id = format!("{:06x}", rand::rng().random_range(0..0x100_0000));
        let state = State::create(&lock, &id, number)?;
        let network = Network {
            id,
            family,
            number,
            state,
            next_host: AtomicU8::new(2),
            next_link: AtomicU32::new(0),
        };
        network.build().context("the mesh's network")?;
        Ok(network)
    }

    /// Of what kind its addresses are.
    pub fn family(&self) -> Family {
        self.family
    }

    fn address(&self, range: Range, host: u8) -> IpAddr {
        range.address(self.family, self.number, host)
    }

    fn net(&self, range: Range) -> String {
        range.net(self.family, self.number)
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
    pub fn gateway(&self) -> IpAddr {
        self.address(Range::Pods, 1)
    }

    /// An address of the range for Services.
    pub fn service_address(&self, host: u8) -> IpAddr {
        self.address(Range::Services, host)
    }

    /// The name server's address.
    pub fn dns_address(&self) -> IpAddr {
        self.service_address(10)
    }

    /// Address by which the mesh knows the host.
    pub fn host_address(&self) -> IpAddr {
        self.address(Range::Host, 1)
    }

    fn build(&self) -> Result<()> {
        let (root, n) = (self.root().name, self.number);
        self.state.add(&root)?;
        ip(&format!("netns add {root}"))?;
        quiet_ipv6(&self.root())?;
        // Rules first, cables after: there is no moment in which traffic could get out.
        let (icmp, unreachable) = match self.family {
            Family::V4 => ("icmp", "icmp-net-unreachable"),
            Family::V6 => ("ipv6-icmp", "icmp6-no-route"),
        };
        restore(
            &root,
            self.family,
            &format!(
                "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                 -A INPUT -i lo -j ACCEPT\n\
                 -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A INPUT -p {icmp} -j ACCEPT\n\
                 -A INPUT -d {dns} -p udp --dport 53 -j ACCEPT\n\
                 -A INPUT -j REJECT\n\
                 -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A FORWARD -i br0 -o br0 -j ACCEPT\n\
                 -A FORWARD -s {host_net} -o br0 -j ACCEPT\n\
                 -A FORWARD -j REJECT --reject-with {unreachable}\nCOMMIT\n",
                dns = self.dns_address(),
                host_net = self.net(Range::Host),
            ),
        )?;
        let family = self.family;
        enter::inside(&self.root().path(), move || {
            if family == Family::V6 {
                std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
                return std::fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0");
            }
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
            self.has(&root, "br0", self.gateway(), &self.net(Range::Pods)),
            self.has(&root, "lo", self.dns_address(), ""),
            // Addresses of Services without endpoints refuse at once.
            format!("-n {root} route add unreachable {}", self.net(Range::Services)),
            format!("-n {root} link set br0 up"),
        ])?;
        let link = format!("{PREFIX}{}", self.id);
        let (near, far) = (self.host_address(), self.address(Range::Host, 2));
        let host_net = self.net(Range::Host);
        ip_batch(&[
            format!("link add {link} type veth peer name host netns {root}"),
            self.has(&root, "host", far, &host_net),
            format!("-n {root} link set host up"),
            has(&link, near, &host_net),
            format!("link set {link} up"),
            format!("route add {} via {far}", self.net(Range::Pods)),
            format!("route add {} via {far}", self.net(Range::Services)),
        ])
    }

    /// The `ip` command that gives a link in a namespace an address, alone or as one of a range.
    fn has(&self, namespace: &str, link: &str, address: IpAddr, range: &str) -> String {
        format!("-n {namespace} {}", has(link, address, range))
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
            ip: self.address(Range::Pods, host),
        };
        let link = format!("v{}", self.next_link.fetch_add(1, Ordering::Relaxed));
        let (ns, root, gateway) = (&space.name, self.root().name, self.gateway());
        self.state.add(ns)?;
        ip(&format!("netns add {ns}"))?;
        quiet_ipv6(&space)?;
        ip_batch(&[
            format!("-n {ns} link set lo up"),
            format!("link add eth0 netns {ns} type veth peer name {link} netns {root}"),
            format!("-n {root} link set {link} master br0"),
            format!("-n {root} link set {link} up"),
            self.has(ns, "eth0", space.ip, ""),
            format!("-n {ns} link set eth0 up"),
            format!("-n {ns} route add {gateway} dev eth0"),
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

/// For links that are yet to come: their IPv6 addresses are of use at once (waiting for objections takes a second or two),
/// and pods do not listen to a router that tells them of a shorter way.
fn quiet_ipv6(space: &Space) -> Result<()> {
    enter::inside(&space.path(), || {
        let settings = Path::new("/proc/sys/net/ipv6/conf");
        if !settings.exists() {
            return Ok(());
        }
        for name in ["accept_dad", "accept_redirects"] {
            std::fs::write(settings.join("all").join(name), "0")?;
            std::fs::write(settings.join("default").join(name), "0")?;
        }
        Ok::<_, std::io::Error>(())
    })?
    .context("settings of IPv6")
}

/// The `ip` command that gives a link an address, alone or as one of a range.
fn has(link: &str, address: IpAddr, range: &str) -> String {
    let prefix = range
        .split_once('/')
        .map_or(String::new(), |(_, length)| format!("/{length}"));
    // The host's own link waits for objections, too.
    let nodad = if address.is_ipv6() { " nodad" } else { "" };
    format!("addr add {address}{prefix} dev {link}{nodad}")
}

/// A third byte that neither the host's routes nor another run uses.
fn free_number(lock: &state::Lock, family: Family) -> Result<u8> {
    let routes = match family {
        Family::V4 => ip("-4 route show table all")?,
        Family::V6 => ip("-6 route show table all")?,
    };
    let taken = state::numbers(lock);
    let start = rand::rng().random_range(1..=254u8);
    // Also a part of the range would be one too many.
    let in_use = |range: Range, n: u8| {
        let net = range.net(family, n);
        let part = net.trim_end_matches("0/24").trim_end_matches(":/48");
        routes.contains(part)
    };
    (0..254u16)
        .filter_map(|step| u8::try_from((u16::from(start) - 1 + step) % 254 + 1).ok())
        .find(|n| !taken.contains(n) && !Range::ALL.iter().any(|range| in_use(*range, *n)))
        .context("no range 10.244.N.0/24 or fd10:244:N::/48 is free: are there other meshes running?")
}
