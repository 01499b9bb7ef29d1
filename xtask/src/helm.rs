//! Helm: the user's own, else its library from PyPI behind a script of ours that takes the same commands.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{command, output, succeeds, timed};
use crate::{cargo, setup};

/// What `python3 -m venv` needs on Debian.
const VENV: &str = "python3-venv";

/// A program that takes Helm's commands.
pub(crate) fn program() -> Result<PathBuf> {
    if let Some(helm) = setup::which("helm") {
        return Ok(helm);
    }
    let (python, script) = (python()?, tools().join("helm.py"));
    let program = cargo::target_dir().join("helm/helm");
    let text = format!("#!/bin/sh\nexec {} {} \"$@\"\n", quoted(&python), quoted(&script));
    // A run beside this one may be executing it: it is replaced in one step.
    let new = program.with_extension(std::process::id().to_string());
    let write = || {
        std::fs::write(&new, text)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&new, &program)
    };
    write().with_context(|| program.display().to_string())?;
    Ok(program)
}

/// As a word of the shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Lints the charts, renders them over a matrix of values and versions of Kubernetes, and checks what comes out.
pub(crate) fn check() -> Result<()> {
    let status = Command::new(python()?).arg(tools().join("matrix.py")).status()?;
    if !status.success() {
        bail!("what is wrong with the charts is above; charts/README.md says what is checked");
    }
    Ok(())
}

/// A Python with what the charts' tools need.
pub(crate) fn python() -> Result<PathBuf> {
    // Absolute: it is started from other folders too.
    let folder = std::path::absolute(cargo::target_dir().join("helm"))?;
    let python = folder.join("bin/python");
    if succeeds(&mut command(
        &python,
        &["-c", "import helm_python, yaml, kubernetes_validate"],
    )) {
        return Ok(python);
    }
    if !succeeds(&mut command("python3", &["-c", "import venv, ensurepip"])) {
        setup::install(&[VENV])?;
    }
    timed("Helm's library, from PyPI", || {
        output(&mut command("python3", &["-m", "venv", &folder.display().to_string()]))?;
        let requirements = tools().join("requirements.txt").display().to_string();
        output(&mut command(
            &python,
            &[
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                &requirements,
            ],
        ))
    })?;
    Ok(python)
}

/// Folder of the charts' tools.
pub(crate) fn tools() -> PathBuf {
    charts().join("tools")
}

/// Folder of the charts.
pub(crate) fn charts() -> PathBuf {
    cargo::root().join("charts")
}
