//! `completion`: what a shell needs to complete our words.

use clap::CommandFactory as _;

use crate::cli::Cli;

/// Which shell.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  source <(meshctl completion bash)")]
pub(crate) struct Options {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// The script.
pub(crate) fn run(options: &Options) -> String {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "meshctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
