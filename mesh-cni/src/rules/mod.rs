//! The rules themselves: a pure function of the configuration, in the order in which Istio has them.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::config::{Config, Interception};

mod build;

use build::Builder;

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
