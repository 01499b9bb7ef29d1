//! The last good configuration on disk: every accepted resource with its version, and our own identity, in one file that
//! only we can read. It is written a little after a change, whole, by rename, and read at start.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use mesh_api::envoy::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource as WireResource};
use mesh_api::envoy::{Any, type_url};
use mesh_api::names;
use prost::Message;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::update::take_names;
use crate::agent::{Issued, certificate_lifetime};
use crate::snapshot::Secret;
use crate::snapshot::build::{Incoming, Update};
use crate::snapshot::config::Config;
use crate::snapshot::resources::Source;
use crate::tls::{Identity, TrustBundle};

/// First line; the number changes when the format does, and another one is as good as no file.
const HEADER: &[u8] = b"ferromesh last good 1\n";
const FILE: &str = "last-good";
/// Changes come in bursts; one write for all of a burst.
const SETTLE: Duration = Duration::from_millis(500);
/// Group of our own identity; not a type of resources.
const IDENTITY: &str = "identity";

/// Order in which resources are read back: what is named by others first.
const ORDER: [&str; 6] = [
    type_url::CLUSTER,
    type_url::SECRET,
    type_url::ENDPOINT,
    type_url::LISTENER,
    type_url::ROUTE,
    type_url::NAME_TABLE,
];

/// The file.
#[derive(Debug, Clone)]
pub struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// In this directory, which is made when it is not there.
    pub fn new(directory: &Path) -> Self {
        LastGood {
            path: directory.join(FILE),
        }
    }

    /// Puts what is in the file in force. Without a file nothing happens.
    pub fn load(&self, config: &Config) {
        let groups = match self.read() {
            Ok(groups) if !groups.is_empty() => groups,
            Ok(_) => return,
            Err(e) => {
                tracing::warn!("the last good configuration is not used: {e:#}");
                return;
            }
        };
        let mut count = 0;
        for type_url in ORDER {
            let Some(group) = groups.get(type_url) else { continue };
            let update = Update {
                type_url: type_url.to_owned(),
                set: group.resources.iter().map(incoming).collect(),
                ..Update::default()
            };
            count += update.set.len();
            let refused = match type_url {
                type_url::NAME_TABLE => take_names(config, &update, Source::LastGood),
                _ => config.apply(update, Source::LastGood),
            };
            for refusal in refused {
                tracing::warn!("of the last good configuration: {refusal}");
            }
        }
        tracing::info!(
            resources = count,
            file = %self.path.display(),
            "serving the last good configuration until the control plane answers"
        );
    }

    /// The identity of an earlier run, when its certificate is still good.
    pub fn identity(&self) -> Option<Issued> {
        let group = self.read().ok()?.remove(IDENTITY)?;
        let part = |name: &str| {
            let mut all = group.resources.iter().filter(|r| r.name == name);
            all.next()
                .and_then(|r| r.resource.as_ref())
                .map(|any| any.value.clone())
        };
        let list = |name: &str| {
            let bytes = part(name)?;
            let list = Ders::decode(bytes.as_slice()).ok()?;
            Some(list.items.into_iter().map(CertificateDer::from).collect::<Vec<_>>())
        };
        let (chain, roots) = (list("chain")?, list("roots")?);
        let (_, end) = certificate_lifetime(chain.first()?).ok()?;
        if end <= SystemTime::now() {
            return None;
        }
        Some(Issued {
            identity: Arc::new(Identity {
                chain,
                key: PrivateKeyDer::try_from(part("key")?).ok()?,
            }),
            roots: Arc::new(TrustBundle {
                roots,
                ..TrustBundle::default()
            }),
        })
    }

    /// Writes the file after every change, for as long as the proxy runs.
    pub(super) async fn keep(self, config: Arc<Config>) {
        let mut changed = config.shared.changed.subscribe();
        // Not the bytes: they are as many as the whole configuration has.
        let mut written = 0;
        loop {
            tokio::time::sleep(SETTLE).await;
            let bytes = self.encode(&config);
            let hash = hash_of(&bytes);
            if hash != written {
                let path = self.path.clone();
                match tokio::task::spawn_blocking(move || write(&path, &bytes)).await {
                    Ok(Ok(())) => written = hash,
                    Ok(Err(e)) => tracing::warn!("the last good configuration is not saved: {e:#}"),
                    Err(_) => {}
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes the file now.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub fn save(&self, config: &Config) -> anyhow::Result<()> {
        write(&self.path, &self.encode(config))
    }

    fn encode(&self, config: &Config) -> Vec<u8> {
        let mut out = HEADER.to_vec();
        let mut put = |type_url: &str, resources: Vec<WireResource>| {
            let group = DeltaDiscoveryResponse {
                type_url: type_url.to_owned(),
                resources,
                ..DeltaDiscoveryResponse::default()
            };
            out.extend(group.encode_length_delimited_to_vec());
        };
        for type_url in ORDER {
            let held = config.shared.resources.all(type_url);
            let resources: Vec<_> = held
                .into_iter()
                .filter(|(_, r)| r.source != Source::Static)
                .filter_map(|(name, r)| Some(wire(name, r.version, type_url, r.bytes?.to_vec())))
                .collect();
            if !resources.is_empty() {
                put(type_url, resources);
            }
        }
        let snapshot = config.shared.snapshot.load();
        let own = (
            snapshot.secrets.get(names::SDS_DEFAULT),
            snapshot.secrets.get(names::SDS_ROOT_CA),
        );
        if let (Some(Secret::Identity(identity)), Some(Secret::Trust(trust))) = own {
            let part = |name: &str, bytes| wire(name.to_owned(), String::new(), IDENTITY, bytes);
            put(
                IDENTITY,
                vec![
                    part("chain", ders(&identity.chain)),
                    part("key", identity.key.secret_der().to_vec()),
                    part("roots", ders(&trust.roots)),
                ],
            );
        }
        out
    }

    fn read(&self) -> anyhow::Result<BTreeMap<String, DeltaDiscoveryResponse>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let mut rest = bytes
            .strip_prefix(HEADER)
            .with_context(|| format!("{} is of another version", self.path.display()))?;
        let mut out = BTreeMap::new();
        while !rest.is_empty() {
            let group = DeltaDiscoveryResponse::decode_length_delimited(&mut rest)
                .with_context(|| format!("{} is damaged", self.path.display()))?;
            out.insert(group.type_url.clone(), group);
        }
        Ok(out)
    }
}

/// A list of DER certificates.
#[derive(Clone, PartialEq, Message)]
struct Ders {
    #[prost(bytes = "vec", repeated, tag = "1")]
    items: Vec<Vec<u8>>,
}

fn ders(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let items = certificates.iter().map(|c| c.to_vec()).collect();
    Ders { items }.encode_to_vec()
}

fn wire(name: String, version: String, type_url: &str, value: Vec<u8>) -> WireResource {
    WireResource {
        name,
        version,
        resource: Some(Any {
            type_url: type_url.to_owned(),
            value,
        }),
        ..WireResource::default()
    }
}

fn incoming(resource: &WireResource) -> Incoming {
    Incoming {
        name: resource.name.clone(),
        version: resource.version.clone(),
        bytes: resource
            .resource
            .as_ref()
            .map(|any| any.value.clone())
            .unwrap_or_default(),
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Whole or not at all, and for nobody else to read.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().context("no directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let draft = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .with_context(|| format!("cannot write {}", draft.display()))?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))
}
