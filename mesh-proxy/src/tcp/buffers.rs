//! Buffers of one worker, lent to a connection only while it holds bytes. An idle connection has none, and the one that is
//! used again and again stays in the processor's cache.

use std::cell::RefCell;

/// Size of each: beyond it, a system call's cost no longer counts beside the copying.
pub(super) const SIZE: usize = 64 * 1024;

/// So many stay for the next ones; more are in use only while readers are slow.
const KEPT: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`SIZE`] bytes, with whatever it held before.
pub(super) fn take() -> Box<[u8]> {
    let kept = FREE.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
}

/// Gives a buffer back.
pub(super) fn give(buffer: Box<[u8]>) {
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
}
