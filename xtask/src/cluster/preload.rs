//! The images that kubeadm asks for, composed here, and put into the store of a node's containerd ahead of its first start.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::debian::Apt;
use super::files;
use super::kubernetes::VERSION;
use crate::image::{self, Config, Image, Layer, iptables};
use crate::process::{append, command, logged, output, succeeds, tail};

/// Source of the program that holds a pod's namespaces.
pub(crate) const PAUSE: &str = include_str!("node/pause.c");
/// Names as `kubeadm config images list` has them; only the tag has to match.
const PAUSE_TAG: &str = "3.2";
const ETCD_TAG: &str = "3.4.13-0";

/// Writes the archives into `work`; gives their paths. `tree` is the node's root filesystem, whose programs are used.
pub(crate) fn archives(tree: &Path, programs: &Path, work: &Path, apt: &Apt, log: &Path) -> Result<Vec<PathBuf>> {
    let folder = work.join("images");
    files::empty(&folder)?;
    let mut made = Vec::new();
    let mut write = |name: &str, tag: &str, layer: &Layer, config: Config| -> Result<()> {
        let (tar, archive) = (folder.join("layer.tar"), folder.join(format!("{name}.tar")));
        layer.write(&tar)?;
        let name = format!("k8s.gcr.io/{name}:{tag}");
        let image = Image {
            name: &name,
            config,
            layers: &[tar],
        };
        image::write(&[image], &archive)?;
        made.push(archive);
        Ok(())
    };
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let mut layer = Layer::default();
        layer
            .file(&format!("usr/local/bin/{name}"), &programs.join(name), 0o755)
            .folder("tmp", 0o1777);
        write(name, VERSION, &layer, Config::default())?;
    }
    write(
        "kube-proxy",
        VERSION,
        &proxy(tree, &programs.join("kube-proxy"))?,
        Config::default(),
    )?;
    write("etcd", ETCD_TAG, &etcd(tree, work, apt, log)?, Config::default())?;
    let (layer, config) = pause(&folder, log)?;
    write("pause", PAUSE_TAG, &layer, config)?;
    files::remove(&folder.join("layer.tar"))?;
    Ok(made)
}

fn proxy(tree: &Path, program: &Path) -> Result<Layer> {
    let mut layer = Layer::default();
    layer
        .file("usr/local/bin/kube-proxy", program, 0o755)
        .file("bin/busybox", &tree.join("bin/busybox"), 0o755)
        .link("bin/sh", "busybox")
        .folder("run", 0o755)
        .folder("tmp", 0o1777)
        .program("usr/sbin/conntrack", tree, "/usr/sbin/conntrack")?;
    iptables(&mut layer, tree)?;
    Ok(layer)
}

fn etcd(tree: &Path, work: &Path, apt: &Apt, log: &Path) -> Result<Layer> {
    let unpacked = work.join("etcd");
    apt.unpack(&["etcd-server"], None, &unpacked, log)?;
    let program = unpacked.join("usr/bin/etcd");
    // Its libraries are looked up among the node's.
    let visitor = tree.join("tmp/etcd");
    std::fs::copy(&program, &visitor).context("etcd")?;
    let mut layer = Layer::default();
    layer.file("usr/local/bin/etcd", &program, 0o755).folder("tmp", 0o1777);
    let found = layer.libraries(tree, "/tmp/etcd").map(|_| ());
    files::remove(&visitor)?;
    found.map(|()| layer)
}

fn pause(folder: &Path, log: &Path) -> Result<(Layer, Config)> {
    let (source, program) = (folder.join("pause.c"), folder.join("pause"));
    std::fs::write(&source, PAUSE)?;
    let (from, to) = (source.display().to_string(), program.display().to_string());
    logged(&mut command("cc", &["-Os", "-static", "-s", "-o", &to, &from]), log)?;
    let mut layer = Layer::default();
    layer.file("pause", &program, 0o755);
    let config = Config {
        entrypoint: vec!["/pause".to_owned()],
        ..Config::default()
    };
    Ok((layer, config))
}

/// Unpacks archives into the containerd store of a root filesystem, by this machine's containerd with that store.
pub(crate) fn load(tree: &Path, archives: &[PathBuf], work: &Path, log: &Path) -> Result<()> {
    let state = work.join("containerd");
    files::empty(&state)?;
    let config = state.join("config.toml");
    let socket = state.join("socket");
    std::fs::write(
        &config,
        format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{}\"\n",
            tree.join("var/lib/containerd").display(),
            state.join("state").display(),
            socket.display()
        ),
    )?;
    let mut daemon = Command::new("containerd")
        .args(["--config", &config.display().to_string()])
        .stdin(Stdio::null())
        .stdout(append(log)?)
        .stderr(append(log)?)
        .spawn()
        .context("cannot start containerd")?;
    let outcome = import(&socket, archives, &mut daemon, log);
    // Its database is a file that must be closed before the tree is archived.
    let _ = succeeds(&mut command("kill", &[&daemon.id().to_string()]));
    daemon.wait().context("containerd")?;
    // It forgets what it is told to remove at once, and removes it some time later: that time has not come.
    let blobs = tree.join("var/lib/containerd/io.containerd.content.v1.content/blobs");
    for digest in outcome? {
        files::remove(&blobs.join(digest.replace(':', "/")))?;
    }
    Ok(())
}

/// Imports them, and has the layers themselves forgotten; gives their digests.
fn import(socket: &Path, archives: &[PathBuf], daemon: &mut Child, log: &Path) -> Result<Vec<String>> {
    let socket = socket.display().to_string();
    let ctr = |args: &[&str]| {
        let mut ctr = command("ctr", &["-a", &socket, "-n", "k8s.io"]);
        ctr.args(args);
        ctr
    };
    let start = Instant::now();
    while !succeeds(&mut ctr(&["version"])) {
        if let Some(status) = daemon.try_wait()? {
            bail!("containerd ended with {status}\n{}", tail(log));
        }
        if start.elapsed() > Duration::from_secs(60) {
            bail!("containerd does not answer\n{}", tail(log));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    for archive in archives {
        logged(&mut ctr(&["images", "import", &archive.display().to_string()]), log)?;
    }
    // Containers start from the unpacked snapshots: the layers themselves would only double the size.
    let content = output(&mut ctr(&["content", "ls"]))?;
    let layers: Vec<_> = large(&content).into_iter().map(str::to_owned).collect();
    for digest in &layers {
        logged(&mut ctr(&["content", "rm", digest]), log)?;
    }
    Ok(layers)
}

/// Digests of layers in what `ctr content ls` prints (DIGEST SIZE …): manifests and configurations are small.
fn large(content: &str) -> Vec<&str> {
    content
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (digest, size) = (words.next()?, words.next()?);
            let big = ["MB", "MiB", "GB", "GiB"].iter().any(|unit| size.ends_with(unit)) || size_in_kb(size) > 100.0;
            (digest.starts_with("sha256:") && big).then_some(digest)
        })
        .collect()
}

fn size_in_kb(size: &str) -> f64 {
    size.trim_end_matches("KiB")
        .trim_end_matches("kB")
        .parse()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_from_manifests_by_their_size() {
        let said = "DIGEST SIZE AGE LABELS\nsha256:a 1.2kB 1s -\nsha256:b 44.5MB 1s -\nsha256:c 730.1kB 1s -\nsha256:d 512B 1s -\n";
        assert_eq!(large(said), ["sha256:b", "sha256:c"]);
    }
}
