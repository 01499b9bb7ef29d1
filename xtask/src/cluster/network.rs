//! The network namespace of the private Docker daemon. It has no route to anywhere but this machine, so that nothing of a
//! cluster can leave it whatever a pod, a node or the daemon itself tries; and its rules and bridges vanish with it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::process::{command, output, succeeds};

/// The namespace.
pub(crate) const NAMESPACE: &str = "ferromesh-cluster";
/// Link to it, on the machine's side and on its own.
const LINK: (&str, &str) = ("fmesh0", "fmesh1");
/// Addresses of the two ends. 198.18.0.0/15 is set aside for tests of network devices: no network in use has it.
const ADDRESS: (&str, &str) = ("198.19.254.1", "198.19.254.2");
/// What nodes get their addresses from.
pub(crate) const NODES: &str = "198.18.0.0/16";
/// An address that nobody has (set aside for documentation).
const NOBODY: &str = "203.0.113.1";

/// Address under which the API server is published.
pub(crate) fn api_address() -> &'static str {
    ADDRESS.1
}

/// Where the namespace can be entered.
pub(crate) fn path() -> PathBuf {
    Path::new("/run/netns").join(NAMESPACE)
}

/// Makes it, if it is not there, and looks that it is as it should be.
pub(crate) fn make() -> Result<()> {
    if !path().exists() {
        ip(&["netns", "add", NAMESPACE])?;
    }
    if !succeeds(&mut command("ip", &["link", "show", LINK.0])) {
        ip(&[
            "link", "add", LINK.0, "type", "veth", "peer", "name", LINK.1, "netns", NAMESPACE,
        ])?;
        ip(&["address", "add", &format!("{}/30", ADDRESS.0), "dev", LINK.0])?;
        ip(&[
            "-n",
            NAMESPACE,
            "address",
            "add",
            &format!("{}/30", ADDRESS.1),
            "dev",
            LINK.1,
        ])?;
    }
    ip(&["link", "set", LINK.0, "up"])?;
    ip(&["-n", NAMESPACE, "link", "set", LINK.1, "up"])?;
    ip(&["-n", NAMESPACE, "link", "set", "lo", "up"])?;
    // Nodes are reached from this machine by their own addresses, so that NodePorts are.
    ip(&["route", "replace", NODES, "via", ADDRESS.1])?;
    closed()
}

/// Checks that the namespace has no way out.
pub(crate) fn closed() -> Result<()> {
    for family in ["-4", "-6"] {
        let default = ip(&[family, "-n", NAMESPACE, "route", "show", "default"])?;
        if !default.is_empty() {
            bail!("network namespace {NAMESPACE} has a way out of this machine: {default}");
        }
    }
    if let Ok(route) = ip(&["-n", NAMESPACE, "route", "get", NOBODY]) {
        bail!("network namespace {NAMESPACE} has a way out of this machine: {route}");
    }
    Ok(())
}

/// What a container runs to show that it cannot get out: it tries an address that nobody has, and says how that ended.
pub(crate) fn probe() -> String {
    format!("timeout 5 bash -c '</dev/tcp/{NOBODY}/9' 2>&1; echo ended with $?")
}

/// Judges what [`probe`] printed: the attempt must have been refused at once, and not have vanished somewhere.
pub(crate) fn judge(said: &str) -> Result<()> {
    if said.contains("ended with 1") && (said.contains("unreachable") || said.contains("refused")) {
        return Ok(());
    }
    bail!("a container's attempt to reach {NOBODY} was not refused: {said}")
}

/// Lets this machine reach nodes directly, once Docker has made its chains.
pub(crate) fn admit() -> Result<()> {
    let rule = |verb: &str| inside(&["iptables", "-w", verb, "DOCKER-USER", "-i", LINK.1, "-j", "ACCEPT"]);
    if !succeeds(&mut rule("-C")) {
        output(&mut rule("-I"))?;
    }
    Ok(())
}

/// A command inside the namespace. Mounts stay as they are: kubelet finds no cgroups where /sys is mounted anew.
pub(crate) fn inside(args: &[&str]) -> std::process::Command {
    let mut nsenter = command("nsenter", &[&format!("--net={}", path().display())]);
    nsenter.args(args);
    nsenter
}

/// Removes it with everything in it.
pub(crate) fn remove() -> Result<()> {
    if succeeds(&mut command("ip", &["link", "show", LINK.0])) {
        ip(&["link", "del", LINK.0])?;
    }
    if path().exists() {
        ip(&["netns", "del", NAMESPACE])?;
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<String> {
    output(&mut command("ip", args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_a_closed_network() {
        judge("bash: connect: Network is unreachable\nended with 1").expect("closed");
        judge("bash: connect: Connection refused\nended with 1").expect("closed");
        assert!(judge("ended with 0").is_err(), "it got through");
        assert!(judge("ended with 124").is_err(), "it vanished on the way");
        assert!(judge("").is_err(), "it did not even run");
    }
}
