//! What an object says and what no proxy is told yet.

use mesh_api::istio::AnyObject;

use super::Warning;

/// The fields of an object that are set and not in force yet, and kinds that are read and not compiled yet.
pub fn unsupported(object: &AnyObject) -> Vec<Warning> {
    let _ = object;
    Vec::new()
}
