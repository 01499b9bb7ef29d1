//! CPU of an operation beside Envoy's: a row for each line of the summary, a dot for each peer.

use std::fmt::Write as _;

use super::{caption, colour, legend, rule, svg, text};
use crate::peers::Peer;
use crate::report::Report;
use crate::summary;

const LEFT: f64 = 240.0;
const TOP: f64 = 60.0;
const ROW: f64 = 22.0;
/// Pixels for a ratio of one.
const UNIT: f64 = 320.0;
const WIDEST: f64 = 1.5;

/// `None` when nothing of it was measured.
pub(super) fn plot(report: &Report) -> Option<String> {
    let rows = summary::beside_envoy(report);
    if rows.is_empty() {
        return None;
    }
    let bottom = TOP + rows.len() as f64 * ROW;
    let mut body = String::new();
    text(
        &mut body,
        10.0,
        20.0,
        "start",
        "CPU of an operation, kernel included; Envoy's is 1, less is better",
    );
    legend(&mut body, 15.0, 42.0, &summary::PEERS);
    for step in 0..=6 {
        let ratio = f64::from(step) * 0.25;
        let x = LEFT + ratio * UNIT;
        rule(&mut body, (x, TOP - 4.0), (x, bottom));
        text(&mut body, x, bottom + 14.0, "middle", &format!("{ratio}"));
    }
    for (number, (label, ratios)) in rows.iter().enumerate() {
        let y = TOP + number as f64 * ROW + ROW / 2.0;
        text(&mut body, LEFT - 10.0, y + 4.0, "end", label);
        // Ours last, on top of the others.
        for (peer, ratio) in ratios.iter().rev() {
            let x = LEFT + ratio.min(WIDEST) * UNIT;
            let size = if *peer == Peer::MeshProxy { 7 } else { 5 };
            let _ = writeln!(
                body,
                "<circle cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"{size}\" fill=\"{}\"><title>{}: {ratio:.2}</title></circle>",
                colour(*peer),
                peer.name()
            );
        }
        if let Some((_, ratio)) = ratios.iter().find(|(p, _)| *p == Peer::MeshProxy) {
            text(
                &mut body,
                LEFT + WIDEST * UNIT + 40.0,
                y + 4.0,
                "end",
                &format!("{ratio:.2}"),
            );
        }
    }
    caption(&mut body, report, bottom + 36.0);
    Some(svg(LEFT + WIDEST * UNIT + 60.0, bottom + 60.0, &body))
}
