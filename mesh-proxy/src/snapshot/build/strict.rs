//! Nothing is ignored silently: every field that is set in a message is one that is implemented or harmless
//! ([`mesh_api::envoy::supported`]).

use mesh_api::envoy::supported;

use super::invalid::Invalid;

/// All fields of an encoded message that mean something we do not do.
pub(crate) fn check(type_name: &str, bytes: &[u8]) -> Vec<Invalid> {
    let refused = supported::check(type_name, bytes).into_iter();
    refused
        .map(|r| Invalid {
            path: r.path,
            message: r.message,
        })
        .collect()
}
