//! Latency against rate, in an open loop: a panel for one hop and one for a pair, a line for each peer.

use std::fmt::Write as _;

use super::{caption, colour, legend, rule, svg, text};
use crate::load::Latency;
use crate::peers::Peer;
use crate::report::Report;

const PANELS: [(&str, &str); 2] = [
    ("rates", "HTTP/1.1, one hop"),
    ("rates-pair", "HTTP/1.1, pair with mutual TLS"),
];
const PEERS: [Peer; 6] = [
    Peer::MeshProxy,
    Peer::Envoy,
    Peer::Nginx,
    Peer::Haproxy,
    Peer::Floor,
    Peer::Direct,
];
const LEFT: f64 = 60.0;
const TOP: f64 = 80.0;
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 260.0;
/// From one panel to the next.
const STEP: f64 = WIDTH + 60.0;
/// Powers of ten of microseconds.
const LOW: f64 = 1.5;
const HIGH: f64 = 4.5;

/// Rates that were reached, with their latency.
type Points = Vec<(f64, Latency)>;

/// `None` when no rates were measured.
pub(super) fn plot(report: &Report) -> Option<String> {
    let lines: Vec<(usize, Peer, Points)> = PANELS
        .iter()
        .enumerate()
        .flat_map(|(panel, (case, _))| PEERS.map(|peer| (panel, peer, points(report, case, peer))))
        .filter(|(_, _, points)| !points.is_empty())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let mut body = String::new();
    text(
        &mut body,
        10.0,
        20.0,
        "start",
        "Latency against rate in an open loop; line: p99, dashed: p50",
    );
    legend(&mut body, 15.0, 42.0, &PEERS);
    for (panel, (_, title)) in PANELS.iter().enumerate() {
        let left = LEFT + panel as f64 * STEP;
        let here = || lines.iter().filter(|(p, ..)| *p == panel);
        let widest = here()
            .flat_map(|(_, _, points)| points.iter().map(|(rate, _)| *rate))
            .fold(1.0, f64::max);
        text(&mut body, left, TOP - 10.0, "start", title);
        grid(&mut body, left, widest);
        for (_, peer, points) in here() {
            line(
                &mut body,
                left,
                widest,
                *peer,
                points,
                |l| l.p50,
                "stroke-dasharray=\"3 3\"",
            );
            line(&mut body, left, widest, *peer, points, |l| l.p99, "stroke-width=\"2\"");
        }
    }
    caption(&mut body, report, TOP + HEIGHT + 54.0);
    Some(svg(LEFT + 2.0 * STEP, TOP + HEIGHT + 80.0, &body))
}

/// Those of a peer, by rate.
fn points(report: &Report, case: &str, peer: Peer) -> Points {
    let rows = report.rows.iter().filter(|r| r.case == case && r.peer == peer);
    // The load at saturation is no rate of the open loop.
    let paced = rows.filter(|r| r.load.contains("capacity"));
    let mut points: Points = paced
        .filter_map(|r| r.samples.iter().find_map(|s| Some((s.per_second, s.latency?))))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn height(microseconds: f64) -> f64 {
    let power = microseconds.max(1.0).log10().clamp(LOW, HIGH);
    TOP + HEIGHT * (HIGH - power) / (HIGH - LOW)
}

fn grid(body: &mut String, left: f64, widest: f64) {
    for (microseconds, label) in [
        (50.0, "50 µs"),
        (100.0, "100 µs"),
        (300.0, "300 µs"),
        (1e3, "1 ms"),
        (3e3, "3 ms"),
        (1e4, "10 ms"),
        (3e4, "30 ms"),
    ] {
        let y = height(microseconds);
        rule(body, (left, y), (left + WIDTH, y));
        text(body, left - 4.0, y + 4.0, "end", label);
    }
    // Some five round numbers.
    let rough = widest / 5.0;
    let ten = 10f64.powf(rough.log10().floor());
    let every = [1.0, 2.0, 5.0, 10.0].map(|f| f * ten).into_iter().find(|s| *s >= rough);
    let every = every.unwrap_or(rough).max(1.0);
    let mut rate = 0.0;
    while rate <= widest {
        let x = left + WIDTH * rate / widest;
        rule(body, (x, TOP), (x, TOP + HEIGHT));
        text(body, x, TOP + HEIGHT + 14.0, "middle", &format!("{rate:.0}"));
        rate += every;
    }
    text(
        body,
        left + WIDTH / 2.0,
        TOP + HEIGHT + 30.0,
        "middle",
        "requests per second",
    );
}

fn line(
    body: &mut String,
    left: f64,
    widest: f64,
    peer: Peer,
    points: &[(f64, Latency)],
    of: fn(&Latency) -> f64,
    style: &str,
) {
    let places: Vec<String> = points
        .iter()
        .map(|(rate, latency)| format!("{:.1},{:.1}", left + WIDTH * rate / widest, height(of(latency))))
        .collect();
    let _ = writeln!(
        body,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" {style}/>",
        places.join(" "),
        colour(peer)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Row, Sample};

    #[test]
    fn a_line_goes_through_all_rates() {
        let mut report = Report::default();
        assert!(plot(&report).is_none());
        for (load, per_second) in [
            ("30 % of capacity", 900.0),
            ("5 % of capacity", 100.0),
            ("64 connections", 3000.0),
        ] {
            let latency = Latency {
                p50: 100.0,
                p90: 200.0,
                p99: 300.0,
                p999: 400.0,
            };
            report.rows.push(Row {
                case: "rates",
                title: "t",
                load: load.to_owned(),
                peer: Peer::Envoy,
                samples: vec![Sample {
                    per_second,
                    latency: Some(latency),
                    ..Sample::default()
                }],
            });
        }
        let rates: Vec<f64> = points(&report, "rates", Peer::Envoy).iter().map(|(r, _)| *r).collect();
        assert_eq!(rates, [100.0, 900.0]);
        assert!(plot(&report).is_some_and(|svg| svg.matches("<polyline").count() == 2));
    }
}
