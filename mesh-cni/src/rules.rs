//! The rules themselves: a pure function of the configuration, in the order in which Istio has them.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::config::{Config, DnsCapture, Interception, Owner, OwnerGroups, Ports, Ranges};

const INBOUND: &str = "ISTIO_INBOUND";
const REDIRECT: &str = "ISTIO_REDIRECT";
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const OUTPUT: &str = "ISTIO_OUTPUT";
const OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";
const DIVERT: &str = "ISTIO_DIVERT";
const TPROXY: &str = "ISTIO_TPROXY";
const DROP: &str = "ISTIO_DROP";
/// How every chain of ours begins.
pub const CHAIN_PREFIX: &str = "ISTIO_";

/// Tables that we write to, in the order in which they stand in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Before connection tracking.
    Raw,
    /// Marks and the transparent proxy.
    Mangle,
    /// Redirection.
    Nat,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 3] = [Table::Raw, Table::Mangle, Table::Nat];

    /// As iptables calls it.
    pub fn name(self) -> &'static str {
        match self {
            Table::Raw => "raw",
            Table::Mangle => "mangle",
            Table::Nat => "nat",
        }
    }
}

/// Version of IP that a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Family {
    fn has(self, net: &IpNet) -> bool {
        matches!((self, net), (Family::V4, IpNet::V4(_)) | (Family::V6, IpNet::V6(_)))
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Table.
    pub table: Table,
    /// Chain.
    pub chain: &'static str,
    /// Position from 1, or at the end.
    pub insert_at: Option<usize>,
    /// Matches and target, as iptables reads them.
    pub spec: String,
}

impl Rule {
    /// Whether the chain is one of ours, so that a declaration of the chain removes the rule.
    pub fn in_own_chain(&self) -> bool {
        self.chain.starts_with(CHAIN_PREFIX)
    }

    /// The line for `iptables-restore`.
    pub fn line(&self) -> String {
        match self.insert_at {
            Some(position) => format!("-I {} {position} {}", self.chain, self.spec),
            None => format!("-A {} {}", self.chain, self.spec),
        }
    }
}

/// Rules of one family in the order in which they are to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FamilyRules(pub Vec<Rule>);

impl FamilyRules {
    /// Rules of one table, in order.
    pub fn table(&self, table: Table) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(move |rule| rule.table == table)
    }

    /// Chains of ours in a table: those that have rules and those that are jumped to.
    pub fn own_chains(&self, table: Table) -> Vec<&str> {
        let mut chains: Vec<&str> = Vec::new();
        for rule in self.table(table) {
            let target = rule.spec.split_whitespace().last().unwrap_or_default();
            for chain in [rule.chain, target] {
                if chain.starts_with(CHAIN_PREFIX) && !chains.contains(&chain) {
                    chains.push(chain);
                }
            }
        }
        chains.sort_unstable();
        chains
    }
}

/// All that capture needs: rules of both families and the `ip` commands for routes and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// IPv4.
    pub v4: FamilyRules,
    /// IPv6, if the pod has it.
    pub v6: Option<FamilyRules>,
    /// Arguments of `ip`, run in this order; each can be repeated without harm when preceded by [`RuleSet::undo`].
    pub ip: Vec<String>,
    /// Arguments of `ip` that take back what [`RuleSet::ip`] adds; failures mean that it was not there.
    pub undo: Vec<String>,
}

impl RuleSet {
    /// Families with their rules.
    pub fn families(&self) -> impl Iterator<Item = (Family, &FamilyRules)> {
        std::iter::once((Family::V4, &self.v4)).chain(self.v6.iter().map(|rules| (Family::V6, rules)))
    }

    /// The whole as text for people: programs for iptables-restore, then the `ip` commands.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (family, rules) in self.families() {
            let name = match family {
                Family::V4 => "iptables-restore",
                Family::V6 => "ip6tables-restore",
            };
            let _ = writeln!(out, "# {name} --noflush");
            out.push_str(&crate::plan::fresh(rules));
        }
        if !self.ip.is_empty() {
            out.push_str("# ip\n");
        }
        for command in &self.ip {
            let _ = writeln!(out, "ip {command}");
        }
        out
    }
}

/// The rules for a configuration.
pub fn rules(config: &Config) -> RuleSet {
    let (ip, undo) = ip_commands(config);
    RuleSet {
        v4: Builder::new(config, Family::V4).build(),
        v6: config.ipv6.then(|| Builder::new(config, Family::V6).build()),
        ip,
        undo,
    }
}

/// What an earlier run in another mode may have left outside our own chains: the rules to look for before writing new ones.
pub fn earlier(config: &Config) -> RuleSet {
    rules(&Config {
        interception: Interception::Tproxy,
        ..config.clone()
    })
}

fn ip_commands(config: &Config) -> (Vec<String>, Vec<String>) {
    let (mut add, mut undo) = (Vec::new(), Vec::new());
    if config.ipv6 {
        // The source address by which the proxy speaks to its own application; 127.0.0.6 needs no such line.
        add.push("-6 addr replace ::6/128 dev lo".to_owned());
        undo.push("-6 addr del ::6/128 dev lo".to_owned());
    }
    if config.interception == Interception::Tproxy {
        let (mark, table) = (config.tproxy_mark, config.tproxy_table);
        let mut families = vec![("-4", "0.0.0.0/0")];
        if config.ipv6 {
            families.push(("-6", "::/0"));
        }
        for (family, all) in families {
            add.push(format!("{family} rule add fwmark {mark} lookup {table}"));
            add.push(format!("{family} route replace local {all} dev lo table {table}"));
            undo.push(format!("{family} rule del fwmark {mark} lookup {table}"));
            undo.push(format!("{family} route del local {all} dev lo table {table}"));
        }
    }
    (add, undo)
}

impl Owner {
    /// A match for the owner's packets, or with `inverted` for all others.
    fn matching(self, inverted: bool) -> String {
        let not = if inverted { "! " } else { "" };
        match self {
            Owner::Uid(uid) => format!("-m owner {not}--uid-owner {uid}"),
            Owner::Gid(gid) => format!("-m owner {not}--gid-owner {gid}"),
            Owner::Mark(mark) => format!("-m mark {not}--mark {mark}"),
        }
    }
}

/// Collects the rules of one family.
struct Builder<'a> {
    config: &'a Config,
    family: Family,
    out: Vec<Rule>,
}

impl<'a> Builder<'a> {
    fn new(config: &'a Config, family: Family) -> Self {
        Builder {
            config,
            family,
            out: Vec::new(),
        }
    }

    fn add(&mut self, table: Table, chain: &'static str, spec: impl Into<String>) {
        self.out.push(Rule {
            table,
            chain,
            insert_at: None,
            spec: spec.into(),
        });
    }

    fn insert(&mut self, table: Table, chain: &'static str, position: usize, spec: impl Into<String>) {
        self.out.push(Rule {
            table,
            chain,
            insert_at: Some(position),
            spec: spec.into(),
        });
    }

    /// The loopback range that is never captured.
    fn loopback(&self) -> String {
        match self.family {
            Family::V4 => self.config.loopback_v4.to_string(),
            Family::V6 => "::1/128".to_owned(),
        }
    }

    /// Loopback address in matches that Istio does not let one configure.
    fn localhost(&self) -> &'static str {
        match self.family {
            Family::V4 => "127.0.0.1/32",
            Family::V6 => "::1/128",
        }
    }

    fn passthrough_source(&self) -> &'static str {
        match self.family {
            Family::V4 => "127.0.0.6/32",
            Family::V6 => "::6/128",
        }
    }

    fn is_ours(&self, net: &IpNet) -> bool {
        self.family.has(net)
    }

    fn dns_on(&self) -> bool {
        self.config.dns != DnsCapture::Off
    }

    fn dns_servers(&self) -> Vec<IpNet> {
        match &self.config.dns {
            DnsCapture::Servers(servers) => {
                let nets = servers.iter().copied().map(IpNet::from);
                nets.filter(|net| self.is_ours(net)).collect()
            }
            DnsCapture::Off | DnsCapture::All => Vec::new(),
        }
    }

    fn build(mut self) -> FamilyRules {
        self.interfaces();
        if self.config.drop_invalid {
            self.add(
                Table::Mangle,
                "PREROUTING",
                format!("-m conntrack --ctstate INVALID -j {DROP}"),
            );
            self.add(Table::Mangle, DROP, "-j DROP");
        }
        let (tunnel, outbound, inbound) = (
            self.config.tunnel_port,
            self.config.outbound_port,
            self.config.inbound_port,
        );
        self.add(Table::Nat, INBOUND, format!("-p tcp --dport {tunnel} -j RETURN"));
        self.add(
            Table::Nat,
            REDIRECT,
            format!("-p tcp -j REDIRECT --to-ports {outbound}"),
        );
        self.add(
            Table::Nat,
            IN_REDIRECT,
            format!("-p tcp -j REDIRECT --to-ports {inbound}"),
        );
        self.inbound();
        self.add(Table::Nat, "OUTPUT", format!("-j {OUTPUT}"));
        for port in &self.config.outbound_exclude_ports {
            self.add(Table::Nat, OUTPUT, format!("-p tcp --dport {port} -j RETURN"));
            self.add(Table::Nat, OUTPUT, format!("-p udp --dport {port} -j RETURN"));
        }
        let source = self.passthrough_source();
        self.add(Table::Nat, OUTPUT, format!("-o lo -s {source} -j RETURN"));
        for owner in &self.config.owners {
            self.owner(*owner);
        }
        self.owner_groups();
        if self.dns_on() {
            self.dns();
        }
        let loopback = self.loopback();
        self.add(Table::Nat, OUTPUT, format!("-d {loopback} -j RETURN"));
        for net in &self.config.outbound_exclude {
            if self.is_ours(net) {
                self.add(Table::Nat, OUTPUT, format!("-d {net} -j RETURN"));
            }
        }
        for port in &self.config.outbound_include_ports {
            self.add(Table::Nat, OUTPUT, format!("-p tcp --dport {port} -j {REDIRECT}"));
        }
        self.outbound_ranges();
        if self.config.interception == Interception::Tproxy {
            self.tproxy();
        }
        FamilyRules(self.out)
    }

    fn interfaces(&mut self) {
        for interface in &self.config.exclude_interfaces {
            let tproxy = self.config.interception == Interception::Tproxy;
            for table in [Some(Table::Nat), tproxy.then_some(Table::Mangle)]
                .into_iter()
                .flatten()
            {
                self.add(table, "PREROUTING", format!("-i {interface} -j RETURN"));
                self.add(table, "OUTPUT", format!("-o {interface} -j RETURN"));
            }
        }
        for interface in &self.config.virtual_interfaces {
            self.insert(Table::Nat, "PREROUTING", 1, format!("-i {interface} -j RETURN"));
        }
    }

    /// Inbound capture: which table has it depends on the interception mode.
    fn inbound(&mut self) {
        if self.config.inbound_include == Ports::List(Vec::new()) {
            return;
        }
        let (table, target) = match self.config.interception {
            Interception::Redirect => (Table::Nat, IN_REDIRECT),
            Interception::Tproxy => (Table::Mangle, TPROXY),
        };
        if self.config.interception == Interception::Tproxy {
            let (mark, port) = (self.config.tproxy_mark, self.config.inbound_port);
            let localhost = self.localhost();
            self.add(Table::Mangle, DIVERT, format!("-j MARK --set-mark {mark}"));
            self.add(Table::Mangle, DIVERT, "-j ACCEPT");
            self.add(
                Table::Mangle,
                TPROXY,
                format!("! -d {localhost} -p tcp -j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}"),
            );
        }
        self.add(table, "PREROUTING", format!("-p tcp -j {INBOUND}"));
        let matches: Vec<String> = match &self.config.inbound_include {
            Ports::All => {
                for port in &self.config.inbound_exclude {
                    self.add(table, INBOUND, format!("-p tcp --dport {port} -j RETURN"));
                }
                vec!["-p tcp".to_owned()]
            }
            Ports::List(ports) => ports.iter().map(|port| format!("-p tcp --dport {port}")).collect(),
        };
        for matching in matches {
            if self.config.interception == Interception::Tproxy {
                // Packets of a connection that the proxy has already: no new look-up of a listener.
                self.add(
                    table,
                    INBOUND,
                    format!("{matching} -m conntrack --ctstate RELATED,ESTABLISHED -j {DIVERT}"),
                );
            }
            self.add(table, INBOUND, format!("{matching} -j {target}"));
        }
    }

    /// What the proxy itself sends, and what the application sends to itself.
    fn owner(&mut self, owner: Owner) {
        let (localhost, tunnel) = (self.localhost(), self.config.tunnel_port);
        let (own, others) = (owner.matching(false), owner.matching(true));
        // The pair of ports needs the multiport match; for groups Istio never had it.
        let except = if self.dns_on() && !matches!(owner, Owner::Gid(_)) {
            format!("-m multiport ! --dports 53,{tunnel}")
        } else {
            format!("! --dport {tunnel}")
        };
        // A call of the proxy that comes back to this pod is inbound traffic: the application called its own service.
        self.add(
            Table::Nat,
            OUTPUT,
            format!("-o lo ! -d {localhost} -p tcp {except} {own} -j {IN_REDIRECT}"),
        );
        if !self.captures_loopback() {
            // The application calls its own address: nothing to route, nothing to secure.
            let tcp = if self.dns_on() { "-p tcp ! --dport 53 " } else { "" };
            self.add(Table::Nat, OUTPUT, format!("-o lo {tcp}{others} -j RETURN"));
        }
        // All else that the proxy sends goes out, or it would run in circles.
        self.add(Table::Nat, OUTPUT, format!("{own} -j RETURN"));
    }

    /// Whether a range to capture is a loopback one: then the user wants loopback traffic.
    fn captures_loopback(&self) -> bool {
        match &self.config.outbound_include {
            Ranges::All => false,
            Ranges::List(list) => list.iter().any(|net| net.addr().is_loopback()),
        }
    }

    fn owner_groups(&mut self) {
        match &self.config.owner_groups {
            OwnerGroups::All => {}
            OwnerGroups::Except(groups) => {
                for group in groups {
                    self.add(Table::Nat, OUTPUT, format!("-m owner --gid-owner {group} -j RETURN"));
                }
            }
            OwnerGroups::Only(groups) => {
                let matches: String = groups
                    .iter()
                    .map(|group| format!("-m owner ! --gid-owner {group} "))
                    .collect();
                self.add(Table::Nat, OUTPUT, format!("{matches}-j RETURN"));
            }
        }
    }

    /// DNS capture. The zones keep the query of the application and the query that the proxy sends on for it apart, as
    /// both can have the same addresses and ports.
    fn dns(&mut self) {
        let port = self.config.dns_port;
        self.add(Table::Nat, OUTPUT, format!("-j {OUTPUT_DNS}"));
        self.add(Table::Raw, "OUTPUT", format!("-j {OUTPUT_DNS}"));
        let servers = self.dns_servers();
        let destinations: Vec<String> = if self.config.dns == DnsCapture::All {
            vec![String::new()]
        } else {
            servers.iter().map(|server| format!("-d {server} ")).collect()
        };
        for to in &destinations {
            self.add(
                Table::Nat,
                OUTPUT_DNS,
                format!("-p tcp --dport 53 {to}-j REDIRECT --to-ports {port}"),
            );
        }
        for to in &destinations {
            self.add(
                Table::Nat,
                OUTPUT_DNS,
                format!("-p udp --dport 53 {to}-j REDIRECT --to-ports {port}"),
            );
        }
        for owner in &self.config.owners {
            let own = owner.matching(false);
            self.add(
                Table::Raw,
                OUTPUT_DNS,
                format!("-p udp --dport 53 {own} -j CT --zone 1"),
            );
            self.add(
                Table::Raw,
                OUTPUT_DNS,
                format!("-p udp --sport {port} {own} -j CT --zone 2"),
            );
        }
        for to in &destinations {
            self.add(Table::Raw, OUTPUT_DNS, format!("-p udp --dport 53 {to}-j CT --zone 2"));
        }
        if destinations.is_empty() {
            return;
        }
        self.add(Table::Raw, "PREROUTING", format!("-j {INBOUND}"));
        for to in &destinations {
            let from = to.replacen("-d", "-s", 1);
            self.add(Table::Raw, INBOUND, format!("-p udp --sport 53 {from}-j CT --zone 1"));
        }
    }

    fn outbound_ranges(&mut self) {
        match &self.config.outbound_include {
            Ranges::All => {
                self.add(Table::Nat, OUTPUT, format!("-j {REDIRECT}"));
                for interface in &self.config.virtual_interfaces {
                    self.insert(Table::Nat, "PREROUTING", 1, format!("-i {interface} -j {REDIRECT}"));
                }
            }
            Ranges::List(list) => {
                let family = self.family;
                for net in list.iter().filter(|net| family.has(net)) {
                    for interface in &self.config.virtual_interfaces {
                        self.insert(
                            Table::Nat,
                            "PREROUTING",
                            1,
                            format!("-i {interface} -d {net} -j {REDIRECT}"),
                        );
                    }
                    self.add(Table::Nat, OUTPUT, format!("-d {net} -j {REDIRECT}"));
                }
            }
        }
    }

    /// Marks that bring answers of the application back to the proxy's transparent sockets.
    fn tproxy(&mut self) {
        let (mark, own_mark) = (self.config.tproxy_mark, self.config.tproxy_mark.wrapping_add(1));
        let (localhost, source) = (self.localhost(), self.passthrough_source());
        self.add(
            Table::Mangle,
            "PREROUTING",
            format!("-m mark --mark {mark} -j CONNMARK --save-mark"),
        );
        self.add(
            Table::Mangle,
            "OUTPUT",
            format!("-p tcp -o lo -m mark --mark {mark} -j RETURN"),
        );
        for owner in &self.config.owners {
            let own = owner.matching(false);
            self.add(
                Table::Mangle,
                "OUTPUT",
                format!("! -d {localhost} -p tcp -o lo {own} -j MARK --set-mark {own_mark}"),
            );
        }
        self.add(
            Table::Mangle,
            "OUTPUT",
            format!("-p tcp -m connmark --mark {mark} -j CONNMARK --restore-mark"),
        );
        self.insert(
            Table::Mangle,
            INBOUND,
            1,
            format!("-p tcp -m mark --mark {mark} -j RETURN"),
        );
        self.insert(Table::Mangle, INBOUND, 2, format!("-p tcp -s {source} -i lo -j RETURN"));
        self.insert(
            Table::Mangle,
            INBOUND,
            3,
            format!("-p tcp -i lo -m mark ! --mark {own_mark} -j RETURN"),
        );
    }
}
