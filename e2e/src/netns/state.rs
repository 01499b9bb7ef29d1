//! What a run made, written down before it is made, so that the next run can remove it if this one crashes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::command::ip;

/// Held while networks are made or cleaned up, so that two runs do not take the same range.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Content {
    /// The process that made it all.
    pid: i32,
    /// When that process started, in clock ticks since boot: pids are used again.
    started: u64,
    /// Third byte of the addresses.
    number: u8,
    /// Network namespaces.
    namespaces: Vec<String>,
}

/// The file of this run.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    content: Mutex<Content>,
    keep_files: AtomicBool,
}

/// `/run/ferromesh`, or where a user without root may write.
pub(super) fn folder() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/run/ferromesh");
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    runtime.join("ferromesh")
}

pub(super) fn lock() -> Result<Lock> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("file {}", path.display()))?;
    file.lock().with_context(|| format!("lock on {}", path.display()))?;
    Ok(Lock(file))
}

/// Start time of a process, the 22nd field of its stat file.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, blanks and brackets too.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn all() -> Vec<(PathBuf, Content)> {
    let Ok(entries) = fs::read_dir(folder()) else {
        return Vec::new();
    };
    let files = entries.flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .filter_map(|path| {
            let content = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some((path, content))
        })
        .collect()
}

/// Numbers of the networks that are in use.
pub(super) fn numbers(_: &Lock) -> Vec<u8> {
    all().into_iter().map(|(_, content)| content.number).collect()
}

/// Removes what runs that are no more have left.
pub(super) fn clean_up_crashed(_: &Lock) -> Result<()> {
    for (path, content) in all() {
        if start_time(content.pid) == Some(content.started) {
            continue;
        }
        tracing::info!("removing what run {} left behind", path.display());
        for namespace in content.namespaces.iter().rev() {
            remove_namespace(namespace);
        }
        let _ = fs::remove_dir_all(path.with_extension(""));
        fs::remove_file(&path).with_context(|| format!("file {}", path.display()))?;
    }
    Ok(())
}

impl State {
    pub(super) fn create(_: &Lock, id: &str, number: u8) -> Result<State> {
        let pid = i32::try_from(std::process::id()).context("own pid")?;
        let state = State {
            path: folder().join(format!("{id}.json")),
            content: Mutex::new(Content {
                pid,
                started: start_time(pid).context("own start time in /proc/self/stat")?,
                number,
                namespaces: Vec::new(),
            }),
            keep_files: AtomicBool::new(false),
        };
        fs::create_dir_all(state.files()).with_context(|| format!("folder {}", state.files().display()))?;
        state.write(&state.content.lock())?;
        Ok(state)
    }

    /// Folder for files of the run; it goes with everything else unless [`State::keep_files`] was called.
    pub(super) fn files(&self) -> PathBuf {
        self.path.with_extension("")
    }

    pub(super) fn keep_files(&self) {
        self.keep_files.store(true, Ordering::Relaxed);
    }

    fn write(&self, content: &Content) -> Result<()> {
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec_pretty(content)?)
            .and_then(|()| fs::rename(&temporary, &self.path))
            .with_context(|| format!("state file {}", self.path.display()))
    }

    pub(super) fn add(&self, namespace: &str) -> Result<()> {
        let mut content = self.content.lock();
        content.namespaces.push(namespace.to_owned());
        self.write(&content)
    }

    pub(super) fn forget(&self, namespace: &str) {
        let mut content = self.content.lock();
        content.namespaces.retain(|name| name != namespace);
        if let Err(error) = self.write(&content) {
            tracing::warn!("{error:#}");
        }
    }

    pub(super) fn remove_all(&self) {
        let namespaces = std::mem::take(&mut self.content.lock().namespaces);
        // The bridge's namespace was the first.
        for namespace in namespaces.iter().rev() {
            remove_namespace(namespace);
        }
        if !self.keep_files.load(Ordering::Relaxed) {
            let _ = fs::remove_dir_all(self.files());
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Ends the processes in a namespace of ours and removes it with its files in /etc/netns.
pub(super) fn remove_namespace(namespace: &str) {
    if !namespace.starts_with(super::PREFIX) || namespace.contains('/') {
        return;
    }
    if !Path::new("/run/netns").join(namespace).exists() {
        return;
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let pids = ip(&format!("netns pids {namespace}")).unwrap_or_default();
        let own = std::process::id().to_string();
        let mut left = false;
        for pid in pids.split_whitespace().filter(|pid| *pid != own) {
            if let Ok(pid) = pid.parse() {
                left = true;
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        if !left || Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if let Some(link) = namespace.strip_suffix("-net") {
        // The kernel takes its time to remove what is in a namespace; the host should not see the cable meanwhile.
        let _ = ip(&format!("link del {link}"));
    }
    if let Err(error) = ip(&format!("netns del {namespace}")) {
        tracing::warn!("{error:#}");
    }
    let _ = fs::remove_dir_all(Path::new("/etc/netns").join(namespace));
}
