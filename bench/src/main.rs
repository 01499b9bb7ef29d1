//! Measures mesh-proxy beside its peers: the same machine, the same run, the same input.
//!
//! A case (`cases`) says what passes through the proxies and under which load. Each peer (`peers`) is started with the
//! configuration that the case asks for and pinned to one core; the load (`load`) and the upstream share the other cores.
//! What a request costs is read from the kernel's account of the proxy's processes (`measure`).

mod cases;
mod cli;
mod control;
mod floor;
mod instructions;
mod isolate;
mod load;
mod machine;
mod measure;
mod peers;
mod pki;
mod plot;
mod push;
mod report;
mod run;
mod sidecar;
mod steps;
mod summary;
mod table;
mod upstream;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    cli::Cli::parse().run()
}

/// Prints a line of the report.
fn line(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Shows how far the run is, without a place in the report.
fn progress(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "  {text}");
}
