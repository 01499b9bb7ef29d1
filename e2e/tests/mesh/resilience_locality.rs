//! Traffic stays in the caller's zone while that is healthy: the labs on localities of chapter 6.

use crate::chain::Chain;
use crate::lab::lab_file;

const FILES: &[&str] = &["simple-web.yaml", "simple-backend.yaml", "simple-service-locality.yaml"];

#[test]
fn the_own_zone_then_the_other_then_back() {
    let Some(chain) = Chain::start("the_own_zone_then_the_other_then_back", FILES) else {
        return;
    };
    let (own, other) = chain.halves(60, 6);
    assert!(
        own > 0 && other > 0,
        "without health checks zones mean nothing: {own} and {other}"
    );

    chain.apply("simple-backend-dr-outlier.yaml");
    assert_eq!(chain.halves(60, 6), (60, 0), "all in the own zone");

    chain.apply("simple-service-locality-failure.yaml");
    // It is ejected for half a minute, and after that it has to fail once more.
    chain.at_last("the other zone answers all when the own fails", || {
        let _ = chain.get();
        if !chain.endpoints().iter().any(|e| e.ejected) {
            return Err("nothing is ejected".to_owned());
        }
        let report = chain.pods(60, 6);
        let elsewhere = report.0.keys().all(|pod| pod.starts_with("simple-backend-2-"));
        if report.1.ok == 60 && elsewhere {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    });

    chain.apply("simple-service-locality.yaml");
    assert_eq!(chain.halves(60, 6), (60, 0), "back in the own zone");
}

#[test]
fn zones_come_from_the_labels_of_nodes_too() {
    let nodes: String = ["a", "b"]
        .iter()
        .map(|zone| {
            format!(
                "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: node-{zone}\n  labels: {{topology.kubernetes.io/region: us-west1, \
                 topology.kubernetes.io/zone: us-west1-{zone}}}\n"
            )
        })
        .collect();
    let test = "zones_come_from_the_labels_of_nodes_too";
    let Some(chain) = Chain::start_with(test, &["simple-web.yaml", "simple-backend.yaml"], &nodes) else {
        return;
    };
    // The lab's pods, on a node each instead of with a label.
    let mut zone = "";
    let mut on_nodes = String::new();
    for line in lab_file("ch6/simple-service-locality.yaml").lines() {
        if let Some((_, label)) = line.split_once("istio-locality: us-west1.us-west1-") {
            zone = if label == "a" { "a" } else { "b" };
            continue;
        }
        on_nodes.push_str(line);
        on_nodes.push('\n');
        if line == "    spec:" {
            on_nodes.push_str(&format!("      nodeName: node-{zone}\n"));
        }
    }
    chain.lab.apply(&on_nodes);
    chain.apply("simple-backend-dr-outlier.yaml");
    assert_eq!(chain.halves(60, 6), (60, 0), "all in the zone of the caller's node");
}

#[test]
fn seventy_stay_and_thirty_go() {
    let Some(chain) = Chain::start("seventy_stay_and_thirty_go", FILES) else {
        return;
    };
    // The lab lets ten requests through at once.
    chain.apply("simple-backend-dr-outlier-locality.yaml");
    let (own, other) = chain.halves(1000, 8);
    assert!((670..=730).contains(&own), "{own} and {other} of 1000");
}
