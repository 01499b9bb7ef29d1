//! Traffic capture: which rules a pod's network namespace gets, and how they are put there.
//!
//! [`config`] is what the command line asks for, [`rules()`] turns it into rules without touching anything, [`plan`] makes
//! from the rules and the present state one program for `iptables-restore`, and [`apply`] runs that. [`validate`]
//! proves that they are in force. Two programs put that to use: `mesh-init` ([`init`]) in the pod itself, and `mesh-cni` on the
//! node, as the CNI plugin ([`plugin`], which asks [`pod`] what is to be done) and as the agent that keeps it there ([`agent`]).

pub mod agent;
pub mod apply;
pub mod cli;
pub mod config;
pub mod init;
pub mod plan;
pub mod plugin;
pub mod pod;
pub mod rules;
pub mod validate;

pub use config::Config;
pub use rules::{RuleSet, rules};
