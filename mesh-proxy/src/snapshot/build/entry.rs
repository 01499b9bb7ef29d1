//! One accepted message with the object that was made of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::Deps;

/// An object and whether it is in force yet.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// The message.
    pub(super) bytes: Arc<[u8]>,
    /// What was made of it last.
    pub(super) object: Arc<T>,
    /// What is in force.
    pub(super) live: Option<Arc<T>>,
    pub(super) deps: Deps,
    waits: Wait,
}

#[derive(Debug, Clone, Copy)]
enum Wait {
    /// Nothing is missing.
    No,
    /// Something is missing, since then.
    Since(Instant),
    /// It was missing for too long; the object is in force without it.
    GivenUp,
}

impl<T> Entry<T> {
    pub(super) fn new(bytes: Arc<[u8]>, object: T, deps: Deps) -> Self {
        Entry {
            bytes,
            object: Arc::new(object),
            live: None,
            deps,
            waits: Wait::No,
        }
    }

    /// Puts another object in place; the one in force stays until [`Entry::settle`].
    pub(super) fn replace(&mut self, bytes: Arc<[u8]>, object: T, deps: Deps) {
        self.bytes = bytes;
        self.object = Arc::new(object);
        self.deps = deps;
    }

    /// Decides what is in force, given whether all dependencies are there; says whether it changed.
    pub(super) fn settle(&mut self, complete: bool, now: Instant, patience: Duration) -> bool {
        if complete {
            self.waits = Wait::No;
        } else {
            match self.waits {
                Wait::No => {
                    self.waits = Wait::Since(now);
                    // What is in force already does not have to be replaced by something incomplete.
                    if !patience.is_zero() {
                        return false;
                    }
                    self.waits = Wait::GivenUp;
                }
                Wait::Since(since) if now.duration_since(since) < patience => return false,
                Wait::Since(_) => self.waits = Wait::GivenUp,
                Wait::GivenUp => {}
            }
        }
        if self.live.as_ref().is_some_and(|live| Arc::ptr_eq(live, &self.object)) {
            return false;
        }
        self.live = Some(self.object.clone());
        true
    }

    /// Whether it still waits.
    pub(super) fn warming(&self) -> bool {
        matches!(self.waits, Wait::Since(_))
    }

    /// When the wait will end.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        match self.waits {
            Wait::Since(since) => Some(since + patience),
            _ => None,
        }
    }

    /// Whether the wait ended without what was waited for.
    pub(super) fn given_up(&self) -> bool {
        matches!(self.waits, Wait::GivenUp)
    }
}
