//! Connections and managers for the tests of this module.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::WorkerTelemetry;
use super::stats::Registry;
use crate::listener::{ConnInfo, Facts, TlsInfo};
use crate::shared::{Node, Workload};
use crate::snapshot::*;

/// The proxy of workload `NAME-v1` in namespace `shop`.
pub(super) fn telemetry(name: &str, registry: &Arc<Registry>) -> WorkerTelemetry {
    let node = Node {
        id: format!("sidecar~10.0.0.1~{name}-v1-abc.shop~shop.svc.cluster.local"),
        identity: Some(format!("spiffe://cluster.local/ns/shop/sa/{name}").into()),
        workload: Some(Workload {
            name: format!("{name}-v1"),
            namespace: "shop".to_owned(),
            canonical_name: name.to_owned(),
            canonical_revision: "v1".to_owned(),
            app: name.to_owned(),
            version: "v1".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            owner: format!("kubernetes://apis/apps/v1/namespaces/shop/deployments/{name}-v1"),
            labels: [("app", name), ("version", "v1"), ("secret", "hidden")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        }),
        ..Node::default()
    };
    WorkerTelemetry::new(0, Arc::clone(registry), &node)
}

/// A connection from 10.0.0.9:4000 to 10.0.0.1:8080.
pub(super) fn connection(direction: Direction, filters: Vec<NetworkFilter>, peer: Option<&str>) -> ConnInfo {
    let chain = Arc::new(FilterChain {
        name: "chain".into(),
        matches: ChainMatch::default(),
        tls: None,
        handshake_timeout: None,
        filters,
        terminal: Terminal::Close,
    });
    let listener = Arc::new(Listener {
        name: "listener".into(),
        addresses: Vec::new(),
        bind_to_port: true,
        use_original_dst: false,
        transparent: false,
        direction,
        inspectors: Inspectors::default(),
        chains: vec![Arc::clone(&chain)],
        default_chain: None,
        access_logs: Vec::new(),
        stat_prefix: "0.0.0.0_15006".into(),
        buffer_limit: 1 << 20,
    });
    let address = |text: &str| text.parse().expect("an address");
    let facts = Facts {
        source: address("10.0.0.9:4000"),
        destination: address("10.0.0.1:8080"),
        sni: None,
        ..Facts::new(address("10.0.0.9:4000"), address("10.0.0.1:8080"))
    };
    let mut conn = ConnInfo::new(listener, chain, address("10.0.0.1:15006"), facts);
    conn.tls = peer.map(|peer| TlsInfo {
        peer_uri: Some(peer.into()),
        local_uri: Some("spiffe://cluster.local/ns/shop/sa/catalog".into()),
        mutual: true,
        ..TlsInfo::default()
    });
    conn
}

/// A connection manager with these filters and logs.
pub(super) fn manager(filters: Vec<HttpFilter>, access_logs: Vec<Arc<AccessLog>>) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "inbound_0.0.0.0_8080;".into(),
        codec: Codec::Auto,
        routes: RouteSource::Rds("r".into()),
        filters,
        server_name: HeaderValue::from_static("istio-envoy"),
        server_header: ServerHeader::Overwrite,
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        generate_request_id: true,
        preserve_external_request_id: false,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        xfcc: ForwardClientCert::Sanitize,
        upgrades: Vec::new(),
        stream_idle_timeout: None,
        request_timeout: None,
        request_headers_timeout: None,
        idle_timeout: None,
        max_connection_duration: None,
        max_request_headers_kb: 60,
        accept_http_10: true,
        drain_timeout: Duration::from_secs(5),
        http2: Http2Options::default(),
        access_logs,
        strip_port: StripPort::No,
    }
}
