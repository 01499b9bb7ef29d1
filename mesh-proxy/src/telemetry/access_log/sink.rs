//! Where lines go.

/// One file (or `/dev/stdout`) that access logs are written to, by a thread of its own.
#[derive(Debug, Clone)]
pub struct Sink {}

impl Sink {
    /// The sink of a path; all logs of one path share it.
    pub fn open(path: &str) -> Self {
        let _ = path;
        Sink {}
    }
}

pub(super) fn reopen() {}
