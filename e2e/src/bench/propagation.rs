//! From a file's rename to the first answer that shows the change, for each proxy.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use super::{NAMESPACE, line, mesh};
use crate::runner::{Call, Mesh};

/// A proxy that has not seen a change by then never will.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks of one watcher: the resolution of the measurement.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn run(changes: usize, pods: usize, svg: Option<&Path>) -> Result<()> {
    let mesh = mesh(pods)?;
    let to = SocketAddr::from((mesh.service_address(&format!("echo.{NAMESPACE}"))?, 80));
    let watchers: Vec<String> = mesh
        .pods()
        .into_iter()
        .filter(|p| p.workload == "web")
        .map(|p| p.name)
        .collect();
    line(&format!(
        "{changes} changes of a VirtualService, {} proxies have to see each",
        watchers.len()
    ));

    let mut each = Vec::new();
    let mut last = Vec::new();
    for number in 1..=changes {
        let seen = one_change(&mesh, &watchers, to, number)?;
        last.extend(seen.iter().max().copied());
        each.extend(seen);
        std::thread::sleep(Duration::from_millis(50));
    }
    each.sort();
    last.sort();
    line("");
    line(&format!(
        "{:<24} {:>8} {:>8} {:>8} {:>8}",
        "MILLISECONDS", "p50", "p90", "p99", "max"
    ));
    for (what, values) in [("each proxy", &each), ("the last proxy", &last)] {
        let q = |share: f64| millis(quantile(values, share));
        line(&format!(
            "{what:<24} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
            q(0.5),
            q(0.9),
            q(0.99),
            q(1.0)
        ));
    }
    line("");
    let bins = bins(&last);
    for (from, count) in &bins {
        line(&format!(
            "{from:>5} ms  {:<50} {count}",
            "█".repeat((count * 50).div_ceil(last.len().max(1)))
        ));
    }
    if let Some(file) = svg {
        std::fs::write(file, draw(&bins, changes, watchers.len())).with_context(|| file.display().to_string())?;
        line(&format!("written: {}", file.display()));
    }
    Ok(())
}

/// Makes a change and gives the time until each watcher saw it.
fn one_change(mesh: &Mesh, watchers: &[String], to: SocketAddr, number: usize) -> Result<Vec<Duration>> {
    let yaml = format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo}}
spec:
  hosts: [echo]
  http:
  - headers: {{response: {{set: {{x-revision: \"{number}\"}}}}}}
    route: [{{destination: {{host: echo}}}}]
"
    );
    let wanted = number.to_string();
    let missing = AtomicUsize::new(0);
    let seen = Mutex::new(Vec::new());
    let start = Mutex::new(None);
    std::thread::scope(|scope| {
        for watcher in watchers {
            let (wanted, missing, seen, start) = (&wanted, &missing, &seen, &start);
            scope.spawn(move || {
                let deadline = Instant::now() + LIMIT;
                while Instant::now() < deadline {
                    let mut call = Call::get(to, "/");
                    call.authority = "echo".to_owned();
                    let answer = mesh.http_from(watcher, call);
                    if answer.is_ok_and(|a| a.header("x-revision").as_deref() == Some(wanted)) {
                        let now = Instant::now();
                        seen.lock().extend(start.lock().map(|start| now - start));
                        return;
                    }
                    std::thread::sleep(PAUSE);
                }
                missing.fetch_add(1, Ordering::Relaxed);
            });
        }
        // The watchers are looking already when the clock starts.
        std::thread::sleep(Duration::from_millis(20));
        *start.lock() = Some(Instant::now());
        mesh.apply(&yaml).map(|_| ())
    })?;
    let missing = missing.into_inner();
    if missing > 0 {
        bail!(
            "change {number} did not reach {missing} of {} proxies within {LIMIT:?}",
            watchers.len()
        );
    }
    Ok(seen.into_inner())
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// Counts by steps of 10 ms.
fn bins(sorted: &[Duration]) -> Vec<(u64, usize)> {
    const STEP: u64 = 10;
    let step = |d: &Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX) / STEP;
    let (Some(first), Some(last)) = (sorted.first().map(step), sorted.last().map(step)) else {
        return Vec::new();
    };
    (first..=last)
        .map(|bin| (bin * STEP, sorted.iter().filter(|d| step(d) == bin).count()))
        .collect()
}

fn draw(bins: &[(u64, usize)], changes: usize, proxies: usize) -> String {
    let highest = bins.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    let width = 60 + bins.len() * 24;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"240\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"30\" y=\"18\">Change in the folder until the last of {proxies} proxies has it, ms ({changes} changes)</text>\n"
    );
    for (index, (from, count)) in bins.iter().enumerate() {
        let (x, height) = (30 + index * 24, count * 160 / highest);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"20\" height=\"{height}\" fill=\"#3b6ea5\"/>\
             <text x=\"{x}\" y=\"215\">{from}</text><text x=\"{x}\" y=\"{}\">{count}</text>",
            200 - height,
            195 - height
        );
    }
    svg.push_str("</svg>\n");
    svg
}
