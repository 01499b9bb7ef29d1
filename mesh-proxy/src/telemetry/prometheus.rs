//! The Prometheus text format: Istio's metrics under their names, Envoy's statistics as Envoy would write them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::istio::{HTTP_LABELS, TCP_LABELS};
use super::stats::{BOUNDS, HistogramValues, Registry, Stat, StatValue};

/// `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How labels of Envoy's statistics are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagStyle {
    /// Envoy's own: `envoy_cluster_name`, `envoy_response_code_class="5"`.
    Envoy,
    /// Of Istio's bootstrap: `cluster_name`, `response_code_class="5xx"`.
    Istio,
}

/// Everything.
pub fn write(registry: &Registry, style: TagStyle, keep: impl Fn(&Stat) -> bool) -> String {
    let mut out = String::new();
    write_istio(&mut out, registry);
    let mut stats = registry.list();
    stats.retain(keep);
    write_envoy(&mut out, &stats, style);
    out
}

// Writing to a String cannot fail; the results are dropped on purpose.

fn write_istio(out: &mut String, registry: &Registry) {
    let http = registry.istio.http_series();
    if !http.is_empty() {
        let labels: Vec<String> = http.iter().map(|s| join(&HTTP_LABELS, &s.labels)).collect();
        let rows = || http.iter().zip(&labels);
        counter(out, "istio_requests_total", rows().map(|(s, l)| (l, s.requests)));
        histogram(
            out,
            "istio_request_duration_milliseconds",
            rows().map(|(s, l)| (l, &s.duration)),
        );
        histogram(out, "istio_request_bytes", rows().map(|(s, l)| (l, &s.request_bytes)));
        histogram(out, "istio_response_bytes", rows().map(|(s, l)| (l, &s.response_bytes)));
        let grpc = || rows().filter(|(s, _)| s.request_messages + s.response_messages > 0);
        if grpc().next().is_some() {
            let name = "istio_request_messages_total";
            counter(out, name, grpc().map(|(s, l)| (l, s.request_messages)));
            let name = "istio_response_messages_total";
            counter(out, name, grpc().map(|(s, l)| (l, s.response_messages)));
        }
    }
    let tcp = registry.istio.tcp_series();
    if !tcp.is_empty() {
        let labels: Vec<String> = tcp.iter().map(|s| join(&TCP_LABELS, &s.labels)).collect();
        let rows = || tcp.iter().zip(&labels);
        counter(
            out,
            "istio_tcp_connections_opened_total",
            rows().map(|(s, l)| (l, s.opened)),
        );
        counter(
            out,
            "istio_tcp_connections_closed_total",
            rows().map(|(s, l)| (l, s.closed)),
        );
        counter(out, "istio_tcp_sent_bytes_total", rows().map(|(s, l)| (l, s.sent)));
        counter(
            out,
            "istio_tcp_received_bytes_total",
            rows().map(|(s, l)| (l, s.received)),
        );
    }
    let _ = writeln!(out, "# TYPE istio_build gauge");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(out, "istio_build{{component=\"proxy\",tag=\"{version}\"}} 1");
}

fn write_envoy(out: &mut String, stats: &[Stat], style: TagStyle) {
    // Envoy's order: by metric, then by its full name.
    let mut metrics: BTreeMap<(String, u8), Vec<(String, StatValue)>> = BTreeMap::new();
    for stat in stats {
        let (name, labels) = metric(stat, style);
        let kind = match stat.value {
            StatValue::Counter(_) => 0,
            StatValue::Gauge(_) => 1,
            StatValue::Histogram(_) => 2,
        };
        metrics.entry((name, kind)).or_default().push((labels, stat.value));
    }
    for ((name, kind), rows) in metrics {
        let _ = writeln!(
            out,
            "# TYPE {name} {}",
            ["counter", "gauge", "histogram"][kind as usize]
        );
        for (labels, value) in &rows {
            match value {
                StatValue::Counter(n) => line(out, &name, labels, n),
                StatValue::Gauge(n) => line(out, &name, labels, n),
                StatValue::Histogram(h) => buckets(out, &name, labels, h),
            }
        }
    }
}

/// Metric and labels of a statistic: what Envoy calls tag extraction.
fn metric(stat: &Stat, style: TagStyle) -> (String, String) {
    let mut labels: Vec<(String, &str)> = Vec::new();
    let prefixed = |label: &str| match style {
        TagStyle::Envoy => format!("envoy_{label}"),
        TagStyle::Istio => label.to_owned(),
    };
    let mut rest = stat.short_name().to_owned();
    let class;
    if let Some((before, code)) = stat.short_name().rsplit_once("_rq_") {
        let is_digit = |c: u8| c.is_ascii_digit();
        match code.as_bytes() {
            [d, b'x', b'x'] if is_digit(*d) => {
                rest = match style {
                    TagStyle::Envoy => format!("{before}_rq_xx"),
                    TagStyle::Istio => format!("{before}_rq"),
                };
                class = match style {
                    TagStyle::Envoy => &code[..1],
                    TagStyle::Istio => code,
                };
                labels.push((prefixed("response_code_class"), class));
            }
            [a, b, c] if is_digit(*a) && is_digit(*b) && is_digit(*c) => {
                rest = format!("{before}_rq");
                class = code;
                labels.push((prefixed("response_code"), class));
            }
            _ => {}
        }
    }
    let mut name = String::from("envoy_");
    if let Some((family, owner)) = &stat.owner {
        name.push_str(family.word());
        name.push('_');
        // Istio ends its names with `;` to mark where they end; that is not part of the name.
        let owner = owner.strip_suffix(';').unwrap_or(owner);
        labels.push((prefixed(family.label()), owner));
    }
    name.push_str(&sanitize(&rest));
    labels.sort();
    let mut text = String::new();
    for (label, value) in &labels {
        push_label(&mut text, label, value);
    }
    (name, text)
}

fn sanitize(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

fn join(names: &[&str], values: &[Box<str>]) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        push_label(&mut text, name, value);
    }
    text
}

fn push_label(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn counter<'a>(out: &mut String, name: &str, rows: impl Iterator<Item = (&'a String, u64)>) {
    let _ = writeln!(out, "# TYPE {name} counter");
    for (labels, value) in rows {
        line(out, name, labels, &value);
    }
}

fn histogram<'a>(out: &mut String, name: &str, rows: impl Iterator<Item = (&'a String, &'a HistogramValues)>) {
    let _ = writeln!(out, "# TYPE {name} histogram");
    for (labels, values) in rows {
        buckets(out, name, labels, values);
    }
}

fn line(out: &mut String, name: &str, labels: &str, value: &dyn std::fmt::Display) {
    // Envoy writes the braces even when there is nothing between them.
    let _ = writeln!(out, "{name}{{{labels}}} {value}");
}

fn buckets(out: &mut String, name: &str, labels: &str, values: &HistogramValues) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut count = 0;
    for (i, n) in values.buckets.iter().enumerate() {
        count += n;
        let _ = match BOUNDS.get(i) {
            Some(bound) => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"),
            None => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"),
        };
    }
    line(out, &format!("{name}_sum"), labels, &values.sum);
    line(out, &format!("{name}_count"), labels, &count);
}

#[cfg(test)]
mod tests {
    use super::super::stats::ClusterStats;
    use super::*;

    fn text(style: TagStyle) -> String {
        let registry = std::sync::Arc::<Registry>::default();
        let cluster = ClusterStats::new(&registry, "outbound|80||a.b.svc.cluster.local;");
        cluster.upstream_rq_total.add(3);
        cluster.upstream_rq_xx[4].inc();
        cluster.upstream_rq_time.record(3.0);
        registry.counter("listener.0.0.0.0_15006.downstream_cx_total").inc();
        registry.gauge("server.live").set(1);
        write(&registry, style, |s| s.value.is_used())
    }

    #[test]
    fn tags_are_extracted_as_istios_bootstrap_does() {
        let text = text(TagStyle::Istio);
        for line in [
            "# TYPE envoy_cluster_upstream_rq_total counter",
            r#"envoy_cluster_upstream_rq_total{cluster_name="outbound|80||a.b.svc.cluster.local"} 3"#,
            r#"envoy_cluster_upstream_rq{cluster_name="outbound|80||a.b.svc.cluster.local",response_code_class="5xx"} 1"#,
            r#"envoy_listener_downstream_cx_total{listener_address="0.0.0.0_15006"} 1"#,
            "envoy_server_live{} 1",
            r#"envoy_cluster_upstream_rq_time_bucket{cluster_name="outbound|80||a.b.svc.cluster.local",le="5"} 1"#,
            r#"envoy_cluster_upstream_rq_time_sum{cluster_name="outbound|80||a.b.svc.cluster.local"} 3"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn tags_are_extracted_as_envoy_does() {
        let text = text(TagStyle::Envoy);
        let line = r#"envoy_cluster_upstream_rq_xx{envoy_cluster_name="outbound|80||a.b.svc.cluster.local",envoy_response_code_class="5"} 1"#;
        assert!(text.lines().any(|l| l == line), "{text}");
    }

    #[test]
    fn label_values_cannot_break_out() {
        let mut out = String::new();
        push_label(&mut out, "a", "x\"\n\\");
        assert_eq!(out, r#"a="x\"\n\\""#);
    }
}
