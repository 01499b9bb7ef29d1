//! h2load: HTTP/2 and gRPC unary at saturation.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Latency, Outcome, Target};

/// An empty gRPC message of 64 bytes, with its prefix.
pub(super) fn message() -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 64];
    message.resize(5 + 64, 0);
    message
}

/// What to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) body: u32,
    pub(crate) grpc: bool,
}

/// Runs it on the cores of the calling thread.
pub(crate) fn run(target: &Target, shape: Shape, folder: &Path) -> Result<Outcome> {
    let log = folder.join("h2load.log");
    let seconds = target.time.as_secs().max(1);
    let mut command = Command::new("h2load");
    command
        .args(["-t", "1", "-c", &shape.connections.to_string()])
        .args(["-m", &shape.streams.to_string(), "-D", &seconds.to_string()])
        .args(["-w", "20", "-W", "24"])
        .arg(format!("--log-file={}", log.display()))
        // The authority of the base URI is what requests ask for; -B would connect elsewhere, hence the header.
        .args(["-H", &format!(":authority: {}", target.host)]);
    if shape.grpc {
        let data = folder.join("message.bin");
        std::fs::write(&data, message()).with_context(|| data.display().to_string())?;
        command
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"])
            .arg(&data);
    }
    let _ = std::fs::remove_file(&log);
    let output = command
        .arg(format!("http://{}/b/{}", target.address, shape.body))
        .output()
        .context("h2load (Debian: apt-get install nghttp2-client)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("h2load failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let lines = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    let _ = std::fs::remove_file(&log);
    let (mut samples, mut errors) = (Vec::new(), 0);
    for line in lines.lines() {
        // start time, status, microseconds
        let mut fields = line.split('\t').skip(1);
        let status: i32 = fields.next().unwrap_or_default().parse().unwrap_or(-1);
        let time: u64 = fields.next().unwrap_or_default().parse().unwrap_or_default();
        if (200..300).contains(&status) {
            samples.push(time * 1000);
        } else {
            errors += 1;
        }
    }
    Ok(Outcome {
        operations: samples.len() as u64,
        errors,
        time: Duration::from_secs(seconds),
        bytes: 0,
        latency: Latency::of(samples),
    })
}
