//! `cargo xtask`: everything that a developer or a newcomer runs.

mod bench;
mod cargo;
mod cluster;
mod demo;
mod e2e;
mod helm;
mod image;
mod images;
mod process;
mod setup;
mod steps;
mod test;

use clap::{Parser, Subcommand};

/// Ferromesh's own tool: it installs what is missing, builds with progress shown, and runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a mesh on this machine, walk through the labs, and stay up to play with.
    ///
    /// Pods are network namespaces with Istio's iptables rules, a mesh-proxy beside each application, and mesh-control
    /// on a folder of YAML. Nothing leaves the machine; everything is taken down at the end.
    Demo(demo::Options),
    /// Format, lints, generated files, dependency rules, unit tests, golden files and scenarios, with a summary.
    Test(test::Options),
    /// Write the generated files (CRD manifests under charts/) anew.
    Codegen,
    /// Measure a release build on this machine: `data` (beside Envoy, nginx and haproxy), `propagation`, `footprint`.
    Bench(bench::Options),
    /// A kind cluster for tests, also on a bare Debian machine without Docker and without an image registry.
    Cluster(cluster::Options),
    /// Container images control, proxy, cni and sample, as archives written without a container engine.
    Images(images::Options),
    /// Scenarios on Kubernetes: a cluster if there is none, images, `helm install`, and a table.
    E2e(e2e::Options),
    /// Format check, clippy with warnings denied, dependency rules.
    Lint,
    /// Install what tests and the demo need (Debian packages, a real Envoy as the oracle) and say where it is.
    Setup,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Cluster(options) => cluster::run(&options),
        Command::Images(options) => images::run(&options),
        Command::E2e(options) => e2e::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Codegen => cargo::run(
            "codegen",
            &[
                "test",
                "--quiet",
                "-p",
                "mesh-api",
                "--lib",
                "crd::tests::write_files",
                "--",
                "--ignored",
                "--exact",
            ],
        ),
        Command::Lint => test::lint(),
        Command::Setup => setup::all(),
    }
}
