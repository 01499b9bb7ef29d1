//! Istio's standard metrics.

use super::request::{RequestContext, RequestRecord};
use super::tcp::{TcpContext, TcpRecord};

/// Series that one worker has resolved.
#[derive(Debug, Default)]
pub struct SeriesCache {}

/// Handles of one TCP connection.
#[derive(Debug, Clone)]
pub struct TcpHandles {}

impl TcpHandles {
    pub(super) fn bytes(&self, received: u64, sent: u64) {
        let _ = (received, sent);
    }

    pub(super) fn closed(&self) {}
}

pub(super) fn request(record: &RequestRecord, ctx: &RequestContext<'_>) {
    let _ = (record, ctx);
}

pub(super) fn tcp_opened(record: &TcpRecord, ctx: &TcpContext<'_>) -> Option<TcpHandles> {
    let _ = (record, ctx);
    None
}
