//! Istio's rules, one after the other.

use ipnet::IpNet;

use super::{Family, FamilyRules, Rule, Table};
use crate::config::{Config, DnsCapture, Interception, Owner, OwnerGroups, Ports, Ranges};

const INBOUND: &str = "ISTIO_INBOUND";
const REDIRECT: &str = "ISTIO_REDIRECT";
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const OUTPUT: &str = "ISTIO_OUTPUT";
const OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";
const DIVERT: &str = "ISTIO_DIVERT";
const TPROXY: &str = "ISTIO_TPROXY";
const DROP: &str = "ISTIO_DROP";

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
pub(super) struct Builder<'a> {
    config: &'a Config,
    family: Family,
    out: Vec<Rule>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(config: &'a Config, family: Family) -> Self {
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

    pub(super) fn build(mut self) -> FamilyRules {
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
