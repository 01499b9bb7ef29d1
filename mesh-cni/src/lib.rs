//! Traffic capture: which rules a pod's network namespace gets, and how they are put there.
//!
//! [`config`] is what the command line asks for, [`rules()`] turns it into rules without touching anything, [`plan`] makes
//! from the rules and the present state one program for `iptables-restore`, and [`apply`] runs that. [`validate`]
//! proves that they are in force.

pub mod apply;
pub mod cli;
pub mod config;
pub mod plan;
pub mod rules;
pub mod validate;

pub use config::Config;
pub use rules::{RuleSet, rules};
