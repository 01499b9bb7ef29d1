//! A started program that ends with its owner.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A child, killed when dropped. It also dies when the bench does.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: std::path::PathBuf,
}

impl Process {
    /// Starts a program on the cores that the calling thread is pinned to. Its output goes to a file in `folder`.
    pub(crate) fn spawn(program: &Path, args: &[String], folder: &Path) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = std::fs::read_dir(folder).map(Iterator::count).unwrap_or_default();
        let log = folder.join(format!("{number}-{name}.log"));
        let output = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
        // setpriv becomes the program: the process id is the program's.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, name, log })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a port of this machine takes connections, and gives the time it took.
    ///
    /// # Errors
    /// When the program ends before, or the limit passes; with what it wrote last.
    pub(crate) fn wait_for(&mut self, port: u16, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(start.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.last_words());
            }
            if start.elapsed() > limit {
                bail!(
                    "{} does not listen on {port} after {limit:?}:\n{}",
                    self.name,
                    self.last_words()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The end of what it wrote.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
