//! The scenarios, in the order in which they start.

mod book;
mod canary;
mod capture;
mod cni;
mod control;
mod gateway;
mod ingress;
mod lab;
mod release;
mod resilience;
mod revisions;
mod rollout;
mod security;
mod week3;
mod workloads;

use anyhow::Result;

use super::run::{Need, Scenario, Turn};

type Run = fn(&Turn<'_>) -> Result<()>;

const fn shared(name: &'static str, shows: &'static str, run: Run) -> Scenario {
    Scenario {
        name,
        shows,
        alone: false,
        need: Need::Mesh,
        run,
    }
}

/// Changes what others stand on.
const fn alone(name: &'static str, shows: &'static str, run: Run) -> Scenario {
    Scenario {
        alone: true,
        ..shared(name, shows, run)
    }
}

/// Is skipped where this is not there.
const fn with(need: Need, scenario: Scenario) -> Scenario {
    Scenario { need, ..scenario }
}

/// What `--core` leaves out: the longest of those whose parts others show too.
pub(super) const BEYOND_CORE: [&str; 4] = ["book_chapter", "canary_weights", "week3_resilience", "revisions"];

/// All.
pub(super) const ALL: &[Scenario] = &[
    shared(
        "week1_lab",
        "namespace label, catalog and webapp, gateway and NodePort, chaos and retries, canary",
        lab::week1,
    ),
    shared(
        "rolling_restarts",
        "both sides restarted under load by HTTP/1.1, HTTP/2 and gRPC: no failed request",
        rollout::both_sides,
    ),
    shared(
        "injection_decisions",
        "2/2 in a labelled namespace, 1/1 elsewhere, and by the labels of pods",
        capture::decisions,
    ),
    shared(
        "probes_under_strict",
        "HTTP, TCP and exec probes of injected pods under STRICT",
        security::probes,
    ),
    shared(
        "strict_mtls",
        "plaintext is refused, the mesh's own calls are not, and the proxy says who called",
        security::strict,
    ),
    shared(
        "timeout_and_faults",
        "timeout 0.5 s, 20 % aborts, header canary",
        resilience::faults,
    ),
    shared(
        "gateway_https",
        "certificate by credentialName, redirect from plaintext, blue to green without a failed request",
        gateway::https,
    ),
    shared(
        "outlier_ejection",
        "a failing endpoint is ejected and shown so",
        resilience::outlier,
    ),
    shared("job_completes", "a Job ends when it tells its proxy to", workloads::job),
    shared(
        "stateful_headless",
        "a StatefulSet behind a headless service under STRICT, each pod by its name",
        workloads::stateful,
    ),
    shared(
        "init_network",
        "an init container reaches the network as the proxy's user",
        workloads::init,
    ),
    shared(
        "canary_weights",
        "10, 30, 50, 100 % to a second version and back under load: no failed request",
        canary::weights,
    ),
    shared(
        "book_chapter",
        "kube-inject, a gateway with certificate files, faults, and blue/green with testers by a header",
        book::chapter,
    ),
    // In the namespace of the first week's lab.
    alone(
        "week3_resilience",
        "balancing, timeouts, retries, outliers, limits and zones by the notes' files",
        week3::week3,
    ),
    alone(
        "control_plane_restarts",
        "mesh-control rolled and killed while traffic flows: no failed request",
        control::restarts,
    ),
    alone(
        "webhook_away",
        "without the webhook, pods of unlabelled namespaces start, those of labelled wait",
        control::webhook_away,
    ),
    with(
        Need::Python,
        shared(
            "manifests_accepted",
            "the API server takes what the charts render for each set of values of their matrix",
            release::accepted,
        ),
    ),
    with(
        Need::Helm,
        alone(
            "upgrade_keeps_traffic",
            "helm upgrade to other values and back under load: in force, and no failed request",
            release::upgraded,
        ),
    ),
    with(
        Need::Helm,
        alone(
            "revisions",
            "a canary of the control plane, a namespace over to it and back under load: no failed request",
            revisions::canary,
        ),
    ),
    with(
        Need::Helm,
        alone(
            "cni_mode",
            "pods without NET_ADMIN; agent killed, plugin taken away: none starts uncaptured; put right again",
            cni::mode,
        ),
    ),
    with(
        Need::Uninstall,
        alone(
            "uninstall_leaves_nothing",
            "helm uninstall leaves what docs/install.md names, and no more",
            release::uninstalled,
        ),
    ),
];

#[cfg(test)]
mod tests {
    use super::{ALL, BEYOND_CORE};

    #[test]
    fn names_are_of_scenarios_and_stand_once() {
        for name in BEYOND_CORE.into_iter().chain(ALL.iter().map(|s| s.name)) {
            assert_eq!(ALL.iter().filter(|s| s.name == name).count(), 1, "{name}");
        }
    }
}
