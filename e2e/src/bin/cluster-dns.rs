//! `cluster-dns -conf FILE`: the name server of a test cluster, in CoreDNS's place.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // CoreDNS's flags have one dash.
    let [flag, corefile] = arguments.as_slice() else {
        return usage();
    };
    if flag != "-conf" && flag != "--conf" {
        return usage();
    }
    match start(&PathBuf::from(corefile)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cluster-dns: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    let _ = writeln!(
        std::io::stderr(),
        "usage: cluster-dns -conf FILE (a Corefile; see e2e/src/cluster_dns)"
    );
    ExitCode::FAILURE
}

fn start(corefile: &std::path::Path) -> anyhow::Result<()> {
    // An error means that one is installed, which is right, too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(e2e::cluster_dns::run(corefile))
}
