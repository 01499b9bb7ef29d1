//! The run in one table: what matters, beside the peers, with the goals that the project has set itself.

use crate::peers::Peer;
use crate::report::{Report, Row, Sample};
use crate::table;

/// A line of the summary.
struct Line {
    what: &'static str,
    case: &'static str,
    load: &'static str,
    value: Value,
    goals: &'static [Goal],
}

/// What of the samples is shown.
#[derive(Clone, Copy)]
enum Value {
    /// CPU of an operation, µs.
    Cpu,
    PerSecond,
    /// GB moved in a second of one core.
    PerCore,
    /// 99th percentile of the latency less that without a proxy, µs.
    Added,
    IdleMb,
    AfterMb,
    ReadyMs,
}

/// What mesh-proxy's value is to be.
#[derive(Clone, Copy)]
enum Goal {
    /// At most so many times Envoy's.
    OfEnvoy(f64),
    /// At least so many times Envoy's.
    OverEnvoy(f64),
    /// More than haproxy's.
    OverHaproxy,
    /// At most so many times the floor's.
    OfFloor(f64),
    /// At most this.
    Most(f64),
}

const fn line(
    what: &'static str,
    case: &'static str,
    load: &'static str,
    value: Value,
    goals: &'static [Goal],
) -> Line {
    Line {
        what,
        case,
        load,
        value,
        goals,
    }
}

const MANY: &str = "64 connections";
const SLOW: &str = "1000/s";
const H2: &str = "8 connections x 8 streams";
const UNARY: &str = "8 connections x 8 streams, gRPC unary";
const STREAMS: &str = "gRPC streams, 8 x 8, 1 under way on each";
const ROUND: &str = "round trips, 64 connections";
const BULK: &str = "bulk (MiB per s)";

/// Headings, and the lines below each.
const PARTS: [(&str, &[Line]); 6] = {
    use Goal::{Most, OfEnvoy, OfFloor, OverEnvoy, OverHaproxy};
    use Value::{Added, AfterMb, Cpu, IdleMb, PerCore, PerSecond, ReadyMs};
    [
        (
            "CPU of a request, µs (both proxies of a pair)",
            &[
                line("HTTP/1.1", "http1", MANY, Cpu, &[]),
                line(
                    "  a sidecar's chain",
                    "sidecar",
                    MANY,
                    Cpu,
                    &[OfEnvoy(0.6), OfFloor(1.3)],
                ),
                line("  1,000 virtual hosts", "hosts", MANY, Cpu, &[]),
                line("  body of 64 KiB", "bodies", "64 connections, body 64 KiB", Cpu, &[]),
                line("  one connection", "http1", "1 connections", Cpu, &[]),
                line("  pair, mutual TLS", "http1-pair", MANY, Cpu, &[OfEnvoy(0.6)]),
                line("  pair of sidecars' chains", "sidecar-pair", MANY, Cpu, &[OfEnvoy(0.6)]),
                line("HTTP/2", "http2", H2, Cpu, &[OfEnvoy(0.7)]),
                line("  pair, mutual TLS", "http2-pair", H2, Cpu, &[OfEnvoy(0.7)]),
                line("gRPC unary", "http2", UNARY, Cpu, &[OfEnvoy(0.7)]),
                line("  pair, mutual TLS", "http2-pair", UNARY, Cpu, &[OfEnvoy(0.7)]),
                line("gRPC, message of a stream", "http2", STREAMS, Cpu, &[]),
                line("  pair, mutual TLS", "http2-pair", STREAMS, Cpu, &[]),
                line("TCP, round trip", "tcp", ROUND, Cpu, &[]),
                line("  pair, mutual TLS", "tcp-pair", ROUND, Cpu, &[OfEnvoy(0.65)]),
                line(
                    "New mutual-TLS connection",
                    "tls",
                    "new TLS connections, 16 at once",
                    Cpu,
                    &[],
                ),
            ],
        ),
        (
            "Requests per second at saturation, 64 connections",
            &[
                line("HTTP/1.1", "http1", MANY, PerSecond, &[OverEnvoy(1.0), OverHaproxy]),
                line("  pair, mutual TLS", "http1-pair", MANY, PerSecond, &[]),
            ],
        ),
        (
            "GB per second and core",
            &[
                line("TCP", "tcp", BULK, PerCore, &[OverEnvoy(1.5)]),
                line("  pair, mutual TLS", "tcp-pair", BULK, PerCore, &[OverEnvoy(1.2)]),
            ],
        ),
        (
            "p99 that is added to no proxy, at 1,000/s, µs",
            &[
                line("HTTP/1.1", "http1", SLOW, Added, &[]),
                line("  pair, mutual TLS", "http1-pair", SLOW, Added, &[OfEnvoy(0.6)]),
                line(
                    "  pair of sidecars' chains",
                    "sidecar-pair",
                    SLOW,
                    Added,
                    &[OfEnvoy(0.6)],
                ),
            ],
        ),
        (
            "Resident memory of a proxy, MB",
            &[
                line("50 services, idle", "sidecar", MANY, IdleMb, &[Most(15.0)]),
                line("  after 64 connections", "sidecar", MANY, AfterMb, &[Most(20.0)]),
                line("1,000 services, idle", "services-1000", MANY, IdleMb, &[]),
                line(
                    "10,000 services, idle",
                    "services-10000",
                    MANY,
                    IdleMb,
                    &[OfEnvoy(0.35)],
                ),
                line("1,000 idle connections", "idle", "1000 idle connections", AfterMb, &[]),
            ],
        ),
        (
            "From start until it listens, ms",
            &[
                line("50 services", "sidecar", MANY, ReadyMs, &[Most(300.0)]),
                line("10,000 services", "services-10000", MANY, ReadyMs, &[]),
            ],
        ),
    ]
};

/// Whom the summary shows.
pub(crate) const PEERS: [Peer; 5] = [Peer::MeshProxy, Peer::Envoy, Peer::Nginx, Peer::Haproxy, Peer::Floor];

/// The table, as Markdown that also reads well in a terminal. Lines that the run did not measure are left out.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let mut head = vec![String::new()];
    head.extend(PEERS.iter().map(|p| p.name().to_owned()));
    head.extend(["x Envoy", "goal", "met"].map(str::to_owned));
    let mut rows = vec![head];
    for (heading, lines) in &PARTS {
        let shown: Vec<Vec<String>> = lines.iter().filter_map(|l| cells(report, l)).collect();
        if shown.is_empty() {
            continue;
        }
        let mut title = vec![format!("**{heading}**")];
        title.resize(rows[0].len(), String::new());
        rows.push(title);
        rows.extend(shown);
    }
    if rows.len() == 1 {
        return vec!["Nothing of the summary was measured; --details shows the rest.".to_owned()];
    }
    table::align(&rows)
}

/// For each line about CPU its name and every peer's value, Envoy's being one.
pub(crate) fn beside_envoy(report: &Report) -> Vec<(String, Vec<(Peer, f64)>)> {
    let mut rows = Vec::new();
    let mut above = "";
    for line in PARTS.iter().flat_map(|(_, lines)| lines.iter()) {
        let Value::Cpu = line.value else { continue };
        let name = match line.what.strip_prefix("  ") {
            Some(name) => format!("{above}, {name}"),
            None => {
                above = line.what;
                above.to_owned()
            }
        };
        if let Some(envoy) = value(report, line, Peer::Envoy) {
            let ratio = |peer| Some((peer, value(report, line, peer)? / envoy));
            rows.push((name, PEERS.iter().copied().filter_map(ratio).collect()));
        }
    }
    rows
}

/// `None` when mesh-proxy's value is not there.
fn cells(report: &Report, line: &Line) -> Option<Vec<String>> {
    let values = PEERS.map(|peer| value(report, line, peer));
    let [Some(ours), envoy, _, haproxy, floor] = values else {
        return None;
    };
    let digits = match line.value {
        Value::PerCore => 2,
        Value::Cpu | Value::IdleMb | Value::AfterMb => 1,
        Value::PerSecond | Value::Added | Value::ReadyMs => 0,
    };
    let mut cells = vec![line.what.replace("  ", "· ")];
    cells.extend(values.map(|v| v.map_or_else(String::new, |v| format!("{v:.digits$}"))));
    let over = |other: Option<f64>| other.filter(|o| *o > 0.0).map(|o| ours / o);
    cells.push(over(envoy).map_or_else(String::new, |r| format!("{r:.2}")));
    // A goal that has nothing to be held against says nothing.
    let met = line.goals.iter().map(|goal| match goal {
        Goal::OfEnvoy(most) => over(envoy).map(|r| r <= *most),
        Goal::OverEnvoy(least) => over(envoy).map(|r| r >= *least),
        Goal::OverHaproxy => over(haproxy).map(|r| r >= 1.0),
        Goal::OfFloor(most) => over(floor).map(|r| r <= *most),
        Goal::Most(most) => Some(ours <= *most),
    });
    let met: Option<Vec<bool>> = met.collect();
    let goals: Vec<String> = line.goals.iter().map(Goal::text).collect();
    cells.push(goals.join(", "));
    cells.push(match met {
        _ if line.goals.is_empty() => String::new(),
        Some(met) if met.iter().all(|m| *m) => "yes".to_owned(),
        Some(_) => "no".to_owned(),
        None => "?".to_owned(),
    });
    Some(cells)
}

impl Goal {
    fn text(&self) -> String {
        match self {
            Self::OfEnvoy(most) => format!("≤ {most:.2} Envoy"),
            Self::OverEnvoy(least) => format!("≥ {least:.2} Envoy"),
            Self::OverHaproxy => "≥ haproxy".to_owned(),
            Self::OfFloor(most) => format!("≤ {most:.2} floor"),
            Self::Most(most) => format!("≤ {most}"),
        }
    }
}

fn value(report: &Report, line: &Line, peer: Peer) -> Option<f64> {
    let row = row(report, line.case, line.load, peer)?;
    let p99 = |row: &Row| row.median(|s: &Sample| s.latency.map_or(0.0, |l| l.p99));
    let value = match line.value {
        Value::Cpu => row.median(|s| s.cpu_us),
        Value::PerSecond => row.median(|s| s.per_second),
        Value::PerCore => row.median(|s| s.bytes_per_cpu_second) / 1e9,
        // The case of one hop is the one that is measured without a proxy too.
        Value::Added => p99(row) - self::row(report, "http1", line.load, Peer::Direct).map(p99)?,
        Value::IdleMb => row.median(|s| s.idle_bytes as f64) / 1e6,
        Value::AfterMb => row.median(|s| s.resident_bytes as f64) / 1e6,
        Value::ReadyMs => row.median(|s| s.ready_ms),
    };
    (value > 0.0).then_some(value)
}

fn row<'r>(report: &'r Report, case: &str, load: &str, peer: Peer) -> Option<&'r Row> {
    let mut rows = report.rows.iter();
    rows.find(|r| r.case == case && r.load == load && r.peer == peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn every_line_has_its_case_and_load() {
        let all = cases::all();
        for line in PARTS.iter().flat_map(|(_, lines)| lines.iter()) {
            let found = all
                .iter()
                .any(|c| c.name == line.case && c.loads.iter().any(|l| l.name() == line.load));
            assert!(found, "{}: {} of {}", line.what, line.load, line.case);
        }
    }

    #[test]
    fn goals_are_held_against_the_same_run() {
        let sample = |cpu_us| Sample {
            cpu_us,
            ..Sample::default()
        };
        let row = |peer, cpu_us| Row {
            case: "sidecar",
            title: "t",
            load: MANY.to_owned(),
            peer,
            samples: vec![sample(cpu_us)],
        };
        let mut report = Report {
            rows: vec![row(Peer::MeshProxy, 15.0), row(Peer::Envoy, 30.0)],
            ..Report::default()
        };
        let text = |report: &Report| lines(report).join("\n");
        assert!(
            text(&report).contains("0.50") && text(&report).contains(" ? "),
            "{}",
            text(&report)
        );
        report.rows.push(row(Peer::Floor, 12.0));
        assert!(text(&report).contains(" yes "), "{}", text(&report));
        report.rows[2] = row(Peer::Floor, 10.0);
        assert!(text(&report).contains(" no "), "{}", text(&report));
    }
}
