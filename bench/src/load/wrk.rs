//! wrk: HTTP/1.1 at saturation. A load of its own would be no better, and this one is known.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::{Latency, Outcome, Target};

/// Its report as one line of JSON; wrk's own text leaves the 99.9th percentile out.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"us":%d,"errors":%d,"p50":%f,"p90":%f,"p99":%f,"p999":%f}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9)))
end
"#;

#[derive(Deserialize)]
struct Report {
    requests: u64,
    us: u64,
    errors: u64,
    #[serde(flatten)]
    latency: Quantiles,
}

#[derive(Deserialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

/// Runs it on the cores of the calling thread.
pub(crate) fn run(target: &Target, connections: u32, body: u32, folder: &Path) -> Result<Outcome> {
    let script = folder.join("report.lua");
    std::fs::write(&script, SCRIPT).with_context(|| script.display().to_string())?;
    let output = Command::new("wrk")
        .args(["-t", "1", "-c", &connections.to_string()])
        // wrk takes whole seconds.
        .args(["-d", &format!("{}s", target.time.as_secs().max(1))])
        .args(["--timeout", "10s", "-H", &format!("Host: {}", target.host), "-s"])
        .arg(&script)
        .arg(format!("http://{}/b/{body}", target.address))
        .output()
        .context("wrk (Debian: apt-get install wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(json) = text.lines().find_map(|l| l.strip_prefix("RESULT ")) else {
        bail!("wrk gave no result: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let report: Report = serde_json::from_str(json).with_context(|| format!("wrk's result {json}"))?;
    let Quantiles { p50, p90, p99, p999 } = report.latency;
    Ok(Outcome {
        operations: report.requests.saturating_sub(report.errors),
        errors: report.errors,
        time: Duration::from_micros(report.us),
        bytes: 0,
        latency: Some(Latency { p50, p90, p99, p999 }),
    })
}
