//! Changes while traffic flows.

use std::time::Duration;

use crate::lab::{CATALOG, Lab, catalog_weights};
use crate::protocols::ECHO;

/// Seconds of load; `LOAD_SECONDS` makes it longer.
fn seconds() -> u64 {
    std::env::var("LOAD_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8)
}

fn rate() -> u64 {
    std::env::var("LOAD_RATE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200)
}

/// A change that touches no request.
fn unrelated(number: u64) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: other}}\nspec:\n  hosts: [other-{number}.example]\n  \
         http: [{{route: [{{destination: {{host: catalog}}}}]}}]\n"
    )
}

#[test]
fn no_request_fails_while_everything_changes() {
    let Some(lab) = Lab::start_with("no_request_fails_while_everything_changes", CATALOG, ECHO) else {
        return;
    };
    assert_eq!(lab.version_2(10, ""), 0);
    let (seconds, rate) = (seconds(), rate());
    let load = format!("load http://catalog/items/1 --duration {seconds}s --rate {rate} --concurrency 64");
    let messages = seconds * 20;
    let (report, open) = std::thread::scope(|scope| {
        let load = scope.spawn(|| lab.client("inside", &load));
        let talks = ["ws ws://catalog/ws", "grpc http://echo:8082"].map(|talk| {
            let line = format!("{talk} --interval 50ms --messages {messages}");
            let lab = &lab;
            scope.spawn(move || lab.client("inside", &line))
        });
        for step in 0..20 {
            lab.send(&match step % 4 {
                0 => catalog_weights(0, 100),
                2 => catalog_weights(100, 0),
                _ => unrelated(step),
            });
            std::thread::sleep(Duration::from_millis(seconds * 1000 / 40));
        }
        lab.mesh.kill_control();
        std::thread::sleep(Duration::from_millis(seconds * 1000 / 8));
        if let Err(error) = lab.mesh.start_control() {
            panic!("{error:#}");
        }
        let open = talks.map(|talk| talk.join().expect("no panic"));
        (load.join().expect("no panic"), open)
    });
    assert_eq!(report["ok"], report["sent"], "{report:#}");
    // A busy machine sends fewer than it was told; that it sent at all is what counts.
    assert!(report["sent"].as_u64() >= Some(seconds * rate / 10), "{report:#}");
    let whole = serde_json::json!({"sent": messages, "received": messages, "error": null});
    assert_eq!(
        open,
        [whole.clone(), whole],
        "an open WebSocket and a gRPC stream live on"
    );
    lab.apply(&catalog_weights(0, 100));
    assert_eq!(lab.version_2(5, ""), 5, "changes arrive after the restart");
}

#[test]
fn a_proxy_starts_from_its_snapshot() {
    let Some(lab) = Lab::start("a_proxy_starts_from_its_snapshot", CATALOG) else {
        return;
    };
    let file = lab.mesh.proxy_folder("inside").expect("a pod").join("data/last-good");
    let versions = versions_of(&lab, "inside");
    assert!(versions.len() > 10, "{versions:?}");
    lab.until("the configuration is on disk", || {
        let bytes = std::fs::read(&file).unwrap_or_default();
        versions.iter().all(|version| holding(&bytes, version.as_bytes()))
    });
    lab.mesh.kill_control();
    lab.mesh.restart_proxy("inside").expect("restarted");
    let load = "load http://catalog/items/1 --requests 5";
    lab.until("served without a control plane", || {
        lab.client("inside", load)["ok"] == 5
    });
    assert_eq!(lab.version_2(20, ""), 0, "by the routes that it had");
    lab.mesh.start_control().expect("started");
    lab.apply(&catalog_weights(0, 100));
    assert_eq!(lab.version_2(5, ""), 5, "changes arrive again");
}

/// Versions of the clusters, endpoints, listeners and routes that the control plane has for a proxy.
fn versions_of(lab: &Lab, pod: &str) -> Vec<String> {
    let page = format!("/debug/config_dump?proxyID={pod}.istioinaction");
    let dump = lab.mesh.control_http(&page).and_then(|answer| answer.json());
    let dump = dump.expect("a dump");
    let lists = dump["configs"].as_array().into_iter().flatten();
    let lists = lists.filter_map(|section| section.as_object()).flatten();
    let resources = lists.flat_map(|(_, list)| list.as_array().into_iter().flatten());
    let version = |one: &serde_json::Value| {
        let version = one["version_info"]
            .as_str()
            .or(one["active_state"]["version_info"].as_str());
        version.map(str::to_owned)
    };
    resources.filter_map(version).collect()
}

fn holding(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_broken_document_stays_by_itself() {
    let Some(lab) = Lab::start("a_broken_document_stays_by_itself", CATALOG) else {
        return;
    };
    let (config, log) = (lab.mesh.config_folder(), lab.mesh.logs().join("mesh-control.log"));
    let put = |file: &str, text: &str| {
        std::fs::write(config.join(file), text).expect("written");
        lab.wait_in_force();
    };
    let service = |name: &str, spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: istioinaction}}\nspec:\n{spec}\n"
        )
    };
    let route = |host: &str, weight: i32| {
        format!("  hosts: [broken.example]\n  http:\n  - route: [{{destination: {{host: {host}}}, weight: {weight}}}]")
    };
    for (file, text, line, field) in [
        ("not-yaml.yaml", "a: [1, 2\n".to_owned(), "", ""),
        (
            "negative.yaml",
            service("a", &route("catalog", -5)),
            ":7",
            "spec.http[0].route[0].weight",
        ),
        ("wrong-type.yaml", service("b", "  hosts: 7"), ":5", "spec.hosts"),
        (
            "unknown-field.yaml",
            service("c", "  hosts: [x.example]\n  htpp: []"),
            ":6",
            "spec.htpp",
        ),
        (
            "unknown-host.yaml",
            service("d", &route("nowhere", 1)),
            ":7",
            "spec.http[0].route[0].destination.host",
        ),
        // Sorted before the file that holds the good one.
        (
            "again.yaml",
            service("catalog", &route("catalog", 1)),
            ":3",
            "metadata.name",
        ),
    ] {
        put(file, &text);
        let place = format!("{file}{line}");
        lab.until(&format!("one line names {place} and {field}"), || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            said.lines().any(|one| one.contains(&place) && one.contains(field))
        });
    }
    // All other configuration is in force, and changes still arrive.
    assert_eq!(lab.version_2(10, ""), 0);
    lab.apply(&catalog_weights(0, 100));
    assert_eq!(lab.version_2(10, ""), 10, "a change beside broken files");

    // A good object that turns bad stays as it was, and mending it takes effect.
    let name = "virtualservice.istioinaction.catalog.yaml";
    let good = std::fs::read_to_string(config.join(name)).expect("the object's file");
    let first = std::fs::read_to_string(&log).unwrap_or_default().len();
    put(name, "metadata: [\n");
    lab.until("the log names the file", || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        said.get(first..).is_some_and(|new| new.contains(name))
    });
    assert_eq!(lab.version_2(10, ""), 10);
    let back = good
        .replace("version-v2", "version-vx")
        .replace("version-v1", "version-v2");
    put(name, &back.replace("version-vx", "version-v1"));
    assert_eq!(lab.version_2(10, ""), 0, "the mended file is in force");
}
