use std::time::Duration;

use super::super::peer;
use super::super::prometheus::{self, TagStyle};
use super::super::stats::Registry;
use super::super::tcp::{self, TcpContext, TcpRecord};
use super::super::testing::{connection, manager, telemetry};
use super::*;
use crate::snapshot::NetworkFilter;

const WEB: &str = "spiffe://cluster.local/ns/front/sa/web";

fn page(registry: &Registry) -> String {
    prometheus::write(registry, TagStyle::Istio, |_| true)
}

fn line<'a>(page: &'a str, start: &str) -> &'a str {
    page.lines()
        .find(|l| l.starts_with(start))
        .unwrap_or_else(|| panic!("{start} in {page}"))
}

#[test]
fn requests_end_up_in_istios_metrics() {
    let registry = Arc::default();
    let telemetry_here = telemetry("catalog", &registry);
    let mut headers = HeaderMap::new();
    peer::inbound_response(&mut headers, true, &telemetry("web", &Arc::default()));
    let mut record = RequestRecord::start(Direction::Inbound, Version::HTTP_2);
    record.peer = peer::inbound_request(&mut headers, true, &telemetry_here);
    record.response_code = 200;
    record.authority = Some(HeaderValue::from_static("catalog.shop:8080"));
    record.end = Some(record.start + Duration::from_millis(7));
    record.bytes_received = 90;
    record.request_header_bytes = 10;
    let conn = connection(Direction::Inbound, Vec::new(), Some(WEB));
    let manager = manager(vec![HttpFilter::PeerMetadata, HttpFilter::IstioStats], Vec::new());
    let ctx = RequestContext {
        conn: &conn,
        manager: &manager,
        stats: &telemetry_here.http_stats(&manager.stat_prefix),
        telemetry: &telemetry_here,
    };
    finish(&record, &ctx);
    finish(&record, &ctx);
    let page = page(&registry);
    let total = line(&page, "istio_requests_total");
    assert!(
        total.ends_with("connection_security_policy=\"mutual_tls\"} 2"),
        "{total}"
    );
    for label in [
        "reporter=\"destination\"",
        "source_workload=\"web-v1\"",
        "source_workload_namespace=\"front\"",
        "source_principal=\"spiffe://cluster.local/ns/front/sa/web\"",
        "destination_workload=\"catalog-v1\"",
        "destination_service=\"catalog.shop:8080\"",
        "request_protocol=\"http\"",
        "response_code=\"200\"",
    ] {
        assert!(total.contains(label), "{label} in {total}");
    }
    assert!(line(&page, "istio_request_bytes_sum").ends_with(" 200"));
    assert!(line(&page, "istio_request_duration_milliseconds_sum").ends_with(" 14"));
    assert!(!page.contains("istio_request_messages_total"));
    assert!(
        line(&page, "envoy_http_downstream_rq_time_count")
            .contains("http_conn_manager_prefix=\"inbound_0.0.0.0_8080\"")
    );
}

#[test]
fn grpc_messages_are_counted() {
    let registry = Arc::default();
    let telemetry = telemetry("catalog", &registry);
    let mut record = RequestRecord::start(Direction::Inbound, Version::HTTP_2);
    record.grpc = true;
    record.grpc_status = Some(0);
    record.request_messages = 3;
    record.response_messages = 1;
    let conn = connection(Direction::Inbound, Vec::new(), None);
    let manager = manager(vec![HttpFilter::IstioStats], Vec::new());
    let ctx = RequestContext {
        conn: &conn,
        manager: &manager,
        stats: &telemetry.http_stats(&manager.stat_prefix),
        telemetry: &telemetry,
    };
    finish(&record, &ctx);
    let page = page(&registry);
    assert!(line(&page, "istio_request_messages_total").ends_with(" 3"));
    assert!(line(&page, "istio_response_messages_total").ends_with(" 1"));
    let total = line(&page, "istio_requests_total");
    assert!(
        total.contains("request_protocol=\"grpc\",response_code=\"0\",grpc_response_status=\"0\""),
        "{total}"
    );
    assert!(total.contains("connection_security_policy=\"none\""));
}

#[test]
fn tcp_bytes_are_reported_while_the_connection_lives() {
    let registry = Arc::default();
    let telemetry = telemetry("catalog", &registry);
    let conn = connection(Direction::Inbound, vec![NetworkFilter::IstioStats], Some(WEB));
    let ctx = TcpContext {
        conn: &conn,
        access_logs: &[],
        telemetry: &telemetry,
    };
    let mut record = TcpRecord::new();
    tcp::opened(&mut record, &ctx);
    record.bytes_received = 100;
    tcp::progress(&mut record);
    tcp::progress(&mut record);
    let first = page(&registry);
    assert!(line(&first, "istio_tcp_received_bytes_total").ends_with(" 100"));
    assert!(line(&first, "istio_tcp_connections_opened_total").ends_with(" 1"));
    assert!(line(&first, "istio_tcp_connections_closed_total").ends_with(" 0"));
    record.bytes_received = 150;
    record.bytes_sent = 9;
    tcp::closed(&mut record, &ctx);
    let last = page(&registry);
    assert!(line(&last, "istio_tcp_received_bytes_total").ends_with(" 150"));
    assert!(line(&last, "istio_tcp_sent_bytes_total").ends_with(" 9"));
    assert!(
        line(&last, "istio_tcp_connections_closed_total").contains("request_protocol=\"tcp\",response_flags=\"-\"")
    );
}
