//! Ferromesh without Kubernetes: pods as network namespaces, a runner for ordinary Kubernetes YAML, and the sample
//! application that the scenarios talk to.

pub mod demo;
pub mod interrupt;
pub mod netns;
pub mod runner;
pub mod sample;

/// A network for a test, or `None` with a line that says why there is none. Under `CI=true` that is a failure.
///
/// # Panics
/// When the network cannot be made although nothing is missing, or when something is missing under `CI=true`.
pub fn network_or_skip(test: &str) -> Option<netns::Network> {
    if skips(test) {
        return None;
    }
    match netns::Network::create() {
        Ok(network) => Some(network),
        Err(error) => panic!("{test}: {error:#}"),
    }
}

/// Whether a test that needs network namespaces must be left out here; says why.
///
/// # Panics
/// Under `CI=true`, where nothing may be left out.
pub fn skips(test: &str) -> bool {
    let Some(why) = netns::unavailable() else {
        return false;
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: {why}");
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{test}: skipped, {why}");
    true
}
