//! Plots as SVG: what a request costs beside the peers.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::peers::Peer;
use crate::report::{Report, Row};
use crate::table;

/// Writes `README.md` (machine and tables) and `ratios.svg` into a folder.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut text =
        "# The bench's last full run\n\nWritten by `cargo xtask bench data --docs docs/bench`.\n\n".to_owned();
    for line in report.machine.lines() {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str("\n![CPU of an operation, beside Envoy's](ratios.svg)\n");
    for line in table::lines(report) {
        text.push_str(&line);
        text.push('\n');
    }
    for (name, text) in [("README.md", text), ("ratios.svg", ratios(report))] {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

const ROW: usize = 16;
const LEFT: usize = 330;
/// Pixels for a ratio of one.
const UNIT: f64 = 220.0;
const WIDEST: f64 = 2.0;

const fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::MeshProxy => "#c4541d",
        Peer::Envoy => "#3b6ea5",
        Peer::Nginx => "#5a8f4e",
        Peer::Haproxy => "#8a6fb0",
        Peer::Floor | Peer::Direct => "#9a9a9a",
    }
}

/// One bar for each peer under each load: its CPU, Envoy's being one.
fn ratios(report: &Report) -> String {
    let groups = table::groups(&report.rows);
    let mut body = String::new();
    let mut y = 40;
    for group in &groups {
        let bars: Vec<(&Row, f64)> = group
            .iter()
            .filter(|r| r.peer != Peer::Direct)
            .filter_map(|r| Some((*r, table::ratio(r, group, |p| p == Peer::Envoy)?)))
            .collect();
        if bars.is_empty() {
            continue;
        }
        let _ = writeln!(
            body,
            "<text x=\"10\" y=\"{}\">{}: {}</text>",
            y + 12,
            escape(group[0].title),
            escape(&group[0].load)
        );
        y += ROW + 2;
        for (row, ratio) in bars {
            let width = ratio.min(WIDEST) * UNIT;
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{}\" width=\"{width:.0}\" height=\"{}\" fill=\"{}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{ratio:.2}</text>",
                LEFT - 6,
                y + 12,
                row.peer.name(),
                y + 2,
                ROW - 4,
                colour(row.peer),
                LEFT as f64 + width + 5.0,
                y + 12
            );
            y += ROW;
        }
        y += 8;
    }
    let one = LEFT as f64 + UNIT;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"13\">CPU of an operation (kernel included), Envoy's being 1: less is better</text>\n\
         <line x1=\"{one}\" y1=\"30\" x2=\"{one}\" y2=\"{y}\" stroke=\"#bbb\"/>\n{body}</svg>\n",
        LEFT as f64 + WIDEST * UNIT + 60.0,
        y + 10
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
