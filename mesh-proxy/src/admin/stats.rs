//! `/stats` and `/stats/prometheus`.

use std::fmt::Write;

use regex::Regex;
use serde_json::{Value, json};

use super::State;
use super::server::{Call, JSON, Reply, TEXT};
use crate::telemetry::prometheus::{self, TagStyle};
use crate::telemetry::stats::{HistogramValues, Stat, StatValue};

const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// `filter`, `invert_filter`, `usedonly`, `type`.
struct Filter {
    pattern: Option<Regex>,
    invert: bool,
    used_only: bool,
    kind: Option<String>,
}

impl Filter {
    fn read(call: &Call) -> Result<Self, String> {
        let pattern = match call.get("filter").filter(|f| !f.is_empty()) {
            Some(text) => Some(Regex::new(text).map_err(|e| format!("Invalid re2 regex: {e}"))?),
            None => None,
        };
        let kind = call.get("type").filter(|k| !k.is_empty() && *k != "All");
        if let Some(kind) = kind
            && !["Counters", "Gauges", "Histograms", "TextReadouts"].contains(&kind)
        {
            return Err("usage: /stats?type=(All|Counters|Gauges|Histograms|TextReadouts)".to_owned());
        }
        Ok(Filter {
            pattern,
            invert: call.has("invert_filter"),
            used_only: call.has("usedonly"),
            kind: kind.map(str::to_owned),
        })
    }

    fn keeps(&self, stat: &Stat) -> bool {
        let kind = match stat.value {
            StatValue::Counter(_) => "Counters",
            StatValue::Gauge(_) => "Gauges",
            StatValue::Histogram(_) => "Histograms",
        };
        (!self.used_only || stat.value.is_used())
            && self.kind.as_ref().is_none_or(|k| k == kind)
            && self
                .pattern
                .as_ref()
                .is_none_or(|p| p.is_match(&stat.name) != self.invert)
    }
}

pub(super) fn page(call: &Call, state: &State) -> Reply {
    let filter = match Filter::read(call) {
        Ok(filter) => filter,
        Err(message) => return Reply::bad(message),
    };
    if call.get("format") == Some("prometheus") {
        return text(state, &filter);
    }
    refresh(state);
    let mut stats = state.shared.stats.list();
    stats.retain(|stat| filter.keeps(stat));
    match call.get("format").unwrap_or("text") {
        "json" => Reply::ok(JSON, as_json(&stats).to_string()),
        "" | "text" => Reply::ok(TEXT, as_text(&stats)),
        other => Reply::bad(format!("usage: /stats?format=(text|json|prometheus), not {other}")),
    }
}

pub(super) fn prometheus(call: &Call, state: &State) -> Reply {
    match Filter::read(call) {
        Ok(filter) => text(state, &filter),
        Err(message) => Reply::bad(message),
    }
}

fn text(state: &State, filter: &Filter) -> Reply {
    refresh(state);
    let text = prometheus::write(&state.shared.stats, state.style, |stat| filter.keeps(stat));
    Reply::ok(prometheus::CONTENT_TYPE, text)
}

/// Everything, for the metrics ports.
pub(super) fn everything(state: &State, style: TagStyle) -> String {
    refresh(state);
    prometheus::write(&state.shared.stats, style, |_| true)
}

/// Brings the statistics up to date that are computed when asked for.
fn refresh(state: &State) {
    let stats = &state.shared.stats;
    let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    stats
        .gauge("server.live")
        .set(i64::from(super::info::server_state(state) == "LIVE"));
    let uptime = state.shared.started.elapsed().as_secs();
    stats.gauge("server.uptime").set(clamp(uptime));
    stats
        .gauge("server.concurrency")
        .set(i64::from(state.options.command_line.concurrency));
    stats
        .gauge("server.memory_physical_size")
        .set(clamp(super::info::resident_bytes()));
    stats
        .gauge("server.memory_allocated")
        .set(clamp(super::info::resident_bytes()));
    let snapshot = state.shared.snapshot.load();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    stats
        .gauge("cluster_manager.active_clusters")
        .set(count(snapshot.clusters.len()));
    stats
        .gauge("listener_manager.total_listeners_active")
        .set(count(snapshot.listeners.len()));
    let logs = crate::telemetry::access_log::totals();
    for (name, value) in [
        ("istio.series_overflow", stats.istio.overflowed.get()),
        ("filesystem.write_completed", logs.written),
        ("access_log_file.write_dropped", logs.dropped),
    ] {
        let counter = stats.counter(name);
        counter.reset();
        counter.add(value);
    }
}

fn as_text(stats: &[Stat]) -> String {
    let mut out = String::new();
    // Envoy prints histograms after everything else.
    let plain = |s: &&Stat| !matches!(s.value, StatValue::Histogram(_));
    for stat in stats.iter().filter(plain) {
        let _ = match stat.value {
            StatValue::Counter(n) => writeln!(out, "{}: {n}", stat.name),
            StatValue::Gauge(n) => writeln!(out, "{}: {n}", stat.name),
            StatValue::Histogram(_) => Ok(()),
        };
    }
    for stat in stats {
        if let StatValue::Histogram(values) = &stat.value {
            let _ = writeln!(out, "{}: {}", stat.name, quantiles_text(values));
        }
    }
    out
}

fn quantiles_text(values: &HistogramValues) -> String {
    if values.count() == 0 {
        return "No recorded values".to_owned();
    }
    // The first number is the last interval's, which is not kept.
    let one = |p: &f64| format!("P{p}(nan,{})", round(values.quantile(p / 100.0)));
    QUANTILES.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn round(quantile: Option<f64>) -> f64 {
    (quantile.unwrap_or_default() * 1000.0).round() / 1000.0
}

fn as_json(stats: &[Stat]) -> Value {
    let mut all: Vec<Value> = Vec::new();
    let mut histograms: Vec<Value> = Vec::new();
    for stat in stats {
        match &stat.value {
            StatValue::Counter(n) => all.push(json!({"name": stat.name, "value": n})),
            StatValue::Gauge(n) => all.push(json!({"name": stat.name, "value": n})),
            StatValue::Histogram(values) => {
                let one = |p: &f64| json!({"cumulative": values.quantile(p / 100.0), "interval": null});
                let values: Vec<Value> = QUANTILES.iter().map(one).collect();
                histograms.push(json!({"name": stat.name, "values": values}));
            }
        }
    }
    if !histograms.is_empty() {
        all.push(json!({"histograms": {"supported_quantiles": QUANTILES, "computed_quantiles": histograms}}));
    }
    json!({"stats": all})
}
