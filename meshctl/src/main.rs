//! `meshctl`: the command line, with istioctl's words and columns.

mod address;
mod analyze;
mod cli;
mod cluster;
mod completion;
mod control;
mod dashboard;
mod describe;
mod dump;
mod envoy_json;
mod http;
mod install;
mod objects;
mod output;
mod proxy;
mod proxy_config;
mod proxy_status;
mod table;
mod version;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(done) => {
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().write_all(done.text.as_bytes());
            ExitCode::from(done.code)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "meshctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
