//! Puts rules into the present network namespace by the system's iptables and ip commands.

use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::plan::{self, Present};
use crate::rules::{Family, FamilyRules, Rule, RuleSet};

/// Why rules could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A program is not installed.
    #[error("{program} was not found: install the package that has it (Debian: apt-get install {package})")]
    Missing {
        /// The program.
        program: String,
        /// Debian's package.
        package: &'static str,
    },
    /// A program could not be started.
    #[error("{program} could not be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Cause.
        source: io::Error,
    },
    /// The kernel does not let us.
    #[error(
        "{program} is not permitted here: run as root, or with CAP_NET_ADMIN and CAP_NET_RAW in the user namespace that owns this network namespace ({message})"
    )]
    NotPermitted {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
    /// A program refused.
    #[error("{program} failed: {message}\nits input was:\n{input}")]
    Failed {
        /// The program.
        program: String,
        /// What it said.
        message: String,
        /// What it was given.
        input: String,
    },
    /// The network namespace could not be entered.
    #[error("network namespace {path}: {source}")]
    Namespace {
        /// Its path.
        path: String,
        /// Cause.
        source: io::Error,
    },
}

/// Which programs to call.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// `legacy` or `nft`, or whatever the system calls iptables.
    pub variant: Option<String>,
}

impl Programs {
    /// `iptables`, `ip6tables-restore`, `iptables-legacy-save`…
    fn name(&self, family: Family, suffix: &str) -> String {
        let base = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match &self.variant {
            Some(variant) => format!("{base}-{variant}{suffix}"),
            None => format!("{base}{suffix}"),
        }
    }
}

/// Moves this thread into a network namespace.
///
/// # Errors
/// When the file is not there, is no network namespace, or we may not enter it.
pub fn enter_namespace(path: &Path) -> Result<(), ApplyError> {
    let fail = |source| ApplyError::Namespace {
        path: path.display().to_string(),
        source,
    };
    let file = std::fs::File::open(path).map_err(fail)?;
    nix::sched::setns(file.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).map_err(|errno| fail(errno.into()))
}

/// Whether the namespace has an IPv6 address by which others can reach it.
pub fn has_global_ipv6() -> bool {
    // Lines of `00000000000000000000000000000001 01 80 10 80 lo`: address, index, prefix, scope (00 = global), flags, device.
    let text = std::fs::read_to_string("/proc/self/net/if_inet6")
        .or_else(|_| std::fs::read_to_string("/proc/net/if_inet6"))
        .unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let address = fields.next().and_then(|hex| u128::from_str_radix(hex, 16).ok());
        let (scope, device) = (fields.nth(2), fields.nth(1));
        address.is_some_and(|bits| !Ipv6Addr::from_bits(bits).is_loopback())
            && scope == Some("00")
            && device != Some("lo")
    })
}

/// Writes the rules, taking the place of those of an `earlier` run.
///
/// # Errors
/// When a program is missing, not permitted, or refuses its input.
pub fn apply(programs: &Programs, rules: &RuleSet, earlier: &RuleSet) -> Result<(), ApplyError> {
    for ((family, wanted), (_, earlier)) in rules.families().zip(earlier.families()) {
        let present = present(programs, family, earlier)?;
        restore(programs, family, &plan::program(&present, wanted))?;
    }
    remove_routes(earlier)?;
    for command in &rules.ip {
        ip(command)?;
    }
    Ok(())
}

/// Removes what an earlier run wrote; fine if there was none.
///
/// # Errors
/// When a program is missing, not permitted, or refuses its input.
pub fn cleanup(programs: &Programs, earlier: &RuleSet) -> Result<(), ApplyError> {
    for (family, earlier) in earlier.families() {
        let present = present(programs, family, earlier)?;
        if !present.is_empty() {
            restore(programs, family, &plan::cleanup(&present))?;
        }
    }
    remove_routes(earlier)
}

fn remove_routes(rules: &RuleSet) -> Result<(), ApplyError> {
    for command in &rules.undo {
        match ip(command) {
            // It was not there, which is what we want.
            Ok(()) | Err(ApplyError::Failed { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn present(programs: &Programs, family: Family, earlier: &FamilyRules) -> Result<Present, ApplyError> {
    let save = run(&programs.name(family, "-save"), &[], "")?;
    let mut present = Present::parse(&save);
    let check = programs.name(family, "");
    for rule in &earlier.0 {
        let jumps_to_ours = rule.spec.contains(" -j ISTIO_") || rule.spec.starts_with("-j ISTIO_");
        if !rule.in_own_chain() && !jumps_to_ours && exists(&check, rule)? {
            present.others.push(rule.clone());
        }
    }
    Ok(present)
}

fn exists(program: &str, rule: &Rule) -> Result<bool, ApplyError> {
    let mut arguments = vec!["-w", "-t", rule.table.name(), "-C", rule.chain];
    arguments.extend(rule.spec.split_whitespace());
    match run(program, &arguments, "") {
        Ok(_) => Ok(true),
        Err(ApplyError::Failed { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

fn restore(programs: &Programs, family: Family, program: &str) -> Result<(), ApplyError> {
    run(&programs.name(family, "-restore"), &["--noflush", "-w"], program).map(|_| ())
}

fn ip(command: &str) -> Result<(), ApplyError> {
    let arguments: Vec<&str> = command.split_whitespace().collect();
    run("ip", &arguments, "").map(|_| ())
}

/// Runs a program with a text as its input and gives its output.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, ApplyError> {
    let start = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ApplyError::Missing {
            program: program.to_owned(),
            package: if program == "ip" { "iproute2" } else { "iptables" },
        },
        _ => ApplyError::Start {
            program: program.to_owned(),
            source,
        },
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let Output { status, stdout, stderr } = child.wait_with_output().map_err(start)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&stderr).trim().to_owned();
    let denied = ["Permission denied", "Operation not permitted", "you must be root"];
    if denied.iter().any(|text| message.contains(text)) {
        return Err(ApplyError::NotPermitted {
            program: program.to_owned(),
            message,
        });
    }
    Err(ApplyError::Failed {
        program: format!("{program} {}", arguments.join(" ")),
        message,
        input: input.to_owned(),
    })
}
