//! From rules to a program for `iptables-restore --noflush`, given what is there already.
//!
//! A chain that such a program declares is emptied first, so that our own chains need no more care. Rules in built-in
//! chains are taken out by name before they are written again, and chains of an earlier run that nobody needs any more go.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::rules::{CHAIN_PREFIX, FamilyRules, Rule, Table};

/// What was found in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// Own chains by table name.
    chains: BTreeMap<String, Vec<String>>,
    /// Rules (`PREROUTING -p tcp -j ISTIO_INBOUND`) of built-in chains that jump to chains of ours, by table name.
    jumps: BTreeMap<String, Vec<String>>,
    /// Rules of built-in chains without a jump to ours (marks, excluded interfaces) that were found to be there.
    pub others: Vec<Rule>,
}

impl Present {
    /// Reads the output of `iptables-save`.
    pub fn parse(save: &str) -> Present {
        let mut present = Present::default();
        let mut table = "";
        for line in save.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.trim();
            } else if let Some(chain) = line.strip_prefix(':') {
                let chain = chain.split_whitespace().next().unwrap_or_default();
                if chain.starts_with(CHAIN_PREFIX) {
                    present
                        .chains
                        .entry(table.to_owned())
                        .or_default()
                        .push(chain.to_owned());
                }
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let target = rule.split(" -j ").nth(1).unwrap_or_default();
                if !rule.starts_with(CHAIN_PREFIX) && target.starts_with(CHAIN_PREFIX) {
                    present.jumps.entry(table.to_owned()).or_default().push(rule.to_owned());
                }
            }
        }
        present
    }

    /// Whether nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty() && self.others.is_empty()
    }
}

/// The program that brings a namespace from `present` to `wanted`.
pub fn program(present: &Present, wanted: &FamilyRules) -> String {
    let mut out = String::new();
    for table in Table::ALL {
        write_table(&mut out, table, present, wanted);
    }
    out
}

/// The program for a namespace without any rule of ours.
pub fn fresh(wanted: &FamilyRules) -> String {
    program(&Present::default(), wanted)
}

/// The program that removes all that is ours.
pub fn cleanup(present: &Present) -> String {
    program(present, &FamilyRules::default())
}

fn write_table(out: &mut String, table: Table, present: &Present, wanted: &FamilyRules) {
    let none = Vec::new();
    let old_chains = present.chains.get(table.name()).unwrap_or(&none);
    let jumps = present.jumps.get(table.name()).unwrap_or(&none);
    let others: Vec<&Rule> = present.others.iter().filter(|rule| rule.table == table).collect();
    let chains = wanted.own_chains(table);
    if chains.is_empty()
        && old_chains.is_empty()
        && jumps.is_empty()
        && others.is_empty()
        && wanted.table(table).next().is_none()
    {
        return;
    }
    let _ = writeln!(out, "*{}", table.name());
    let stale: Vec<&str> = old_chains
        .iter()
        .map(String::as_str)
        .filter(|chain| !chains.contains(chain))
        .collect();
    for chain in chains.iter().chain(&stale) {
        let _ = writeln!(out, ":{chain} - [0:0]");
    }
    for jump in jumps {
        let _ = writeln!(out, "-D {jump}");
    }
    for rule in others {
        let _ = writeln!(out, "-D {} {}", rule.chain, rule.spec);
    }
    for chain in stale {
        let _ = writeln!(out, "-X {chain}");
    }
    for rule in wanted.table(table) {
        let _ = writeln!(out, "{}", rule.line());
    }
    out.push_str("COMMIT\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Ports, Ranges};

    const SAVED: &str = "# Generated\n*mangle\n:PREROUTING ACCEPT [0:0]\n:ISTIO_TPROXY - [0:0]\n\
        -A PREROUTING -p tcp -j ISTIO_INBOUND\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n:ISTIO_INBOUND - [0:0]\n:KUBE_X - [0:0]\n\
        -A PREROUTING -p tcp -j ISTIO_INBOUND\n-A PREROUTING -j KUBE_X\n-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN\nCOMMIT\n";

    #[test]
    fn a_second_run_replaces_the_first() {
        let present = Present::parse(SAVED);
        let wanted = crate::rules(&Config {
            inbound_include: Ports::All,
            outbound_include: Ranges::All,
            ..Config::default()
        });
        let text = program(&present, &wanted.v4);
        let (mangle, nat) = text.split_once("*nat").expect("both tables");
        assert_eq!(
            mangle,
            "*mangle\n:ISTIO_TPROXY - [0:0]\n-D PREROUTING -p tcp -j ISTIO_INBOUND\n-X ISTIO_TPROXY\nCOMMIT\n"
        );
        let removed = nat.find("-D PREROUTING -p tcp -j ISTIO_INBOUND").expect("taken out");
        let added = nat
            .find("-A PREROUTING -p tcp -j ISTIO_INBOUND")
            .expect("written again");
        assert!(removed < added);
        assert!(!nat.contains("KUBE_X"), "other people's chains stay: {nat}");
    }

    #[test]
    fn cleaning_up_leaves_nothing_of_ours() {
        let text = cleanup(&Present::parse(SAVED));
        assert!(
            text.contains("-X ISTIO_INBOUND") && text.contains("-X ISTIO_TPROXY"),
            "{text}"
        );
        assert!(!text.contains("-A "), "{text}");
        assert_eq!(cleanup(&Present::default()), "");
    }
}
