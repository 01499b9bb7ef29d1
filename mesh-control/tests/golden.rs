//! Compiled output, compared byte for byte with files that a reader can check, and shown to a real Envoy.
//!
//! `tests/golden/CASE/input.yaml` begins with `# node: ID` (and perhaps `# label: k=v`, `# meta: KEY=VALUE`, `# agent: envoy`), then holds
//! the objects.
//! `UPDATE_GOLDEN=1` writes `expected.json` and `warnings.txt` anew. `ENVOY_BIN` names an Envoy that must accept every case,
//! and so must the `mesh-proxy` in the folder `FERROMESH_BIN_DIR`; `cargo xtask test` sets both.

#[path = "golden/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::Case;
use support::envoy::{Reader, validate};

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders: Vec<PathBuf> = fs::read_dir(&root)
        .expect("the folder of the cases")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no cases in {}", root.display());
    folders.iter().map(|folder| Case::read(folder)).collect()
}

#[test]
fn output_is_as_written_down() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (output, warnings) = case.compile();
        for (file, text) in [("expected.json", output), ("warnings.txt", warnings)] {
            let path = case.folder.join(file);
            if update {
                fs::write(&path, &text).expect("write the file anew");
            } else if fs::read_to_string(&path).unwrap_or_default() != text {
                wrong.push(format!("{}: {}", path.display(), first_difference(&path, &text)));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these differ; look at the change and run UPDATE_GOLDEN=1 cargo test -p mesh-control --test golden:\n{}",
        wrong.join("\n")
    );
}

fn first_difference(path: &Path, text: &str) -> String {
    let expected = fs::read_to_string(path).unwrap_or_default();
    let pairs = expected.lines().zip(text.lines()).enumerate();
    for (number, (old, new)) in pairs {
        if old != new {
            return format!("line {}: expected {old:?}, found {new:?}", number + 1);
        }
    }
    format!(
        "expected {} lines, found {}",
        expected.lines().count(),
        text.lines().count()
    )
}

#[test]
fn order_of_objects_does_not_show() {
    for mut case in cases() {
        let first = case.compile();
        case.objects.reverse();
        assert!(first == case.compile(), "{}: reversed", case.folder.display());
        let half = case.objects.len() / 2;
        case.objects.rotate_left(half);
        assert!(first == case.compile(), "{}: rotated", case.folder.display());
    }
}

#[test]
fn envoy_accepts_all() {
    let Some(envoy) = std::env::var_os("ENVOY_BIN") else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENVOY_BIN must name an Envoy in CI"
        );
        eprintln!(
            "SKIPPED: ENVOY_BIN is not set, so no Envoy has looked at the compiled output; cargo xtask test sets it"
        );
        return;
    };
    let mut refused = Vec::new();
    for case in cases() {
        if let Err(error) = validate(Path::new(&envoy), Reader::Envoy, &case) {
            refused.push(format!("{}:\n{error}", case.folder.display()));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn mesh_proxy_accepts_all() {
    let Some(folder) = std::env::var_os("FERROMESH_BIN_DIR") else {
        eprintln!("SKIPPED: FERROMESH_BIN_DIR is not set, so no mesh-proxy has looked at the compiled output");
        return;
    };
    let proxy = Path::new(&folder).join("mesh-proxy");
    let mut refused = Vec::new();
    // What is made for an Envoy may be more than mesh-proxy has.
    for case in cases().into_iter().filter(|case| !case.proxy.envoy) {
        if let Err(error) = validate(&proxy, Reader::MeshProxy, &case) {
            refused.push(format!("{}:\n{error}", case.folder.display()));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
