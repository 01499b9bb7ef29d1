//! The plugin on the node: its program, its credentials, and its place in the network's configuration.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use serde_json::{Value, json};

use super::conflist::{self, TYPE};
use super::settings::Settings;

/// The plugin's credentials, in the folder of both.
const KUBECONFIG: &str = "istio-cni-kubeconfig";
/// File of our own where the plugin is not chained; the last by name, so that no runtime takes it for the network.
const STANDALONE: &str = "YYY-istio-cni.conf";

/// Puts everything in place that is not.
///
/// # Errors
/// What is missing; the next call tries again.
pub fn ensure(settings: &Settings, program: &Path) -> anyhow::Result<bool> {
    let mut changed = install_program(settings, program)?;
    changed |= write_kubeconfig(settings)?;
    changed |= if settings.chained {
        chain(settings)?
    } else {
        let mut conf = plugin(settings);
        conf["cniVersion"] = json!("0.3.1");
        conf["name"] = json!(TYPE);
        write_if_other(
            &settings.net_dir.join(STANDALONE),
            format!("{conf:#}\n").as_bytes(),
            0o644,
        )?
    };
    Ok(changed)
}

/// Takes all of it away. The configuration goes first: with it and without the program no pod would start.
///
/// # Errors
/// What could not be removed.
pub fn remove(settings: &Settings) -> anyhow::Result<()> {
    for path in configurations(&settings.net_dir)? {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if let Ok(Some(without)) = conflist::without(&text)
            && conflist::is_network(&without)
        {
            write(&path, without.as_bytes(), 0o644)?;
        }
    }
    for path in [
        settings.net_dir.join(STANDALONE),
        settings.bin_dir.join(TYPE),
        settings.run_dir.join(KUBECONFIG),
    ] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).context(path.display().to_string()),
            _ => {}
        }
    }
    Ok(())
}

/// The plugin's entry.
fn plugin(settings: &Settings) -> Value {
    json!({
        "type": TYPE,
        "log_level": settings.log_level,
        "kubernetes": {
            "kubeconfig": settings.run_dir.join(KUBECONFIG),
            "exclude_namespaces": settings.excluded_namespaces,
            "cni_namespace": settings.namespace,
        },
    })
}

fn install_program(settings: &Settings, program: &Path) -> anyhow::Result<bool> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    write_if_other(&settings.bin_dir.join(TYPE), &bytes, 0o755)
}

/// The plugin asks with the agent's token, which is renewed all the time.
fn write_kubeconfig(settings: &Settings) -> anyhow::Result<bool> {
    let read = |name: &str| {
        let path = settings.service_account.join(name);
        fs::read(&path).with_context(|| format!("{}: the agent needs a service account", path.display()))
    };
    let token = String::from_utf8(read("token")?).context("token")?;
    let roots = base64::engine::general_purpose::STANDARD.encode(read("ca.crt")?);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "local",
            "cluster": {"server": settings.api_server, "certificate-authority-data": roots},
        }],
        "users": [{"name": TYPE, "user": {"token": token.trim()}}],
        "contexts": [{"name": TYPE, "context": {"cluster": "local", "user": TYPE}}],
        "current-context": TYPE,
    });
    write_if_other(
        &settings.run_dir.join(KUBECONFIG),
        format!("{config:#}\n").as_bytes(),
        0o600,
    )
}

/// Adds the plugin to the network's configuration.
fn chain(settings: &Settings) -> anyhow::Result<bool> {
    let path = network(settings)?;
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let with = conflist::with(&text, &plugin(settings))
        .map_err(anyhow::Error::msg)
        .with_context(|| path.display().to_string())?;
    let Some(with) = with else { return Ok(false) };
    // Runtimes read lists from files of another name than single plugins.
    let list = path.with_extension("conflist");
    write(&list, with.as_bytes(), 0o644)?;
    if list != path {
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
    }
    Ok(true)
}

/// The file that runtimes take: the one of the settings, or the first that is a network.
fn network(settings: &Settings) -> anyhow::Result<PathBuf> {
    if let Some(name) = &settings.conf_name {
        let named = settings.net_dir.join(name);
        let either = [
            named.clone(),
            named.with_extension("conflist"),
            named.with_extension("conf"),
        ];
        return either
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| format!("{} is not there (cniConfFileName)", named.display()));
    }
    for path in configurations(&settings.net_dir)? {
        match fs::read_to_string(&path) {
            Ok(text) if conflist::is_network(&text) => return Ok(path),
            Ok(_) => {}
            Err(error) => tracing::warn!("{}: {error}", path.display()),
        }
    }
    bail!(
        "{}: there is no network configuration yet; the cluster's network has to be installed first",
        settings.net_dir.display()
    )
}

/// Files that runtimes look at, in their order.
fn configurations(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut out: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "conf" || e == "conflist" || e == "json")
        })
        .filter(|path| path.file_name().is_some_and(|name| name != STANDALONE))
        .collect();
    out.sort();
    Ok(out)
}

fn write_if_other(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<bool> {
    let same = fs::read(path).is_ok_and(|there| there == bytes)
        && fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o777 == mode);
    if same {
        return Ok(false);
    }
    write(path, bytes, mode)?;
    Ok(true)
}

/// In one step, so that no runtime sees half of it.
fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.istio-cni-new"));
    let put = || {
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        // Whatever the process masks.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    put().with_context(|| format!("cannot write {}", path.display()))
}
