//! Ctrl-C and SIGTERM for programs that have something to clean up.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Whether the user asked for the end.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

/// Listens from now on: the first signal asks for the end, the second is the end.
///
/// # Errors
/// When a thread cannot be started.
pub fn listen() -> Result<Interrupt> {
    let come = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&come);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            for ending in [false, true] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if ending {
                    let _ = writeln!(std::io::stderr(), "ending at once; the next run removes what is left");
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "asked for twice: not to clean up is what is wanted"
                    )]
                    std::process::exit(130);
                }
                seen.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(Interrupt(come))
}

impl Interrupt {
    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for it.
    pub fn wait(&self) {
        while !self.has_come() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
