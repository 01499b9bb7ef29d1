//! `up`, `down` and `status`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::kind::{self, Kind};
use super::state::{Mode, NAME, State};
use super::{daemon, debian, dns, files, network, node_image, users};
use crate::process::{output, timed};

/// Makes the cluster, if it is not there.
pub(crate) fn up(cache: &Path, workers: Option<u32>) -> Result<()> {
    let (state, start) = (State::new(), Instant::now());
    let mode = state.mode();
    if let Some(mode) = mode
        && let Some(kind) = existing(cache, &state, mode)?
    {
        let there = kind.nodes()?.len();
        if workers.is_some_and(|wanted| there != wanted as usize + 1) {
            bail!("a cluster of {there} nodes is up; `cargo xtask cluster down` first");
        }
        timed("API server of the cluster that is up", || {
            kind.answers(Duration::from_secs(60))
        })?;
        dns::serve(cache, &kind)?;
        next_steps(&state, start);
        return Ok(());
    }
    timed("Debian packages", debian::install)?;
    let mode = match mode {
        Some(mode) => mode,
        None if timed("looking for a Docker that is running and has kind's node image", || {
            Ok(users::usable(&state))
        })? =>
        {
            Mode::Users
        }
        None => Mode::Own,
    };
    state.begin(mode)?;
    let program = kind::program(cache, mode)?;
    let kind = Kind {
        state: &state,
        mode,
        program,
    };
    let image = match mode {
        Mode::Own => {
            println!("  No Docker with kind's node image here: a private one, and a node made from Debian's packages");
            own(cache, &state)?;
            node_image::NAME
        }
        Mode::Users => {
            timed("closing the cluster's network", || users::close(&state))?;
            users::IMAGE
        }
    };
    if !kind.nodes()?.is_empty() {
        // Of before a restart of the machine, or of a start that was interrupted.
        timed("deleting old nodes", || kind.delete())?;
    }
    let workers = workers.unwrap_or_default();
    timed(&format!("kind: 1 control plane, {workers} workers"), || {
        kind.create(image, workers)
    })?;
    timed("nodes Ready", || kind.ready())?;
    dns::serve(cache, &kind)?;
    next_steps(&state, start);
    Ok(())
}

/// kind's commands, where its cluster is there.
fn existing<'a>(cache: &Path, state: &'a State, mode: Mode) -> Result<Option<Kind<'a>>> {
    if mode == Mode::Own && !daemon::answers(state) {
        return Ok(None);
    }
    let program = kind::program(cache, mode)?;
    let kind = Kind { state, mode, program };
    Ok((!kind.nodes()?.is_empty()).then_some(kind))
}

fn own(cache: &Path, state: &State) -> Result<()> {
    let archive = node_image::archive(cache)?;
    timed("private Docker daemon", || daemon::start(state))?;
    timed("node image into Docker", || daemon::load(state, &archive))?;
    timed("no way out of the cluster's network", || daemon::probe(state))
}

fn next_steps(state: &State, start: Instant) {
    println!(
        "\nThe cluster is up ({:.0} s). Use it with:\n  export KUBECONFIG={}\n  kubectl get nodes\nNext: cargo xtask images --load, then helm install; at the end: cargo xtask cluster down",
        start.elapsed().as_secs_f64(),
        state.kubeconfig().display()
    );
}

/// Loads archives into the cluster that is up.
pub(crate) fn load(cache: &Path, archives: &[PathBuf]) -> Result<()> {
    let state = State::new();
    let kind = match state.mode() {
        Some(mode) => existing(cache, &state, mode)?,
        None => None,
    };
    let Some(kind) = kind else {
        bail!("no cluster is up; `cargo xtask cluster up` makes one");
    };
    kind.load(archives)
}

/// Removes everything that `up` made, but not the cache folder.
pub(crate) fn down(cache: &Path) -> Result<()> {
    let state = State::new();
    let Some(mode) = state.mode() else {
        // What an interrupted start may have left.
        network::remove()?;
        println!("No cluster is up.");
        return state.end();
    };
    if let Some(kind) = existing(cache, &state, mode)? {
        timed("deleting the cluster", || kind.delete())?;
    }
    match mode {
        Mode::Own => {
            timed("stopping the private Docker daemon", || daemon::stop(&state))?;
            timed("removing its network", network::remove)?;
        }
        Mode::Users => users::open(&state),
    }
    timed("removing its files", || state.end())
}

/// Says what is there.
pub(crate) fn status(cache: &Path) -> Result<()> {
    let state = State::new();
    let line = |what: &str, is: &str| println!("{what:<14} {is}");
    match state.mode() {
        None => line("cluster", "none"),
        Some(Mode::Users) => line("docker", "yours"),
        Some(Mode::Own) => {
            let daemon = match (daemon::pid(&state), daemon::answers(&state)) {
                (Some(pid), true) => format!("private, process {pid}, unix://{}", state.socket().display()),
                (Some(pid), false) => format!("private, process {pid}, does not answer"),
                (None, _) => "private, not running".to_owned(),
            };
            line("docker", &daemon);
            let closed = network::closed().map_or_else(|e| format!("OPEN: {e:#}"), |()| "no way out".to_owned());
            line("network", &format!("namespace {}, {closed}", network::NAMESPACE));
        }
    }
    if state.kubeconfig().is_file() {
        line("cluster", NAME);
        line("kubeconfig", &state.kubeconfig().display().to_string());
        match output(&mut state.kubectl(&["--request-timeout=5s", "get", "nodes", "-o", "wide"])) {
            Ok(nodes) => println!("\n{nodes}"),
            Err(error) => line("nodes", &format!("the API server does not answer: {error:#}")),
        }
        if let Ok(pods) = output(&mut state.kubectl(&["--request-timeout=5s", "get", "pods", "-A"])) {
            println!("\n{pods}");
        }
    }
    println!("\nCache {}:", cache.display());
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let size = total(&entry.path());
        println!(
            "  {:<40} {:>10}",
            entry.file_name().to_string_lossy(),
            files::size(size)
        );
    }
    Ok(())
}

fn total(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| total(&e.path()))
            .sum(),
        Ok(found) => found.len(),
        Err(_) => 0,
    }
}
