//! Other programs, quietly: what they print goes to a log, and only what explains a failure reaches the user.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Lines of a log that an error repeats.
const TAIL: usize = 12;

/// Runs a step with its name before it and its seconds after it, indented below the command's own lines.
///
/// # Errors
/// The step's own, with its name.
pub(crate) fn timed<T>(what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let live = std::io::stdout().is_terminal();
    if live {
        print!("  · {what} …");
        let _ = std::io::stdout().flush();
    }
    let outcome = step();
    let (mark, seconds) = (if outcome.is_ok() { "✔" } else { "✘" }, start.elapsed().as_secs_f64());
    let begin = if live { "\r\x1b[K" } else { "" };
    println!("{begin}  {mark} {what} ({seconds:.1} s)");
    outcome.with_context(|| what.to_owned())
}

/// A command with arguments and no input.
pub(crate) fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs to the end with all output in a log file.
///
/// # Errors
/// When it cannot start or ends badly; the error holds the log's last lines and its path.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let mut file = append(log)?;
    let said = say(command);
    writeln!(file, "$ {said}")?;
    let status = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start {said}"))?;
    if !status.success() {
        bail!("{said}: {status}\n{}\nall of it: {}", tail(log), log.display());
    }
    Ok(())
}

/// What a command prints on its standard output, without white space around it.
///
/// # Errors
/// When it cannot start or ends badly; the error holds what it printed on its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let said = say(command);
    let output = command.output().with_context(|| format!("cannot start {said}"))?;
    if !output.status.success() {
        bail!(
            "{said}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a command can be started and ends well; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A file to write at the end of, with its folder.
pub(crate) fn append(file: &Path) -> Result<File> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| file.display().to_string())
}

/// Last lines of a log, indented.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines
        .iter()
        .skip(from)
        .map(|l| format!("    {l}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn say(command: &Command) -> String {
    let mut said = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        said.push(' ');
        said.push_str(&arg.to_string_lossy());
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_the_program_said() {
        let log = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        let error = logged(&mut command("sh", &["-c", "echo why; exit 3"]), &log).expect_err("a failure");
        let _ = std::fs::remove_file(&log);
        let text = format!("{error:#}");
        assert!(text.contains("why") && text.contains("exit status: 3"), "{text}");
    }
}
