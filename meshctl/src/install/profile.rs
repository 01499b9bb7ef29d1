//! `profile`: which there are, and what they say.

use anyhow::Result;
use clap::Subcommand;

use super::chart::{Chart, profiles};
use crate::output::Structured;

/// What of profiles.
#[derive(Subcommand)]
pub(crate) enum Profile {
    /// List the profiles
    List,
    /// Print the values of a profile
    Dump {
        /// Name
        #[arg(default_value = "default")]
        name: String,
    },
}

/// The names, or the values.
pub(crate) fn run(command: &Profile) -> Result<String> {
    match command {
        Profile::List => {
            let names: String = profiles().iter().map(|name| format!("    {name}\n")).collect();
            Ok(format!("Istio configuration profiles:\n{names}"))
        }
        Profile::Dump { name } => Structured::Yaml.write(&Chart::unpack(None)?.profile(name)?),
    }
}
