//! Access logs: compiled formats, and a thread that writes.

use std::sync::Arc;

use super::{RequestRecord, TcpRecord};
use crate::listener::ConnInfo;
use crate::snapshot::AccessLog;

mod sink;

pub use sink::Sink;

/// Compiled format of an access log.
#[derive(Debug)]
pub struct LogFormat {}

impl LogFormat {
    /// `text_format`: Envoy's command operators.
    ///
    /// # Errors
    /// Names the operator that is unknown or malformed.
    pub fn text(format: &str) -> Result<Self, String> {
        let _ = format;
        Ok(LogFormat {})
    }

    /// `json_format`: keys with operators, written in this order.
    ///
    /// # Errors
    /// As [`LogFormat::text`], with the key.
    pub fn json(entries: &[(String, String)]) -> Result<Self, String> {
        let _ = entries;
        Ok(LogFormat {})
    }

    /// Envoy's format when none is configured.
    pub fn envoy_default() -> Self {
        LogFormat {}
    }

    /// Whether headers are printed.
    pub fn wants_headers(&self) -> bool {
        false
    }
}

pub(super) fn log_request(log: &Arc<AccessLog>, record: &RequestRecord, conn: &ConnInfo) {
    let _ = (log, record, conn);
}

pub(super) fn log_connection(log: &Arc<AccessLog>, record: &TcpRecord, conn: &ConnInfo) {
    let _ = (log, record, conn);
}

/// Opens all files again (after a log rotation).
pub fn reopen() {
    sink::reopen();
}
