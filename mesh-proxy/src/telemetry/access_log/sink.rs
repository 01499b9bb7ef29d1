//! Where lines go: one thread for each file, behind a bounded queue.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines that wait for the disk. When it is full, lines are dropped and counted: a log must not hold up traffic.
const QUEUE: usize = 8192;
/// Bytes that are written at once at most.
const BATCH: usize = 64 * 1024;
/// When a file cannot be opened, before the next try.
const RETRY: Duration = Duration::from_secs(5);

/// Files are the process's, not a configuration's: every log of one path shares one writer.
static SINKS: LazyLock<Mutex<HashMap<Arc<str>, Weak<Queue>>>> = LazyLock::new(Mutex::default);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// One file (or `/dev/stdout`) that access logs are written to, by a thread of its own. The thread ends when no log uses
/// the file any more.
#[derive(Debug, Clone)]
pub struct Sink(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    sender: SyncSender<Message>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    Reopen,
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// What all sinks have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Lines written.
    pub written: u64,
    /// Lines that were dropped, because the queue was full or the file could not be written.
    pub dropped: u64,
}

/// What all sinks of the process have done.
pub fn totals() -> Totals {
    Totals {
        written: WRITTEN.load(Relaxed),
        dropped: DROPPED.load(Relaxed),
    }
}

impl Sink {
    /// The sink of a path; all logs of one path share it.
    pub fn open(path: &str) -> Self {
        let mut sinks = SINKS.lock();
        if let Some(queue) = sinks.get(path).and_then(Weak::upgrade) {
            return Sink(queue);
        }
        sinks.retain(|_, queue| queue.strong_count() > 0);
        let (sender, receiver) = sync_channel(QUEUE);
        let queue = Arc::new(Queue { sender });
        let path: Arc<str> = path.into();
        sinks.insert(Arc::clone(&path), Arc::downgrade(&queue));
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        if let Err(error) = thread.spawn(move || run(&path, &receiver)) {
            // The receiver is gone with the closure, so every line counts as dropped.
            tracing::error!(%error, "no thread for the access log");
        }
        Sink(queue)
    }

    /// Hands a line (with its newline) over; drops it when the queue is full.
    pub(crate) fn write(&self, line: String) {
        if self.0.sender.try_send(Message::Line(line)).is_err() {
            DROPPED.fetch_add(1, Relaxed);
        }
    }
}

fn all() -> Vec<Arc<Queue>> {
    SINKS.lock().values().filter_map(Weak::upgrade).collect()
}

/// Opens all files again (after a log rotation).
pub fn reopen() {
    for queue in all() {
        // A full queue is written soon; the next line after it may go to the old file, which rotation allows for.
        let _ = queue.sender.try_send(Message::Reopen);
    }
}

/// Waits until all that was logged is written, at most this long. For the end of the process.
pub fn flush(patience: Duration) {
    let deadline = Instant::now() + patience;
    let waiting: Vec<Receiver<()>> = all()
        .into_iter()
        .filter_map(|queue| {
            let (done, wait) = sync_channel(1);
            queue.sender.try_send(Message::Flush(done)).ok()?;
            Some(wait)
        })
        .collect();
    for wait in waiting {
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn run(path: &str, receiver: &Receiver<Message>) {
    let mut target = Target::new(path);
    let mut batch = Vec::with_capacity(BATCH);
    let mut lines = 0;
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(line.as_bytes());
                    lines += 1;
                }
                Message::Reopen => {
                    target.write(&mut batch, &mut lines);
                    target.close();
                }
                Message::Flush(done) => {
                    target.write(&mut batch, &mut lines);
                    let _ = done.try_send(());
                }
            }
            if batch.len() >= BATCH {
                target.write(&mut batch, &mut lines);
            }
            next = receiver.try_recv().ok();
        }
        target.write(&mut batch, &mut lines);
    }
}

/// The standard streams are used as they are: opening `/dev/stdout` anew fails for pipes of another user.
struct Target<'a> {
    path: &'a str,
    file: Option<File>,
    failed: Option<Instant>,
}

impl<'a> Target<'a> {
    fn new(path: &'a str) -> Self {
        Target {
            path,
            file: None,
            failed: None,
        }
    }

    fn close(&mut self) {
        self.file = None;
        self.failed = None;
    }

    fn write(&mut self, batch: &mut Vec<u8>, lines: &mut u64) {
        if batch.is_empty() {
            return;
        }
        let result = match self.path {
            "/dev/stdout" | "/proc/self/fd/1" => io::stdout().write_all(batch).and_then(|()| io::stdout().flush()),
            "/dev/stderr" | "/proc/self/fd/2" => io::stderr().write_all(batch),
            _ => self.file().and_then(|file| file.write_all(batch)),
        };
        match result {
            Ok(()) => WRITTEN.fetch_add(*lines, Relaxed),
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!(path = self.path, %error, "access log cannot be written");
                    self.file = None;
                    self.failed = Some(Instant::now());
                }
                DROPPED.fetch_add(*lines, Relaxed)
            }
        };
        batch.clear();
        *lines = 0;
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            // Said when it failed.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match &mut self.file {
            Some(file) => Ok(file),
            empty => {
                let file = OpenOptions::new().create(true).append(true).open(self.path)?;
                self.failed = None;
                Ok(empty.insert(file))
            }
        }
    }
}
