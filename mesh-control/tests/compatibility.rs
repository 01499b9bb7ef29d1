//! No field is silently without effect: each field of each networking kind is set to a value of its own, and then either
//! what some proxy is sent has changed, or somebody is told that it has not. What came out is docs/compatibility.md.
//!
//! `UPDATE_COMPATIBILITY=1` writes that page anew.

#[path = "compatibility/bases.rs"]
mod bases;
#[path = "compatibility/mesh.rs"]
mod mesh;
#[path = "compatibility/page.rs"]
mod page;
#[path = "compatibility/probe.rs"]
mod probe;
#[path = "compatibility/schema.rs"]
mod schema;
#[path = "compatibility/values.rs"]
mod values;
#[path = "compatibility/world.rs"]
mod world;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_api::istio::Kind;

use page::Row;
use probe::{State, probe};
use schema::Leaf;

/// Istio's kinds of the group networking.istio.io: one that is added to the types is asked for here too.
fn kinds() -> impl Iterator<Item = Kind> {
    Kind::all().filter(|kind| kind.info().group == "networking.istio.io")
}

#[test]
fn every_field_works_or_is_reported() {
    let mut rows = rows_of_kinds();
    rows.extend(mesh::rows());
    let silent: Vec<String> = rows
        .iter()
        .filter_map(|row| match &row.state {
            State::Silent(tried) => Some(format!(
                "{} {}: nothing changes and nobody is told, with {tried}",
                row.kind, row.field
            )),
            _ => None,
        })
        .collect();
    assert!(silent.is_empty(), "{}", silent.join("\n"));

    let page = page::page(&rows);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    if std::env::var_os("UPDATE_COMPATIBILITY").is_some() {
        std::fs::write(&path, &page).expect("write the page anew");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/compatibility.md says something else now; look at it after UPDATE_COMPATIBILITY=1 cargo test -p mesh-control --test compatibility"
    );
}

/// All fields of all kinds. Each is tried by itself, so several are tried at a time.
fn rows_of_kinds() -> Vec<Row> {
    let fields: Vec<(Kind, Leaf)> = kinds()
        .flat_map(|kind| schema::leaves(kind).into_iter().map(move |leaf| (kind, leaf)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((kind, leaf)) = fields.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((kind, leaf, probe(*kind, leaf)));
        }
        done
    };
    let mut rows: Vec<Row> = std::thread::scope(|scope| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().flat_map(|worker| worker.join().expect("a worker"));
        done.map(|(kind, leaf, state)| Row {
            kind: kind.as_str(),
            field: leaf.path.clone(),
            state,
        })
        .collect()
    });
    let place = |row: &Row| kinds().position(|kind| kind.as_str() == row.kind);
    rows.sort_by(|a, b| (place(a), &a.field).cmp(&(place(b), &b.field)));
    rows
}
