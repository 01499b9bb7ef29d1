//! The tables, as Markdown that also reads well in a terminal.

use crate::peers::Peer;
use crate::report::{Report, Row, Sample};

/// The whole report as lines.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let mut case = "";
    for group in groups(&report.rows) {
        if group[0].case != case {
            case = group[0].case;
            lines.extend([String::new(), format!("## {}", group[0].title)]);
        }
        lines.extend([String::new(), format!("### {}", group[0].load), String::new()]);
        lines.extend(aligned(&group));
    }
    lines
}

/// Rows of the same case and load, in the order in which they were first measured.
pub(crate) fn groups(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match groups
            .iter_mut()
            .find(|g| g[0].case == row.case && g[0].load == row.load)
        {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

const HEAD: [&str; 15] = [
    "",
    "per s",
    "CPU µs",
    "± %",
    "x Envoy",
    "x best",
    "x floor",
    "GB/s/core",
    "p50 µs",
    "p90",
    "p99",
    "p99.9",
    "idle MB",
    "after MB",
    "ready ms",
];

fn aligned(group: &[&Row]) -> Vec<String> {
    let mut table: Vec<Vec<String>> = vec![HEAD.map(str::to_owned).to_vec()];
    table.extend(group.iter().map(|row| cells(row, group)));
    let mut lines = align(&table);
    for row in group {
        let errors: u64 = row.samples.iter().map(|s| s.errors).sum();
        if errors > 0 {
            lines.push(format!("\n{} of {} failed.", errors, row.peer.name()));
        }
    }
    lines
}

/// A Markdown table with its columns in line. The first row is the head; a column that says nothing is left out.
pub(crate) fn align(table: &[Vec<String>]) -> Vec<String> {
    let columns = table.first().map_or(0, Vec::len);
    let used: Vec<usize> = (0..columns)
        .filter(|c| *c == 0 || table[1..].iter().any(|r| !r[*c].is_empty()))
        .collect();
    let width = |c: usize| table.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = table
        .iter()
        .map(|row| {
            let cells: Vec<String> = used
                .iter()
                .map(|c| {
                    let pad = " ".repeat(width(*c) - row[*c].chars().count());
                    if *c == 0 {
                        format!("{}{pad}", row[*c])
                    } else {
                        format!("{pad}{}", row[*c])
                    }
                })
                .collect();
            format!("| {} |", cells.join(" | "))
        })
        .collect();
    let rule: Vec<String> = used
        .iter()
        .map(|c| format!("{}{}", "-".repeat(width(*c) + 1), if *c == 0 { '-' } else { ':' }))
        .collect();
    lines.insert(1, format!("|{}|", rule.join("|")));
    lines
}

/// CPU of one operation: per request, or per byte where bytes are what counts. Nothing under a load that does nothing.
pub(crate) fn cost(row: &Row) -> f64 {
    let bytes = row.median(|s| s.bytes_per_cpu_second);
    if bytes > 0.0 {
        1e9 / bytes
    } else if row.median(|s| s.per_second) == 0.0 {
        0.0
    } else {
        row.median(|s| s.cpu_us)
    }
}

/// Cost of a row against that of the cheapest row among some; `None` if there is none.
pub(crate) fn ratio(row: &Row, group: &[&Row], to: impl Fn(Peer) -> bool) -> Option<f64> {
    let own = cost(row);
    let best = group
        .iter()
        .filter(|r| to(r.peer))
        .map(|r| cost(r))
        .filter(|c| *c > 0.0)
        .min_by(f64::total_cmp)?;
    (own > 0.0).then(|| own / best)
}

fn cells(row: &Row, group: &[&Row]) -> Vec<String> {
    let number = |value: f64, digits: usize| {
        if value > 0.0 {
            format!("{value:.digits$}")
        } else {
            String::new()
        }
    };
    let quantile = |of: fn(&Sample) -> Option<f64>| number(row.median(|s| of(s).unwrap_or(0.0)), 0);
    let against = |to: &dyn Fn(Peer) -> bool| {
        ratio(row, group, to)
            .filter(|_| row.peer != Peer::Direct)
            .map_or_else(String::new, |r| format!("{r:.2}"))
    };
    let bulk = row.median(|s| s.bytes_per_cpu_second) > 0.0;
    let idle = row.median(|s| s.per_second) == 0.0;
    vec![
        row.peer.name().to_owned(),
        number(row.median(|s| s.per_second), 0),
        if bulk || idle {
            String::new()
        } else {
            number(row.median(|s| s.cpu_us), 1)
        },
        if row.samples.len() > 1 {
            number(row.spread() * 100.0, 0)
        } else {
            String::new()
        },
        against(&|p| p == Peer::Envoy),
        against(&Peer::is_rival),
        against(&|p| p == Peer::Floor),
        number(row.median(|s| s.bytes_per_cpu_second) / 1e9, 2),
        quantile(|s| s.latency.map(|l| l.p50)),
        quantile(|s| s.latency.map(|l| l.p90)),
        quantile(|s| s.latency.map(|l| l.p99)),
        quantile(|s| s.latency.map(|l| l.p999)),
        number(row.median(|s| s.idle_bytes as f64) / 1e6, 1),
        number(row.median(|s| s.resident_bytes as f64) / 1e6, 1),
        number(row.median(|s| s.ready_ms), 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: Peer, cpu_us: f64) -> Row {
        Row {
            case: "c",
            title: "t",
            load: "l".to_owned(),
            peer,
            samples: vec![Sample {
                cpu_us,
                per_second: 1.0,
                ..Sample::default()
            }],
        }
    }

    #[test]
    fn ratios_are_to_the_best_rival_and_to_the_floor() {
        let rows = [
            row(Peer::Floor, 10.0),
            row(Peer::MeshProxy, 15.0),
            row(Peer::Envoy, 30.0),
            row(Peer::Nginx, 12.0),
        ];
        let group: Vec<&Row> = rows.iter().collect();
        assert_eq!(ratio(&rows[1], &group, Peer::is_rival), Some(1.25));
        assert_eq!(ratio(&rows[1], &group, |p| p == Peer::Floor), Some(1.5));
        assert_eq!(ratio(&rows[1], &group, |p| p == Peer::Haproxy), None);
        let text = aligned(&group).join("\n");
        assert!(
            text.contains("mesh-proxy") && text.contains("0.50") && text.contains("1.25"),
            "{text}"
        );
        assert!(!text.contains("GB/s"), "an empty column: {text}");
    }
}
