use std::os::unix::fs::PermissionsExt;

use mesh_api::envoy::type_url;
use mesh_api::names;

use super::*;
use crate::snapshot::Secret;
use crate::snapshot::build::{Incoming, Update, identity};
use crate::snapshot::resources::Source;
use crate::tls::TrustBundle;
use crate::xds::LastGood;

fn update(type_url: &str, name: &str, bytes: Vec<u8>) -> Update {
    Update {
        type_url: type_url.to_owned(),
        set: vec![Incoming {
            name: name.to_owned(),
            version: "v7".to_owned(),
            bytes,
        }],
        ..Update::default()
    }
}

/// An identity whose certificate ends in this year.
fn install_identity(config: &Config, year: i32) -> crate::tls::Identity {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let pem = params.self_signed(&key).expect("signed").pem();
    let made = identity(pem.as_bytes(), key.serialize_pem().as_bytes()).expect("a pair");
    let trust = TrustBundle {
        roots: made.chain.clone(),
        ..TrustBundle::default()
    };
    config.set_secret(names::SDS_ROOT_CA, Secret::Trust(Arc::new(trust)));
    let copy = identity(pem.as_bytes(), key.serialize_pem().as_bytes()).expect("a pair");
    config.set_secret(names::SDS_DEFAULT, Secret::Identity(Arc::new(copy)));
    made
}

#[test]
fn what_was_accepted_comes_back_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let before = config();
    assert_eq!(
        before.apply(update(type_url::CLUSTER, "a", encode(&cluster("a"))), Source::Dynamic),
        []
    );
    assert_eq!(
        before.apply(
            update(type_url::ENDPOINT, "a", encode(&endpoints("a", "10.0.0.1"))),
            Source::Dynamic
        ),
        []
    );
    assert_eq!(
        before
            .apply(
                update(type_url::CLUSTER, "a", encode(&bad_cluster("a"))),
                Source::Dynamic
            )
            .len(),
        1
    );
    let identity = install_identity(&before, 4000);
    let file = LastGood::new(directory.path());
    file.save(&before).expect("written");
    let mode = std::fs::metadata(directory.path().join("last-good"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a private key");

    let after = config();
    file.load(&after);
    let snapshot = after.shared.snapshot.load();
    assert_eq!(snapshot.clusters["a"].endpoints[0].address.to_string(), "10.0.0.1:80");
    let resource = after.shared.resources.get(type_url::CLUSTER, "a").expect("there");
    assert_eq!((resource.source, resource.version.as_str()), (Source::LastGood, "v7"));
    assert!(
        after
            .shared
            .readiness
            .clusters
            .load(std::sync::atomic::Ordering::Relaxed)
    );
    let saved = file.identity().expect("still good");
    assert_eq!(saved.identity.chain, identity.chain);
    assert_eq!(saved.identity.key.secret_der(), identity.key.secret_der());
    assert_eq!(saved.roots.roots, identity.chain);
}

#[test]
fn damaged_files_and_dead_certificates_are_not_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = LastGood::new(directory.path());
    let after = config();
    file.load(&after);
    assert!(file.identity().is_none(), "there is no file");

    let before = config();
    before.apply(update(type_url::CLUSTER, "a", encode(&cluster("a"))), Source::Dynamic);
    install_identity(&before, 1976);
    file.save(&before).expect("written");
    assert!(file.identity().is_none(), "it ended in 1976");

    let path = directory.path().join("last-good");
    let bytes = std::fs::read(&path).expect("there");
    for broken in [&bytes[..bytes.len() - 3], b"something else", b""] {
        std::fs::write(&path, broken).expect("written");
        file.load(&after);
        assert!(after.shared.resources.all(type_url::CLUSTER).is_empty());
    }
}
