//! Helm: the user's own, else its library from PyPI behind a script of ours that takes the same commands.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::{command, output, succeeds, timed};
use crate::{cargo, setup};

/// What `python3 -m venv` needs on Debian.
const VENV: &str = "python3-venv";

/// A `helm` command, by whatever plays it here.
pub(crate) fn helm() -> Result<Command> {
    if let Some(helm) = setup::which("helm") {
        return Ok(Command::new(helm));
    }
    let mut helm = Command::new(python()?);
    helm.arg(tools().join("helm.py"));
    Ok(helm)
}

/// A Python with what the charts' tools need.
pub(crate) fn python() -> Result<PathBuf> {
    let folder = cargo::target_dir().join("helm");
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
