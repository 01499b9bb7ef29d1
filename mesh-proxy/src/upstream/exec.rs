//! Hyper's tasks stay on the worker's thread.

/// Spawns on the current worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        // As it is: a block that awaits it would hold it twice.
        tokio::task::spawn_local(future);
    }
}
