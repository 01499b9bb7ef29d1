//! What a run leaves for readers: a page with machine, summary and all tables, and plots as SVG.

mod latency;
mod ratios;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::peers::Peer;
use crate::report::Report;
use crate::{summary, table};

/// Writes `README.md`, `ratios.svg` and `latency.svg` into a folder. A run without the cases of a plot leaves that plot as
/// it is.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut text =
        "# The bench's last full run\n\nWritten by `cargo xtask bench data --docs docs/bench`.\n\n".to_owned();
    for line in report.machine.lines() {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(
        text,
        "- {} s for each load; the run took {:.0} minutes. Figures are medians.\n",
        report.seconds, report.minutes
    );
    let plots = [
        (
            "ratios.svg",
            "CPU of an operation, beside Envoy's",
            ratios::plot(report),
        ),
        ("latency.svg", "Latency against rate", latency::plot(report)),
    ];
    let mut add = |lines: Vec<String>| {
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
    };
    add(summary::lines(report));
    for (name, title, plot) in plots {
        let Some(plot) = plot else { continue };
        add(vec![String::new(), format!("![{title}]({name})")]);
        let path = folder.join(name);
        std::fs::write(&path, plot).with_context(|| path.display().to_string())?;
    }
    add(table::lines(report));
    let path = folder.join("README.md");
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}

const fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::MeshProxy => "#c4541d",
        Peer::Envoy => "#3b6ea5",
        Peer::Nginx => "#5a8f4e",
        Peer::Haproxy => "#8a6fb0",
        Peer::Floor => "#8c8c8c",
        Peer::Direct => "#c2b280",
    }
}

/// A drawing of this size, on white.
fn svg(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
         {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Text at a place; `anchor` is `start`, `middle` or `end`.
fn text(body: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        body,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

/// A thin line of a grid.
fn rule(body: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        body,
        "<line x1=\"{:.0}\" y1=\"{:.0}\" x2=\"{:.0}\" y2=\"{:.0}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// Names of peers in their colours, in a row.
fn legend(body: &mut String, x: f64, y: f64, peers: &[Peer]) {
    for (number, peer) in peers.iter().enumerate() {
        let x = x + number as f64 * 120.0;
        let _ = writeln!(
            body,
            "<circle cx=\"{x:.0}\" cy=\"{:.0}\" r=\"5\" fill=\"{}\"/>",
            y - 4.0,
            colour(*peer)
        );
        text(body, x + 9.0, y, "start", peer.name());
    }
}

/// The machine, in a line below a plot.
fn caption(body: &mut String, report: &Report, y: f64) {
    for (number, line) in report.machine.caption().iter().enumerate() {
        text(body, 10.0, y + number as f64 * 14.0, "start", line);
    }
}
