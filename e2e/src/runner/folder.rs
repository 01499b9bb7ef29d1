//! Files of a run: the YAML that the control plane reads, logs, tokens; and where our programs are.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::netns::rootless;

/// Programs that a mesh is made of.
pub const PROGRAMS: &[&str] = &["mesh-control", "mesh-proxy", "mesh-init", "e2e-sample"];

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    programs: PathBuf,
}

impl Folder {
    /// Makes the folders below `root` and finds the programs.
    ///
    /// # Errors
    /// When a folder cannot be made or a program is missing.
    pub fn create(root: PathBuf, programs: Option<PathBuf>) -> Result<Folder> {
        let found = match programs {
            Some(folder) => folder,
            None => beside_this_program()?,
        };
        let missing: Vec<&str> = PROGRAMS
            .iter()
            .copied()
            .filter(|name| !found.join(name).is_file())
            .collect();
        if !missing.is_empty() {
            bail!(
                "{} not found in {}: build them with `cargo build --workspace --bins`",
                missing.join(", "),
                found.display()
            );
        }
        for part in ["config/pods", "logs", "pods", "ca"] {
            std::fs::create_dir_all(root.join(part)).with_context(|| format!("folder {}/{part}", root.display()))?;
        }
        let programs = if rootless::one_user_only() || open_to_all(&found) {
            found
        } else {
            // Other users may not look into this folder, such as root's home: the proxy and the applications could not
            // start from there.
            let copies = root.join("bin");
            std::fs::create_dir_all(&copies)?;
            for name in PROGRAMS {
                std::fs::copy(found.join(name), copies.join(name)).with_context(|| format!("copy of {name}"))?;
            }
            copies
        };
        Ok(Folder { root, programs })
    }

    /// Path of a program.
    ///
    /// # Errors
    /// When it has been removed since.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs.join(name);
        if !path.is_file() {
            bail!("{} is not there any more: was it being built?", path.display());
        }
        Ok(path)
    }

    /// Folder of YAML that the control plane reads.
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Log of a program in a pod.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.logs().join(format!("{namespace}.{pod}.{container}.log"))
    }

    /// Private folder of a pod's proxy.
    pub fn pod(&self, namespace: &str, pod: &str) -> PathBuf {
        self.root.join("pods").join(format!("{namespace}.{pod}"))
    }

    /// Folder of the CA.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// What proxies trust.
    pub fn root_cert(&self) -> PathBuf {
        self.root.join("root-cert.pem")
    }

    /// Copies the CA's bundle to where proxies may read it.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn publish_root_cert(&self) -> Result<()> {
        let text =
            std::fs::read_to_string(self.ca().join("bundle/root-cert.pem")).context("the CA's root certificate")?;
        super::objects::write_whole(&self.root_cert(), &text)
    }

    /// Lets the control plane sign a token for a service account.
    ///
    /// # Errors
    /// When it does not.
    pub fn write_token(&self, namespace: &str, service_account: &str, file: &Path) -> Result<()> {
        let output = Command::new(self.program("mesh-control")?)
            .args([
                "token",
                "--service-account",
                &format!("{namespace}/{service_account}"),
                "--ca-dir",
            ])
            .arg(self.ca())
            .arg("--out")
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .context("mesh-control token")?;
        if !output.status.success() {
            bail!("mesh-control token: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

/// `FERROMESH_BIN_DIR`, else where this program is.
///
/// # Errors
/// When the program's own path is unknown.
pub fn beside_this_program() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("FERROMESH_BIN_DIR") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe().context("own path")?;
    let folder = own.parent().context("own folder")?;
    // Cargo puts tests one folder deeper than programs.
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(folder.to_owned())
}

/// Whether every user may enter this folder.
fn open_to_all(folder: &Path) -> bool {
    let enters = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    std::fs::canonicalize(folder).is_ok_and(|path| path.ancestors().all(enters))
}
