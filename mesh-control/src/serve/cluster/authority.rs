//! The CA's key and certificates in a Secret: `cacerts` is the user's own, `istio-ca-secret` the one that we make.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use tracing::info;

use super::Cluster;
use crate::serve::ca::authority::Authority;
use crate::serve::ca::files;

/// Secrets that may hold a CA, the one that counts first.
const SECRETS: [&str; 2] = ["cacerts", MADE];
const MADE: &str = "istio-ca-secret";
/// Keys of such a Secret, which are the names of the files too.
const FILES: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"];
/// Istio's type of the Secret.
const TYPE: &str = "istio.io/ca-root";

/// The authority of a cluster. Its files are written to `dir`, which holds nothing that must be kept.
///
/// # Errors
/// When a Secret can neither be read nor made, or does not hold a CA.
pub(in crate::serve) async fn open(
    cluster: &Cluster,
    dir: &Path,
    trust_domain: &str,
    further_roots: &[String],
) -> Result<Authority> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.home.namespace);
    // Twice at most: of two replicas that make one at once the second finds the first's.
    for _ in 0..2 {
        for name in SECRETS {
            let place = || format!("Secret {}/{name}", cluster.home.namespace);
            let Some(secret) = secrets.get_opt(name).await.with_context(place)? else {
                continue;
            };
            fill(dir, &secret).with_context(place)?;
            let authority = Authority::open_with(dir, trust_domain, further_roots).with_context(place)?;
            info!(secret = name, "the CA's key is there");
            return Ok(authority);
        }
        clear(dir)?;
        let authority = Authority::open_with(dir, trust_domain, further_roots)?;
        match secrets.create(&PostParams::default(), &made(dir)?).await {
            Ok(_) => {
                info!(secret = MADE, "a new root CA was made");
                return Ok(authority);
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot keep the CA in Secret {}/{MADE}", cluster.home.namespace));
            }
        }
    }
    bail!("Secret {}/{MADE} comes and goes", cluster.home.namespace)
}

fn clear(dir: &Path) -> Result<()> {
    files::make_dir(dir)?;
    for name in FILES {
        match std::fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", dir.join(name).display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes what a Secret holds. Istio leaves some of its keys empty.
fn fill(dir: &Path, secret: &Secret) -> Result<()> {
    clear(dir)?;
    for name in FILES {
        let value = secret.data.as_ref().and_then(|d| d.get(name));
        let Some(value) = value.filter(|v| !v.0.is_empty()) else {
            continue;
        };
        let text = std::str::from_utf8(&value.0).with_context(|| format!("data.{name} is no text"))?;
        files::replace(&dir.join(name), text, files::SECRET)?;
    }
    for name in ["ca-cert.pem", "ca-key.pem"] {
        if !dir.join(name).exists() {
            bail!("data.{name} is missing; put it there, or delete the Secret to get a new self-signed root");
        }
    }
    Ok(())
}

fn made(dir: &Path) -> Result<Secret> {
    let mut data = BTreeMap::new();
    for name in FILES {
        if let Some(text) = files::read(&dir.join(name))? {
            data.insert(name.to_owned(), ByteString(text.into_bytes()));
        }
    }
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(MADE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_gives_the_same_authority_again() {
        let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let first = Authority::open(one.path(), "cluster.local").expect("made");
        let mut secret = made(one.path()).expect("a Secret");
        // As Istio writes its own.
        let data = secret.data.as_mut().expect("data");
        data.insert("cert-chain.pem".to_owned(), ByteString::default());
        data.insert("root-cert.pem".to_owned(), ByteString::default());
        Authority::open(two.path(), "cluster.local").expect("another, which makes room");
        fill(two.path(), &secret).expect("written");
        let second = Authority::open(two.path(), "cluster.local").expect("read");
        assert_eq!(first.roots(), second.roots());
        secret.data.as_mut().expect("data").remove("ca-key.pem");
        let error = fill(two.path(), &secret).expect_err("no key");
        assert!(error.to_string().contains("data.ca-key.pem is missing"), "{error}");
    }
}
