use std::path::Path;

use super::Directory;
use crate::source::{Loaded, Severity};

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
    std::fs::write(path, text).expect("file");
}

/// The lines, without the folder's own path.
fn lines(dir: &Path, loaded: &Loaded) -> Vec<String> {
    let prefix = format!("{}/", dir.display());
    loaded
        .diagnostics
        .iter()
        .map(|d| d.to_string().replace(&prefix, ""))
        .collect()
}

fn names(loaded: &Loaded) -> Vec<String> {
    let name = |o: &std::sync::Arc<mesh_api::istio::AnyObject>| {
        crate::source::object_name(o.kind().as_str(), o.namespace(), o.name())
    };
    loaded.objects.iter().map(name).collect()
}

const GOOD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: catalog
  namespace: shop
spec:
  hosts: [catalog]
  http:
  - route:
    - destination: {host: catalog}
      weight: 100
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  ports: [{port: 80}]
";

#[test]
fn many_documents_in_many_files() {
    let dir = tempfile::tempdir().expect("dir");
    write(
        dir.path(),
        "a.yaml",
        &format!("# first\n---\n{GOOD}---\n---\n# nothing\n---\n{SERVICE}"),
    );
    write(
        dir.path(),
        "deep/er/b.yml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    );
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}]}"#;
    write(dir.path(), "c.json", list);
    for ignored in [".hidden.yaml", "x.yaml~", "#y.yaml#", "notes.txt", ".git/z.yaml"] {
        write(dir.path(), ignored, "not: [yaml");
    }
    let loaded = Directory::new(dir.path()).load();
    assert_eq!(lines(dir.path(), &loaded), [""; 0]);
    assert_eq!(
        names(&loaded),
        [
            "Namespace shop",
            "Service shop/catalog",
            "ServiceAccount default/web",
            "VirtualService shop/catalog"
        ]
    );
}

#[test]
fn each_broken_document_gives_one_line() {
    let virtual_service = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replace(from, to)
    };
    let cases = [
        (
            virtual_service("[catalog]", "[catalog"),
            "x.yaml:8: VirtualService shop/catalog: bad YAML: ",
        ),
        (
            virtual_service("weight: 100", "weight: many"),
            "x.yaml:11: VirtualService shop/catalog: spec.http[0].route[0].weight: must be ",
        ),
        (
            virtual_service("weight: 100", "wieght: 100"),
            "x.yaml:11: VirtualService shop/catalog: spec.http[0].route[0].wieght: unknown field \"wieght\"; did you mean \"weight\"?",
        ),
        (
            virtual_service("weight: 100", "weight: -1"),
            "x.yaml:11: VirtualService shop/catalog: spec.http[0].route[0].weight: ",
        ),
        (
            virtual_service("kind: VirtualService", "kind: VirtualServise"),
            "x.yaml:2: VirtualServise shop/catalog: kind: ",
        ),
        (
            virtual_service("networking.istio.io/v1", "networking.istio.io/v7"),
            "x.yaml:1: VirtualService shop/catalog: apiVersion: ",
        ),
        (
            virtual_service("kind: VirtualService\n", ""),
            "x.yaml:1: kind: kind is missing; ",
        ),
        (
            virtual_service("  name: catalog\n", ""),
            "x.yaml:3: metadata.name: the object needs a name",
        ),
        ("- a\n- b\n".to_owned(), "x.yaml:1: the document is no object"),
        (
            virtual_service("hosts: [catalog]", "hosts: catalog"),
            "x.yaml:7: VirtualService shop/catalog: spec.hosts: must be a list",
        ),
    ];
    for (text, expected) in cases {
        let dir = tempfile::tempdir().expect("dir");
        write(dir.path(), "x.yaml", &format!("{text}---\n{SERVICE}"));
        let loaded = Directory::new(dir.path()).load();
        let lines = lines(dir.path(), &loaded);
        println!("{lines:?}");
        assert_eq!(lines.len(), 1, "{expected}: {lines:?}");
        assert!(
            lines[0].starts_with(expected),
            "expected {expected}…\n   found {}",
            lines[0]
        );
        assert_eq!(loaded.diagnostics[0].severity, Severity::Error);
        assert_eq!(names(&loaded), ["Service shop/catalog"], "the other document stays");
    }
}

#[test]
fn the_first_by_file_name_of_two_equals_stays() {
    let dir = tempfile::tempdir().expect("dir");
    write(dir.path(), "b.yaml", &GOOD.replace("[catalog]", "[other]"));
    write(dir.path(), "a.yaml", GOOD);
    let mut directory = Directory::new(dir.path());
    let loaded = directory.load();
    let found = lines(dir.path(), &loaded);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("b.yaml:4: VirtualService shop/catalog: metadata.name: there is one")
            && found[0].contains("a.yaml:4"),
        "{found:?}"
    );
    assert_eq!(
        loaded
            .places
            .diagnostic("VirtualService shop/catalog", "", "", Severity::Error)
            .file,
        dir.path().join("a.yaml")
    );

    std::fs::remove_file(dir.path().join("a.yaml")).expect("removed");
    let loaded = directory.load();
    assert_eq!(lines(dir.path(), &loaded), [""; 0]);
    assert_eq!(
        loaded
            .places
            .diagnostic("VirtualService shop/catalog", "", "", Severity::Error)
            .file,
        dir.path().join("b.yaml")
    );

    // What is in force stays in force, whatever a new file is called.
    write(dir.path(), "a.yaml", GOOD);
    let found = lines(dir.path(), &directory.load());
    assert!(
        found.len() == 1 && found[0].starts_with("a.yaml:4: ") && found[0].contains("b.yaml:4"),
        "{found:?}"
    );
    write(dir.path(), "b.yaml", "metadata: [");
    let loaded = directory.load();
    let place = loaded
        .places
        .diagnostic("VirtualService shop/catalog", "", "", Severity::Error);
    assert_eq!(place.file, dir.path().join("b.yaml"), "also when its file breaks");
}

#[test]
fn an_object_that_breaks_stays_as_it_was_until_it_is_mended() {
    let dir = tempfile::tempdir().expect("dir");
    let mut directory = Directory::new(dir.path());
    let file = |text: &str| write(dir.path(), "x.yaml", &format!("{SERVICE}---\n{text}"));
    file(GOOD);
    let good = directory.load();

    for bad in [
        GOOD.replace("weight: 100", "weight: -1"),
        GOOD.replace("[catalog]", "[catalog"),
        // Not even the name can be told any more.
        "{{{".to_owned(),
    ] {
        file(&bad);
        let loaded = directory.load();
        assert_eq!(loaded.objects, good.objects, "{bad}");
        let found = lines(dir.path(), &loaded);
        assert!(found.len() == 1 && found[0].contains("in force"), "{found:?}");
    }

    file(&GOOD.replace("weight: 100", "weight: 7"));
    let mended = directory.load();
    assert_eq!(lines(dir.path(), &mended), [""; 0]);
    assert_ne!(mended.objects, good.objects);

    file("");
    assert_eq!(names(&directory.load()), ["Service shop/catalog"]);
    std::fs::remove_file(dir.path().join("x.yaml")).expect("removed");
    assert!(directory.load().objects.is_empty());
}

#[test]
fn a_folder_that_is_away_changes_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let root = dir.path().join("mesh");
    write(&root, "x.yaml", GOOD);
    let mut directory = Directory::new(&root);
    let good = directory.load();
    std::fs::rename(&root, dir.path().join("away")).expect("moved");
    let loaded = directory.load();
    assert_eq!(loaded.objects, good.objects);
    assert_eq!(loaded.diagnostics.len(), 1);
    std::fs::rename(dir.path().join("away"), &root).expect("moved back");
    assert_eq!(lines(&root, &directory.load()), [""; 0]);
}

#[tokio::test]
async fn changes_are_noticed() {
    let dir = tempfile::tempdir().expect("dir");
    let beside = dir.path().join("mesh.config");
    let root = dir.path().join("objects");
    write(&root, "a.yaml", SERVICE);
    let mut watcher = super::Watcher::new(&root, std::slice::from_ref(&beside));
    let noticed = async |watcher: &mut super::Watcher| {
        tokio::time::timeout(std::time::Duration::from_secs(30), watcher.changed())
            .await
            .expect("noticed");
    };
    write(&root, "sub/b.yaml", GOOD);
    noticed(&mut watcher).await;
    for weight in ["101", "102", "103"] {
        // The same size, and perhaps the same time by the file system's clock.
        write(&root, "sub/b.yaml", &GOOD.replace("100", weight));
        noticed(&mut watcher).await;
    }
    std::fs::remove_file(root.join("a.yaml")).expect("removed");
    noticed(&mut watcher).await;
    std::fs::write(&beside, "x").expect("written");
    noticed(&mut watcher).await;
}

#[test]
fn references_that_lead_nowhere_give_one_line_each_and_stop_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let rule = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: catalog, namespace: shop}
spec:
  host: catalog
  subsets: [{name: v1, labels: {version: v1}}]
";
    let routes = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes, namespace: shop}
spec:
  hosts: [catalog]
  gateways:
  - mesh
  - front
  http:
  - match: [{uri: {prefix: /a}}]
    route:
    - destination: {host: catalog, subset: v1, port: {number: 80}}
      weight: 50
    - destination:
        host: catalog
        subset: v9
      weight: 50
  - route:
    - destination:
        host: catalgo
    mirror:
      host: catalog
      port:
        number: 81
";
    write(dir.path(), "x.yaml", &format!("{SERVICE}---\n{rule}"));
    write(dir.path(), "y.yaml", routes);
    let mut loaded = Directory::new(dir.path()).load();
    let store = crate::store::Store::build(loaded.objects.iter().cloned(), std::sync::Arc::default());
    loaded.diagnostics = crate::source::findings(&store, &loaded);
    let found = lines(dir.path(), &loaded);
    let expected = [
        "y.yaml:8: VirtualService shop/routes: spec.gateways[1]: there is no Gateway shop/front",
        "y.yaml:16: VirtualService shop/routes: spec.http[0].route[1].destination.subset: no DestinationRule",
        "y.yaml:20: VirtualService shop/routes: spec.http[1].route[0].destination.host: no service is called catalgo.shop",
        "y.yaml:24: VirtualService shop/routes: spec.http[1].mirror.port.number: service catalog.shop.svc.cluster.local has no port 81",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, expected) in found.iter().zip(expected) {
        assert!(line.starts_with(expected), "expected {expected}…\n   found {line}");
    }
    assert_eq!(loaded.objects.len(), 3);
}
