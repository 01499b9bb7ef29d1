//! Notices changes in a folder.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

/// Writing one file makes several events; they are over when nothing has come for this long…
const QUIET: Duration = Duration::from_millis(20);
/// …and at the latest after this, so that a steady stream of changes is followed too.
const MOST: Duration = Duration::from_millis(100);
/// Some file systems tell nobody about changes: the folder is looked at now and then all the same.
const POLL: Duration = Duration::from_secs(1);
/// As [`POLL`], where the system's own notices cannot be had.
const POLL_ONLY: Duration = Duration::from_millis(300);

/// Notices changes of files in a folder, and of single files beside it.
#[derive(Debug)]
pub struct Watcher {
    root: PathBuf,
    beside: Vec<PathBuf>,
    events: mpsc::Receiver<()>,
    /// Kept for its effect.
    _notices: Option<notify::RecommendedWatcher>,
    poll: Duration,
    seen: Stamp,
}

/// Size and time of each file.
type Stamp = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

impl Watcher {
    /// Watches from now on.
    pub fn new(root: &Path, beside: &[PathBuf]) -> Self {
        // One waiting event stands for any number of them.
        let (sender, events) = mpsc::channel(1);
        let files = beside.to_vec();
        let on_event = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|e| !concerns_us(&e, &files)) {
                return;
            }
            // Full is as good as sent: somebody is about to look.
            let _ = sender.try_send(());
        };
        let notices = notify::recommended_watcher(on_event).and_then(|mut w| {
            w.watch(root, RecursiveMode::Recursive)?;
            for dir in beside.iter().filter_map(|f| f.parent()) {
                let dir = if dir.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    dir
                };
                w.watch(dir, RecursiveMode::NonRecursive)?;
            }
            Ok(w)
        });
        let (notices, poll) = match notices {
            Ok(notices) => (Some(notices), POLL),
            Err(error) => {
                warn!(folder = %root.display(), %error, "the system gives no notice of changes; looking every {POLL_ONLY:?}");
                (None, POLL_ONLY)
            }
        };
        Watcher {
            root: root.to_owned(),
            beside: beside.to_vec(),
            events,
            _notices: notices,
            poll,
            seen: stamp(root, beside),
        }
    }

    /// Waits for a change. May be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            let noticed = matches!(timeout(self.poll, self.events.recv()).await, Ok(Some(())));
            if noticed {
                let latest = Instant::now() + MOST;
                while let Ok(Some(())) = timeout_at(latest.min(Instant::now() + QUIET), self.events.recv()).await {}
            }
            // Two changes within one tick of the file system's clock look the same by size and time, so a notice counts
            // whatever the files look like.
            let now = stamp(&self.root, &self.beside);
            if noticed || now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

fn concerns_us(event: &notify::Event, files: &[PathBuf]) -> bool {
    // Reading a file is an event too, and no change. A path without an extension may be a folder.
    let ours = |path: &PathBuf| path.extension().is_none() || super::has_objects(path) || files.contains(path);
    !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(ours))
}

fn stamp(root: &Path, beside: &[PathBuf]) -> Stamp {
    let mut files = BTreeMap::new();
    super::list(root, 0, &mut files, &mut |_, _| {});
    let one = |meta: Option<&Metadata>| (meta.map_or(0, Metadata::len), meta.and_then(|m| m.modified().ok()));
    let mut all: Stamp = files.into_iter().map(|(path, meta)| (path, one(Some(&meta)))).collect();
    for path in beside {
        all.insert(path.clone(), one(std::fs::metadata(path).ok().as_ref()));
    }
    all
}
