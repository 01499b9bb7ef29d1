//! Metrics of a proxy, as Prometheus reads them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use e2e::runner::Call;

use crate::lab::{LIMIT, Lab};

/// Labels of one series.
pub(crate) type Labels = BTreeMap<String, String>;

/// Both ports that show the proxy's metrics.
pub(crate) const MERGED: u16 = 15020;
/// The proxy's own only.
pub(crate) const OWN: u16 = 15090;

/// The page that Prometheus scrapes, from inside the pod.
pub(crate) fn page(lab: &Lab, pod: &str, port: u16) -> String {
    let to = (IpAddr::from(Ipv4Addr::LOCALHOST), port).into();
    let answer = lab.mesh.http_from(pod, Call::get(to, "/stats/prometheus"));
    answer.expect("an answer").text()
}

/// All series of a metric with their values.
pub(crate) fn series(page: &str, metric: &str) -> Vec<(Labels, f64)> {
    let of_metric = page
        .lines()
        .filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
    of_metric
        .map(|rest| {
            let (labels, value) = rest.rsplit_once("} ").expect("labels end before the value");
            (pairs(labels), value.trim().parse().expect("a number"))
        })
        .collect()
}

/// `NAME="VALUE",…`; none of the values here holds a quote.
fn pairs(text: &str) -> Labels {
    let pair = |pair: &str| {
        pair.split_once("=\"")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let text = text.strip_suffix('"').unwrap_or(text);
    text.split("\",").filter_map(pair).collect()
}

/// Waits until a proxy has exactly one series of a metric that `of` picks, and gives its value; it must have these labels
/// and no others.
#[track_caller]
pub(crate) fn only(lab: &Lab, pod: &str, metric: &str, of: &[(&str, &str)], expected: &Labels) -> f64 {
    let picked = |labels: &Labels| {
        of.iter()
            .all(|(name, value)| labels.get(*name).is_some_and(|v| v == value))
    };
    let deadline = Instant::now() + LIMIT;
    // A request is counted when it has ended, a moment after its answer was read.
    let found = loop {
        let all = series(&page(lab, pod, OWN), metric);
        let found: Vec<_> = all.iter().filter(|(labels, _)| picked(labels)).cloned().collect();
        if !found.is_empty() {
            break found;
        }
        assert!(
            Instant::now() < deadline,
            "{pod} has no {metric} with {of:?}, only {all:#?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    let labels: Vec<_> = found.iter().map(|(labels, _)| labels).collect();
    assert_eq!(labels, [expected], "{metric} of {pod} with {of:?}");
    found.first().map_or(0.0, |(_, value)| *value)
}
