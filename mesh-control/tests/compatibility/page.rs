//! docs/compatibility.md.

use std::fmt::Write as _;

use crate::probe::State;

/// One field.
pub(crate) struct Row {
    pub(crate) kind: &'static str,
    pub(crate) field: String,
    pub(crate) state: State,
}

const HEAD: &str = "# What every field of Istio's networking kinds does here

Written by a test (`mesh-control/tests/compatibility.rs`), which sets each field to a value of its own and looks at what four proxies
are sent: a client, a server, an ingress gateway, and a client in another namespace. Do not edit;
`UPDATE_COMPATIBILITY=1 cargo test -p mesh-control --test compatibility` writes it anew.

- **works**: what a proxy is sent changes. Of MeshConfig's `defaultConfig` also: the proxy's agent acts on it.
- **reported**: the object is in force without it, and a warning names the field (the log of mesh-control, and standard error of `mesh-control compile`).
- **refused**: the object is refused, and the error names the field.
- **not applicable**: the field says nothing to a proxy.

Where a field is in force and does something else than in Istio:

- Without `retries` a 503 of a server is retried, as Istio did up to 1.23. `EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY=true` in the
  environment of mesh-control leaves it out, as newer ones do.
- Percentages of faults may be written in the old form, `percent: 20`, for aborts too.
- TLS 1.0 and 1.1, and the cipher suites that come with them, are not there.
";

/// The page. The same rows give the same bytes.
pub(crate) fn page(rows: &[Row]) -> String {
    let mut out = HEAD.to_owned();
    let mut kinds: Vec<&str> = rows.iter().map(|row| row.kind).collect();
    kinds.dedup();
    for kind in kinds {
        let of_kind: Vec<&Row> = rows.iter().filter(|row| row.kind == kind).collect();
        let works = of_kind.iter().filter(|row| row.state == State::Works).count();
        let _ = write!(out, "\n## {kind}\n\n{works} of {} fields work.\n", of_kind.len());
        // What is said about the whole object is said once.
        let whole = of_kind.first().map(|row| &row.state);
        let alike = |row: &&&Row| Some(&row.state) == whole && matches!(row.state, State::Reported(_));
        if works == 0 && of_kind.iter().filter(alike).count() * 2 > of_kind.len() {
            let _ = writeln!(out, "All are reported: {}.", whole.map_or("", State::why));
            continue;
        }
        out.push_str("\n| field | state | |\n| --- | --- | --- |\n");
        for row in folded(&of_kind) {
            let (state, why) = (row.state.name(), row.state.why().replace('|', "\\|"));
            let _ = writeln!(out, "| `{}` | {state} | {why} |", row.field);
        }
    }
    out
}

/// Places of a DestinationRule in which a traffic policy may stand, beside the first.
const OTHER_POLICIES: [&str; 3] = [
    "subsets[].trafficPolicy.portLevelSettings[].",
    "trafficPolicy.portLevelSettings[].",
    "subsets[].trafficPolicy.",
];

/// Without the fields of other traffic policies that do what those of the first do.
fn folded<'a>(rows: &'a [&'a Row]) -> impl Iterator<Item = &'a Row> {
    let of_first = |row: &Row| {
        let rest = OTHER_POLICIES
            .iter()
            .find_map(|prefix| row.field.strip_prefix(prefix))?;
        let name = format!("trafficPolicy.{rest}");
        rows.iter().find(|r| r.field == name)
    };
    let same = move |row: &Row| of_first(row).is_some_and(|first| first.state == row.state);
    // What works elsewhere and is reported at the first place is said at the first place.
    let works = move |row: &Row| row.state == State::Works && of_first(row).is_some();
    rows.iter().copied().filter(move |row| !same(row) && !works(row))
}
