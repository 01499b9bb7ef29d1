//! The cluster's name server: ours in the place of CoreDNS, where the node image is ours and has none.

use std::path::Path;

use anyhow::Result;

use super::files;
use super::kind::Kind;
use super::state::Mode;
use crate::image::{self, Config, Image, Layer};
use crate::process::{logged, output, timed};
use crate::{cargo, images};

/// Name and tag that kubeadm's Deployment asks for.
const IMAGE: &str = "k8s.gcr.io/coredns:1.7.0";
/// The program, of the e2e crate.
const PROGRAM: &str = "cluster-dns";

/// Sees to it that names are served.
pub(crate) fn serve(cache: &Path, kind: &Kind<'_>) -> Result<()> {
    if kind.mode == Mode::Users {
        return timed("cluster DNS keeps to the cluster", || keep_in(kind));
    }
    println!("  Building the cluster's name server");
    // With the features that the whole workspace asks for, or crates are built a second time.
    cargo::run("the build", &["build", "--workspace", "--bin", PROGRAM])?;
    let program = images::slim(&cargo::bin_dir(), PROGRAM)?;
    let (marker, key) = (kind.state.folder.join("dns"), image::key(&[&std::fs::read(&program)?]));
    if std::fs::read_to_string(&marker).is_ok_and(|served| served == key) {
        return Ok(());
    }
    timed("cluster DNS", || {
        let (layer_tar, archive) = (cache.join("dns-layer.tar"), cache.join("dns.tar"));
        let mut layer = Layer::default();
        layer.program(
            &format!("usr/bin/{PROGRAM}"),
            Path::new("/"),
            &program.display().to_string(),
        )?;
        layer.write(&layer_tar)?;
        let config = Config {
            entrypoint: vec![format!("/usr/bin/{PROGRAM}")],
            ..Config::default()
        };
        let image = Image {
            name: IMAGE,
            config,
            layers: std::slice::from_ref(&layer_tar),
        };
        image::write(&[image], &archive)?;
        kind.load(std::slice::from_ref(&archive))?;
        files::remove(&layer_tar)?;
        files::remove(&archive)?;
        // Pods that wait for the image would try again only after a while.
        let mut restart = kind.state.kubectl(&[
            "-n",
            "kube-system",
            "delete",
            "pod",
            "-l",
            "k8s-app=kube-dns",
            "--wait=false",
        ]);
        logged(&mut restart, &kind.state.log())?;
        kind.rolled_out("coredns")?;
        Ok(std::fs::write(&marker, key)?)
    })
}

/// Takes CoreDNS's way to other name servers out of its configuration: the daemon would ask them for it.
fn keep_in(kind: &Kind<'_>) -> Result<()> {
    let get = [
        "-n",
        "kube-system",
        "get",
        "configmap",
        "coredns",
        "-o",
        "jsonpath={.data.Corefile}",
    ];
    let corefile = output(&mut kind.state.kubectl(&get))?;
    let closed = without_forward(&corefile);
    if closed == corefile {
        return Ok(());
    }
    let patch = serde_json::json!({"data": {"Corefile": closed}}).to_string();
    let log = kind.state.log();
    logged(
        &mut kind.state.kubectl(&[
            "-n",
            "kube-system",
            "patch",
            "configmap",
            "coredns",
            "--type=merge",
            "-p",
            &patch,
        ]),
        &log,
    )?;
    logged(
        &mut kind
            .state
            .kubectl(&["-n", "kube-system", "rollout", "restart", "deployment/coredns"]),
        &log,
    )?;
    kind.rolled_out("coredns")
}

/// A Corefile with its `forward` blocks taken out.
fn without_forward(corefile: &str) -> String {
    let (mut kept, mut inside) = (String::new(), false);
    for line in corefile.lines() {
        let word = line.trim();
        if inside {
            inside = word != "}";
            continue;
        }
        if word.starts_with("forward ") {
            inside = word.ends_with('{');
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_other_name_servers_is_taken_out() {
        let corefile = ".:53 {\n    errors\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30\n}\n";
        assert_eq!(without_forward(corefile), ".:53 {\n    errors\n    cache 30\n}\n");
        assert_eq!(without_forward(".:53 {\n    forward . 8.8.8.8\n}\n"), ".:53 {\n}\n");
    }
}
