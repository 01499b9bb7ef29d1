//! Requests in line for an HTTP/1 connection: the cluster has as many connections as it may.
//!
//! A connection that comes free is handed to the first in line, so that no request that comes later overtakes it. When a
//! connection of the cluster ends, on whatever worker, the first in line tries to open one in its place.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use super::lease::Lease;
use super::pool::Slot;

/// Those who wait for a connection of one slot, the longest waiting first.
#[derive(Default)]
pub(super) struct Line(RefCell<VecDeque<Rc<Waiter>>>);

#[derive(Default)]
struct Waiter {
    given: RefCell<Option<Lease>>,
    woken: Notify,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Hands a connection to the first in line. There must be one: see [`Line::is_empty`].
    pub(super) fn hand(&self, lease: Lease) {
        let first = self.0.borrow_mut().pop_front();
        if let Some(waiter) = first {
            waiter.given.replace(Some(lease));
            waiter.woken.notify_one();
        }
    }

    /// Has the first in line look again at what there is.
    pub(super) fn wake_first(&self) {
        if let Some(waiter) = self.0.borrow().front() {
            waiter.woken.notify_one();
        }
    }
}

/// A place in line, until it is dropped.
pub(super) struct Place<'s> {
    slot: &'s Slot,
    waiter: Rc<Waiter>,
}

impl<'s> Place<'s> {
    pub(super) fn last(slot: &'s Slot) -> Self {
        let waiter = Rc::new(Waiter::default());
        slot.line.0.borrow_mut().push_back(waiter.clone());
        Place { slot, waiter }
    }

    pub(super) fn is_first(&self) -> bool {
        let line = self.slot.line.0.borrow();
        line.front().is_some_and(|w| Rc::ptr_eq(w, &self.waiter))
    }

    /// The connection that came free for this place.
    pub(super) fn given(&self) -> Option<Lease> {
        self.waiter.given.take()
    }

    /// Until there is something to look at.
    pub(super) async fn woken(&self) {
        self.waiter.woken.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.slot.line.0.borrow_mut().retain(|w| !Rc::ptr_eq(w, &self.waiter));
        if let Some(unused) = self.given() {
            unused.release();
        }
        // What woke this one may be of use to the next.
        self.slot.line.wake_first();
    }
}
