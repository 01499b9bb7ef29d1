//! Changes while traffic flows.

use std::time::Duration;

use crate::lab::Lab;
use crate::protocols::ECHO;

const CATALOG: &[&str] = &[
    "services/catalog.yaml",
    "services/catalog-deployment-v2.yaml",
    "ch2/catalog-destinationrule.yaml",
    "ch2/catalog-virtualservice-all-v1.yaml",
];

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

fn version(lab: &Lab, subset: &str) {
    lab.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: catalog}}\nspec:\n  hosts: [catalog]\n  \
         http: [{{route: [{{destination: {{host: catalog, subset: {subset}}}}}]}}]\n"
    ));
}

fn unrelated(lab: &Lab, number: u64) {
    lab.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: other}}\nspec:\n  hosts: [other-{number}.example]\n  \
         http: [{{route: [{{destination: {{host: catalog}}}}]}}]\n"
    ));
}

#[test]
fn no_request_fails_while_everything_changes() {
    let Some(lab) = Lab::start_with("no_request_fails_while_everything_changes", CATALOG, ECHO) else {
        return;
    };
    lab.until("gRPC served", || {
        lab.client("inside", "grpc http://echo:8082")["received"] == 1
    });
    lab.until("served", || lab.try_version_2(10, "") == Ok(0));
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
            match step % 4 {
                0 => version(&lab, "version-v2"),
                2 => version(&lab, "version-v1"),
                _ => unrelated(&lab, step),
            }
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
    assert!(report["sent"].as_u64() >= Some(seconds * rate * 9 / 10), "{report:#}");
    let whole = serde_json::json!({"sent": messages, "received": messages, "error": null});
    assert_eq!(
        open,
        [whole.clone(), whole],
        "an open WebSocket and a gRPC stream live on"
    );
    version(&lab, "version-v2");
    lab.until("changes arrive after the restart", || lab.try_version_2(5, "") == Ok(5));
}

#[test]
fn a_proxy_starts_from_its_snapshot() {
    let Some(lab) = Lab::start("a_proxy_starts_from_its_snapshot", CATALOG) else {
        return;
    };
    lab.until("served", || lab.try_version_2(5, "") == Ok(0));
    // The proxy writes its configuration down when it has come to rest.
    let folder = lab.mesh.proxy_folder("inside").expect("a pod").join("data");
    lab.until("the configuration is on disk", || {
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let ages = files.filter_map(|file| file.metadata().ok()?.modified().ok()?.elapsed().ok());
        ages.min().is_some_and(|youngest| youngest > Duration::from_secs(2))
    });
    lab.mesh.kill_control();
    lab.mesh.restart_proxy("inside").expect("restarted");
    let load = "load http://catalog/items/1 --requests 5";
    lab.until("served without a control plane", || {
        lab.client("inside", load)["ok"] == 5
    });
    assert_eq!(lab.version_2(20, ""), 0, "by the routes that it had");
    lab.mesh.start_control().expect("started");
    version(&lab, "version-v2");
    lab.until("changes arrive again", || lab.try_version_2(5, "") == Ok(5));
}

#[test]
fn a_broken_document_stays_by_itself() {
    let Some(lab) = Lab::start("a_broken_document_stays_by_itself", CATALOG) else {
        return;
    };
    lab.until("served", || lab.try_version_2(5, "") == Ok(0));
    let (config, log) = (lab.mesh.config_folder(), lab.mesh.logs().join("mesh-control.log"));
    let said = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
    let broken = [
        ("not-yaml", "a: [1, 2\n", "not-yaml.yaml"),
        (
            "negative",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: negative, namespace: istioinaction}\nspec:\n  hosts: [catalog]\n  http:\n  - route: [{destination: {host: catalog}, weight: -5}]\n",
            "weight",
        ),
        (
            "wrong-type",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: wrong, namespace: istioinaction}\nspec:\n  hosts: 7\n",
            "hosts",
        ),
        (
            "unknown-field",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: unknown, namespace: istioinaction}\nspec:\n  hosts: [catalog]\n  htpp: []\n",
            "htpp",
        ),
    ];
    for (name, text, expected) in broken {
        std::fs::write(config.join(format!("{name}.yaml")), text).expect("written");
        lab.until(&format!("the log names {name}.yaml and {expected}"), || {
            said(&format!("{name}.yaml")) && said(expected)
        });
    }
    // All other configuration is in force, and changes still arrive.
    assert_eq!(lab.version_2(10, ""), 0);
    version(&lab, "version-v2");
    lab.until("a change beside broken files", || lab.try_version_2(5, "") == Ok(5));

    // A good object that turns bad stays as it was, and mending it takes effect.
    let file = config.join("virtualservice.istioinaction.catalog.yaml");
    let good = std::fs::read_to_string(&file).expect("the object's file");
    std::fs::write(
        &file,
        good.replace("version-v2", "version-v1").replace("http:", "http: [\n"),
    )
    .expect("written");
    lab.until("the log names the file", || {
        said("virtualservice.istioinaction.catalog.yaml")
    });
    assert_eq!(lab.version_2(10, ""), 10);
    std::fs::write(&file, good.replace("version-v2", "version-v1")).expect("written");
    lab.until("the mended file is in force", || lab.try_version_2(5, "") == Ok(0));
}
