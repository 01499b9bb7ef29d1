//! What a kubelet does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;

use super::state::State;

/// Asks pods whether they are ready, and notices when a program ends. Stops when it is dropped.
#[derive(Debug)]
pub(super) struct Monitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    pub(super) fn start(state: Arc<Mutex<State>>) -> Result<Monitor> {
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("monitor".to_owned()).spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                look(&state);
                std::thread::sleep(Duration::from_millis(50));
            }
        })?;
        Ok(Monitor {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(state: &Mutex<State>) {
    let (mut changes, mut waiting) = (Vec::new(), Vec::new());
    for (id, pod) in &mut state.lock().pods {
        let ended = !pod.ended().is_empty();
        if ended && pod.ready {
            tracing::warn!("a program of pod {}/{} has ended; it takes no traffic", id.0, id.1);
            changes.push((id.clone(), false));
        } else if !ended && !pod.ready {
            waiting.push((id.clone(), pod.checks()));
        }
    }
    // Asked without the lock: an answer may take a second.
    changes.extend(
        waiting
            .into_iter()
            .filter(|(_, checks)| checks.hold())
            .map(|(id, _)| (id, true)),
    );
    if !changes.is_empty()
        && let Err(error) = state.lock().set_ready(&changes)
    {
        tracing::warn!("{error:#}");
    }
}
