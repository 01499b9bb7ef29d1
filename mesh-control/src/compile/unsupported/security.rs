//! The objects of `security.istio.io` that are in force by fields.

use mesh_api::istio::PeerAuthentication;

use super::{Warning, fields, of_list};

const PEER_AUTHENTICATION: &[&str] = &["selector", "mtls", "portLevelMtls"];

pub(super) fn report(name: &str, spec: &PeerAuthentication) -> Vec<Warning> {
    fields(name, spec, |path| of_list(PEER_AUTHENTICATION, path))
}
