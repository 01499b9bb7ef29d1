//! Outlier detection: the same endpoints are ejected after the same requests, and the statistics say the same.

use std::net::SocketAddr;

use crate::support::{Proxy, Setup, cluster, compare, get, refusing, serve, table};

/// What the clusters say of outlier detection, with the statuses that their endpoints always answer with; 0 refuses.
const CLUSTERS: [(&str, &str, &[u16]); 5] = [
    (
        "errors",
        "consecutive_5xx: 3, max_ejection_percent: 100",
        &[500, 200, 200],
    ),
    (
        "gateway",
        "consecutive_5xx: 100, consecutive_gateway_failure: 2, enforcing_consecutive_gateway_failure: 100, \
         max_ejection_percent: 100",
        &[503, 500],
    ),
    ("refused", "consecutive_5xx: 2, max_ejection_percent: 100", &[0, 200]),
    (
        "split",
        "split_external_local_origin_errors: true, consecutive_local_origin_failure: 3, consecutive_5xx: 4, \
         max_ejection_percent: 100",
        &[0, 500, 200],
    ),
    // One of three is 33 %.
    ("few", "consecutive_5xx: 2, max_ejection_percent: 20", &[500, 200, 200]),
];

pub(crate) const BEHAVIOURS: usize = CLUSTERS.len() * 3;

/// Requests to each cluster.
const REQUESTS: usize = 30;

#[test]
fn outlier_detection() {
    let endpoints = || -> Vec<Vec<SocketAddr>> {
        let one = |status: &u16| match status {
            0 => refusing(),
            status => serve(&format!("always {status}")),
        };
        CLUSTERS
            .iter()
            .map(|(_, _, all)| all.iter().map(one).collect())
            .collect()
    };
    // Endpoints remember nothing, so that both proxies may have the same.
    let all = endpoints();
    let setup = || {
        let (mut routes, mut clusters) = (String::new(), Vec::new());
        for ((name, detection, _), endpoints) in CLUSTERS.iter().zip(&all) {
            routes += &format!("- {{match: {{prefix: /{name}}}, route: {{cluster: {name}}}}}\n");
            let more = format!(
                "common_lb_config: {{healthy_panic_threshold: {{}}, update_merge_window: 0s}}, outlier_detection: {{{detection}, \
                 enforcing_success_rate: 0, base_ejection_time: 600s, max_ejection_time: 600s}}"
            );
            clusters.push(cluster(name, &more, endpoints));
        }
        Setup {
            table: table("", &routes),
            clusters,
            ..Setup::default()
        }
    };
    let seen = compare("outlier detection", BEHAVIOURS, setup, |proxy, seen| {
        for ((cluster, ..), endpoints) in CLUSTERS.iter().zip(&all) {
            // Sorted: where round robin begins is chance.
            let mut statuses: Vec<_> = (0..REQUESTS).map(|_| one(proxy, cluster)).collect();
            statuses.sort();
            seen.add(&format!("{cluster}: answers"), statuses);
            seen.add(&format!("{cluster}: statistics"), statistics(proxy, cluster));
            seen.add(&format!("{cluster}: flags"), proxy.health(cluster, endpoints));
        }
    });
    let Some(seen) = seen else { return };
    let statuses = |of: &str, status: &str| seen.of(of).iter().filter(|s| *s == status).count();
    assert_eq!(statuses("errors: answers", "500"), 3, "{seen:?}");
    assert_eq!(statuses("refused: answers", "503"), 2, "{seen:?}");
    assert!(statuses("few: answers", "500") > 5, "{seen:?}");
}

fn one(proxy: &Proxy, cluster: &str) -> String {
    let status = proxy.ask(&get(&format!("/{cluster}"))).status;
    if status != 200 {
        // Envoy's threads tell each other of an ejection: until they have, nothing else is asked.
        statistics(proxy, cluster);
    }
    status.to_string()
}

fn statistics(proxy: &Proxy, cluster: &str) -> Vec<String> {
    proxy.stats(&format!("cluster.{cluster}.outlier_detection"), &[""])
}
