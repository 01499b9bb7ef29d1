//! A cluster on the Docker that the user has, with the node image that everybody has.
//!
//! The network namespace of that daemon is the machine's own, so here a rule refuses what would leave: on the bridge of
//! kind's network, which is made before kind would make it.

use anyhow::{Context, Result, bail};

use super::network;
use super::state::{Mode, State};
use crate::process::{command, output, succeeds};

/// The node image: the one that kind 0.27 is released with.
pub(crate) const IMAGE: &str = "kindest/node:v1.32.2";
/// kind's network, and the name of its bridge.
const NETWORK: (&str, &str) = ("kind", "fmesh-kind");

/// Whether a daemon answers and the image is there or can be pulled.
pub(crate) fn usable(state: &State) -> bool {
    let docker = |args: &[&str]| succeeds(&mut state.docker(Mode::Users, args));
    // A daemon that cannot start a privileged container cannot run nodes.
    docker(&["version"])
        && succeeds(&mut command("iptables", &["-w", "-n", "-L", "DOCKER-USER"]))
        && (docker(&["image", "inspect", IMAGE]) || docker(&["pull", "--quiet", IMAGE]))
}

/// Makes the network and refuses its way out, then tries it from a container.
pub(crate) fn close(state: &State) -> Result<()> {
    let docker = |args: &[&str]| output(&mut state.docker(Mode::Users, args));
    let bridge = "{{index .Options \"com.docker.network.bridge.name\"}}";
    match docker(&["network", "inspect", "-f", bridge, NETWORK.0]) {
        Ok(name) if name == NETWORK.1 => {}
        Ok(_) => bail!(
            "Docker has a network {:?} already, made by kind for clusters of yours. Test clusters get one that is closed: please remove yours first (docker network rm {})",
            NETWORK.0,
            NETWORK.0
        ),
        Err(_) => {
            let option = format!("com.docker.network.bridge.name={}", NETWORK.1);
            docker(&["network", "create", "-d", "bridge", "-o", &option, NETWORK.0])?;
        }
    }
    for program in ["iptables", "ip6tables"] {
        let outcome = refuse(program);
        if program == "iptables" {
            outcome.context("the way out cannot be closed")?;
        }
    }
    let said = docker(&[
        "run",
        "--rm",
        "--network",
        NETWORK.0,
        "--entrypoint",
        "/bin/bash",
        IMAGE,
        "-c",
        &network::probe(),
    ])?;
    network::judge(&said)
}

fn rule(program: &str, verb: &str) -> std::process::Command {
    // Docker sends what is forwarded through DOCKER-USER first; for IPv6 not every version has that chain.
    let chain = if program == "iptables" {
        "DOCKER-USER"
    } else {
        "FORWARD"
    };
    command(
        program,
        &[
            "-w",
            verb,
            chain,
            "-i",
            NETWORK.1,
            "!",
            "-o",
            NETWORK.1,
            "-m",
            "conntrack",
            "--ctstate",
            "NEW",
            "-j",
            "REJECT",
        ],
    )
}

fn refuse(program: &str) -> Result<()> {
    if succeeds(&mut rule(program, "-C")) {
        return Ok(());
    }
    output(&mut rule(program, "-I")).map(|_| ())
}

/// Removes rules and network.
pub(crate) fn open(state: &State) {
    // What is not there cannot be removed, and need not be.
    let _ = succeeds(&mut state.docker(Mode::Users, &["network", "rm", NETWORK.0]));
    for program in ["iptables", "ip6tables"] {
        let _ = succeeds(&mut rule(program, "-D"));
    }
}
