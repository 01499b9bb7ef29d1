//! The system's `ip` and `iptables-restore`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::Family;

/// Runs `ip` with arguments separated by blanks and gives its output.
///
/// # Errors
/// When `ip` is missing or refuses; the error says what it said.
pub fn ip(arguments: &str) -> Result<String> {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>(), "")
}

/// Runs many `ip` commands in order, the first failure ends it.
///
/// # Errors
/// As [`ip`].
pub fn ip_batch(commands: &[String]) -> Result<()> {
    for command in commands {
        ip(command)?;
    }
    Ok(())
}

/// Gives a program to `iptables-restore` or `ip6tables-restore` in a namespace; chains that it declares are replaced, others stay.
///
/// # Errors
/// When the program is missing or refuses.
pub fn restore(namespace: &str, family: Family, program: &str) -> Result<()> {
    let restore = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    let arguments = ["netns", "exec", namespace, restore, "--noflush", "-w"];
    run("ip", &arguments, program).with_context(|| format!("rules:\n{program}"))?;
    Ok(())
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If the program ended early, its standard error says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), message.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
