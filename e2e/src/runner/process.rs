//! Programs in pods.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::{Space, rootless};

/// What to run, and as whom.
#[derive(Debug, Clone)]
pub struct Program {
    /// What people call it.
    pub name: String,
    /// Path.
    pub path: PathBuf,
    /// Arguments.
    pub arguments: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// User and group.
    pub user: User,
}

/// User and group of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// Who we are: root.
    pub const ROOT: User = User { uid: 0, gid: 0 };
    /// Applications: neither root nor the proxy.
    pub const APP: User = User { uid: 1000, gid: 1000 };
    /// The proxy.
    pub const PROXY: User = User {
        uid: mesh_api::names::PROXY_UID,
        gid: mesh_api::names::PROXY_UID,
    };
    /// The proxy where it needs transparent sockets.
    pub const TPROXY: User = User {
        uid: 0,
        gid: mesh_api::names::PROXY_UID,
    };
}

/// A running program. Dropping it ends it at once.
#[derive(Debug)]
pub struct Process {
    program: Program,
    space: Space,
    log: PathBuf,
    child: Child,
}

/// The command that runs a program in a namespace, with the namespace's own files in /etc.
pub fn command(space: &Space, program: &Program) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &space.name]);
    // In a user namespace with one user there is no other to become.
    if program.user != User::ROOT && !rootless::one_user_only() {
        let (uid, gid) = (program.user.uid, program.user.gid);
        command.args([
            "setpriv",
            &format!("--reuid={uid}"),
            &format!("--regid={gid}"),
            "--clear-groups",
        ]);
        if uid == 0 {
            command.arg("--");
        } else {
            command.args(["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]);
        }
    }
    command.arg(&program.path).args(&program.arguments);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs(program.env.iter().map(|(name, value)| (name, value)));
    command.current_dir("/");
    // Ctrl-C at a terminal goes to its foreground group: it is for us, who then end the programs in order.
    command.process_group(0);
    command
}

impl Process {
    /// Starts a program; what it says goes to the end of a file.
    ///
    /// # Errors
    /// When the file or the program cannot be opened.
    pub fn start(space: &Space, program: Program, log: &Path) -> Result<Process> {
        let open = || File::options().create(true).append(true).open(log);
        let file = open().with_context(|| format!("log {}", log.display()))?;
        let other = file.try_clone()?;
        let child = command(space, &program)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.name))?;
        Ok(Process {
            program,
            space: space.clone(),
            log: log.to_owned(),
            child,
        })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Process id: `ip netns exec` and `setpriv` become the program itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of what it said.
    pub fn last_words(&self) -> String {
        last_lines(&self.log, 15)
    }

    /// Asks it to end, and ends it when it takes longer than `grace`.
    pub fn stop(&mut self, grace: Duration) {
        self.ask_to_end();
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if self.ended().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// Sends SIGTERM.
    pub fn ask_to_end(&self) {
        if let Ok(pid) = i32::try_from(self.pid()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, after it ended.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.kill();
        let again = Process::start(&self.space, self.program.clone(), &self.log)?;
        *self = again;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a file; empty if there is none.
pub fn last_lines(path: &Path, count: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}
