//! Gateways: servers of all Gateway objects that choose the proxy, merged by port.

mod listener;
mod merge;
pub(super) mod parameters;
mod route;
mod secret;
mod tls;

use super::Compiled;
use super::context::Context;

/// Makes listeners, route tables and secrets of a gateway.
pub(super) fn gateway(ctx: &Context<'_>, out: &mut Compiled) {
    for port in merge::ports(ctx) {
        listener::listener(ctx, &port, out);
    }
    secret::secrets(ctx, out);
}
