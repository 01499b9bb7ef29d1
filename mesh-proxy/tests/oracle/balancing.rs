//! Which endpoints requests go to.

use std::collections::BTreeMap;

use crate::support::{Proxy, Seen, Setup, cluster, cluster_of, compare, endpoints, get, table};

pub(crate) const BEHAVIOURS: usize = 15;

const CLUSTERS: [&str; 12] = [
    "even",
    "weights",
    "random",
    "least",
    "zones",
    "failed-zone",
    "failover",
    "partly",
    "panic",
    "no-panic",
    "nobody",
    "draining",
];

const ZONES: &str = "common_lb_config: {locality_weighted_lb_config: {}}";

const CALM: &str = "common_lb_config: {healthy_panic_threshold: {value: 0}}";

fn setup() -> Setup {
    let all = endpoints(4);
    let [a, b, c, d] = all[..] else {
        unreachable!("four endpoints")
    };
    let zone = |name: &str, weight: u32| format!("locality: {{zone: {name}}}, load_balancing_weight: {weight}");
    let (z1, z2) = (zone("z1", 70), zone("z2", 30));
    let bad = "health_status: UNHEALTHY";
    let mut routes: String = CLUSTERS
        .iter()
        .map(|name| format!("- {{match: {{path: /{name}}}, route: {{cluster: {name}}}}}\n"))
        .collect();
    let weighted = |path: &str, one: u32, two: u32| {
        format!(
            "- {{match: {{path: /{path}}}, route: {{weighted_clusters: {{clusters: [{{name: only-a, weight: {one}}}, \
             {{name: only-b, weight: {two}}}]}}}}}}\n"
        )
    };
    routes += &weighted("split", 70, 30);
    routes += &weighted("all-to-one", 100, 0);
    let heavy = |weight: u32| format!("load_balancing_weight: {weight}");
    Setup {
        table: table("", &routes),
        clusters: vec![
            cluster("even", "", &[a, b, c]),
            cluster_of(
                "weights",
                "",
                &[("", &[(a, &heavy(1)), (b, &heavy(2)), (c, &heavy(3))])],
            ),
            cluster("random", "lb_policy: RANDOM", &[a, b, c]),
            cluster("least", "lb_policy: LEAST_REQUEST", &[a, b, c]),
            cluster_of("zones", ZONES, &[(&z1, &[(a, ""), (b, "")]), (&z2, &[(c, "")])]),
            cluster_of(
                "failed-zone",
                ZONES,
                &[(&z1, &[(a, bad), (b, bad)]), (&z2, &[(c, ""), (d, "")])],
            ),
            cluster_of(
                "failover",
                "",
                &[("", &[(a, bad), (b, bad)]), ("priority: 1", &[(c, ""), (d, "")])],
            ),
            cluster_of("partly", "", &[("", &[(a, ""), (b, bad)]), ("priority: 1", &[(c, "")])]),
            cluster_of("panic", "", &[("", &[(a, ""), (b, bad), (c, bad)])]),
            cluster_of("no-panic", CALM, &[("", &[(a, ""), (b, bad), (c, bad)])]),
            cluster_of("nobody", CALM, &[("", &[(a, bad)])]),
            cluster_of(
                "draining",
                CALM,
                &[(
                    "",
                    &[
                        (a, "health_status: DRAINING"),
                        (b, "health_status: TIMEOUT"),
                        (c, "health_status: HEALTHY"),
                    ],
                )],
            ),
            cluster("only-a", "", &[a]),
            cluster("only-b", "", &[b]),
        ],
        ..Setup::default()
    }
}

#[test]
fn balancing() {
    compare("balancing", BEHAVIOURS, setup, |proxy, seen| {
        // Where rounds begin is chance, so whole rounds are counted.
        for (cluster, count) in [
            ("even", 30),
            ("weights", 60),
            ("failed-zone", 40),
            ("failover", 40),
            ("panic", 30),
            ("no-panic", 30),
            ("draining", 30),
            ("all-to-one", 30),
        ] {
            let shares = shares(proxy, cluster, count);
            seen.add(
                &format!("exact: {cluster}"),
                shares.iter().map(|(e, n)| format!("{e} {n}")).collect(),
            );
        }
        about(proxy, seen, "zones", 100, &[("c", 30, 3)]);
        about(
            proxy,
            seen,
            "random",
            900,
            &[("a", 300, 80), ("b", 300, 80), ("c", 300, 80)],
        );
        about(
            proxy,
            seen,
            "least",
            900,
            &[("a", 300, 80), ("b", 300, 80), ("c", 300, 80)],
        );
        about(proxy, seen, "split", 1000, &[("a", 700, 60), ("b", 300, 60)]);
        // Half of the first priority takes 70 %, as it is provided for 1.4 times over.
        about(proxy, seen, "partly", 1000, &[("a", 700, 60), ("c", 300, 60)]);
        seen.ask(proxy, "nobody healthy", 503, &get("/nobody"));
        let of = |cluster: &str| {
            proxy.stats(
                &format!("cluster.{cluster}"),
                &["membership_total", "membership_healthy"],
            )
        };
        seen.add("members", CLUSTERS.iter().flat_map(|c| of(c)).collect());
    });
}

fn about(proxy: &Proxy, seen: &mut Seen, cluster: &str, count: usize, expected: &[(&str, usize, usize)]) {
    let shares = shares(proxy, cluster, count);
    let lines = expected.iter().map(|(endpoint, wanted, tolerance)| {
        let found = shares.get(*endpoint).copied().unwrap_or(0);
        assert!(
            found.abs_diff(*wanted) <= *tolerance,
            "{}: {cluster}: {shares:?}",
            proxy.name
        );
        format!("{endpoint}: about {wanted} of {count}")
    });
    seen.add(&format!("about: {cluster}"), lines.collect());
}

fn shares(proxy: &Proxy, cluster: &str, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for answer in proxy.ask_often(&format!("/{cluster}"), count) {
        let endpoint = answer.header("x-endpoint").unwrap_or("none").to_owned();
        *shares.entry(endpoint).or_default() += 1;
    }
    shares
}
