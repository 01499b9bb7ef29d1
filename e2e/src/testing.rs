//! What tests of a whole mesh share.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::netns::{self, Family, Network};
use crate::runner::folder::PROGRAMS;
use crate::runner::{Mesh, Options};

/// Whether a test that needs network namespaces must be left out here; says why.
///
/// # Panics
/// Under `CI=true`, where nothing may be left out.
pub fn skips(test: &str) -> bool {
    netns::unavailable().is_some_and(|why| skip(test, &why))
}

fn skip(test: &str, why: &str) -> bool {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: {why}");
    // Past the capture of cargo's test runner: a test that was left out should be seen.
    let _ = writeln!(std::io::stderr(), "{test}: skipped, {why}");
    true
}

/// Says why a test is left out.
///
/// # Panics
/// Under `CI=true`, where nothing may be left out.
pub fn left_out(test: &str, why: &str) {
    skip(test, why);
}

/// Folder of the workspace's programs, as [`Mesh`] finds them.
///
/// # Panics
/// When this program's own path is unknown.
pub fn programs() -> std::path::PathBuf {
    match crate::runner::folder::beside_this_program() {
        Ok(folder) => folder,
        Err(error) => panic!("{error:#}"),
    }
}

/// A network, or `None` with a line that says why there is none.
///
/// # Panics
/// When the network cannot be made although nothing is missing, and as [`skips`].
pub fn network_or_skip(test: &str, family: Family) -> Option<Network> {
    if skips(test) {
        return None;
    }
    match Network::create(family) {
        Ok(network) => Some(network),
        Err(error) => panic!("{test}: {error:#}"),
    }
}

/// A mesh, or `None` with a line that says why there is none.
///
/// # Panics
/// When the mesh does not start although nothing is missing, and as [`skips`].
pub fn mesh_or_skip(test: &str, options: Options) -> Option<Mesh> {
    if skips(test) {
        return None;
    }
    match Mesh::start(options) {
        Ok(mesh) => Some(mesh),
        Err(error) => {
            let text = format!("{error:#}");
            let not_built = text.contains("build them with") && PROGRAMS.iter().any(|name| text.contains(name));
            assert!(not_built && skip(test, &text), "{test}: {text}");
            None
        }
    }
}

/// Waits until something holds.
///
/// # Panics
/// When it does not within the limit.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
