//! What Istio's control plane sends has to be taken as it is.

use super::*;
use crate::snapshot::{
    Direction, ForwardClientCert, HttpFilter, NetworkFilter, RouteAction, SourceType, Target, Terminal, Transport,
    UpstreamVersion,
};

const INBOUND: &str = "
name: virtualInbound
address: {socket_address: {address: 0.0.0.0, port_value: 15006}}
traffic_direction: INBOUND
continue_on_listener_filters_timeout: true
listener_filters_timeout: 0s
listener_filters:
- {name: envoy.filters.listener.original_dst, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}
- name: envoy.filters.listener.tls_inspector
  typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector, initial_read_buffer_size: 512}
  filter_disabled: {or_match: {rules: [{destination_port_range: {start: 3306, end: 3307}}, {destination_port_range: {start: 9000, end: 9002}}]}}
- name: envoy.filters.listener.http_inspector
  typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}
  filter_disabled: {not_match: {destination_port_range: {start: 80, end: 81}}}
filter_chains:
- name: virtualInbound-blackhole
  filter_chain_match: {destination_port: 15006}
  filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: BlackHoleCluster, cluster: BlackHoleCluster}
- name: 0.0.0.0_8080
  filter_chain_match: {destination_port: 8080, transport_protocol: tls, application_protocols: [istio, istio-h2]}
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      require_client_certificate: true
      common_tls_context:
        alpn_protocols: [h2, http/1.1]
        tls_params: {tls_minimum_protocol_version: TLSv1_2, cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384]}
        tls_certificate_sds_secret_configs: [{name: default, sds_config: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}], set_node_on_first_message_only: true, transport_api_version: V3}, initial_fetch_timeout: 0s, resource_api_version: V3}}]
        combined_validation_context:
          default_validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: 'spiffe://cluster.local/'}}]}
          validation_context_sds_secret_config: {name: ROOTCA, sds_config: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
  filters:
  - name: istio.metadata_exchange
    typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange, value: {protocol: istio-peer-exchange}}
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: inbound_0.0.0.0_8080;
      server_name: istio-envoy
      use_remote_address: false
      forward_client_cert_details: APPEND_FORWARD
      set_current_client_cert_details: {subject: true, dns: true, uri: true}
      normalize_path: true
      path_with_escaped_slashes_action: KEEP_UNCHANGED
      stream_idle_timeout: 0s
      upgrade_configs: [{upgrade_type: websocket}]
      tracing: {client_sampling: {value: 100}, random_sampling: {value: 1}, overall_sampling: {value: 100}, custom_tags: [{tag: istio.mesh_id, literal: {value: x}}]}
      request_id_extension: {typed_config: {'@type': type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig, use_request_id_for_trace_sampling: true}}
      access_log:
      - name: envoy.access_loggers.file
        filter: {response_flag_filter: {flags: [NR]}}
        typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/stdout, log_format: {text_format_source: {inline_string: '%START_TIME%'}}}
      http_filters:
      - {name: istio.metadata_exchange, typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/io.istio.http.peer_metadata.Config, value: {}}}
      - {name: envoy.filters.http.grpc_stats, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig, emit_filter_state: true, stats_for_all_methods: false}}
      - {name: envoy.filters.http.fault, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}}
      - {name: envoy.filters.http.cors, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}
      - {name: istio.stats, typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/stats.PluginConfig, value: {disable_host_header_fallback: true}}}
      - {name: envoy.filters.http.router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
      route_config:
        name: inbound|8080||
        validate_clusters: false
        virtual_hosts:
        - name: inbound|http|80
          domains: ['*']
          routes:
          - {name: default, match: {prefix: /}, decorator: {operation: 'web.shop.svc.cluster.local:80/*'}, route: {cluster: 'inbound|8080||', timeout: 0s, max_stream_duration: {max_stream_duration: 0s, grpc_timeout_header_max: 0s}}}
";

#[test]
fn an_inbound_listener() {
    let refused = refused(LISTENER, "virtualInbound", INBOUND);
    assert_eq!(refused, [] as [String; 0]);
    let snapshot = accept(&mut impatient(), LISTENER, &[("virtualInbound", INBOUND)]);
    let listener = &snapshot.listeners["virtualInbound"];
    assert_eq!(listener.direction, Direction::Inbound);
    assert_eq!(listener.stat_prefix.as_ref(), "0.0.0.0_15006");
    let inspectors = &listener.inspectors;
    assert!(inspectors.original_dst && inspectors.timeout.is_none() && inspectors.continue_on_timeout);
    let tls = inspectors.tls.as_ref().expect("TLS inspector");
    let off: Vec<_> = [3306, 3307, 8999, 9000, 9001, 9002].map(|p| tls.runs_for(p)).into();
    assert_eq!(off, [false, true, true, false, false, true]);
    let http = inspectors.http.as_ref().expect("HTTP inspector");
    assert_eq!([79, 80, 81].map(|p| http.runs_for(p)), [false, true, false]);

    let chain = &listener.chains[1];
    assert_eq!(chain.matches.destination_port, Some(8080));
    assert_eq!(chain.matches.source_type, SourceType::Any);
    assert!(chain.tls.as_ref().expect("mutual TLS").require_client_certificate);
    assert!(matches!(chain.filters[..], [NetworkFilter::PeerExchange]));
    let Terminal::Http(manager) = &chain.terminal else {
        panic!("no HTTP")
    };
    assert_eq!(manager.xfcc, ForwardClientCert::AppendForward);
    assert_eq!(manager.stream_idle_timeout, None);
    assert!(matches!(
        manager.filters[..],
        [
            HttpFilter::PeerMetadata,
            HttpFilter::GrpcStats,
            HttpFilter::Fault,
            HttpFilter::Cors,
            HttpFilter::IstioStats
        ]
    ));
}

const OUTBOUND_CLUSTER: &str = "
name: outbound|80|v1|catalog.shop.svc.cluster.local
alt_stat_name: outbound|80|v1|catalog.shop.svc.cluster.local;
type: EDS
eds_cluster_config: {eds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}, service_name: outbound|80|v1|catalog.shop.svc.cluster.local}
connect_timeout: 10s
lb_policy: LEAST_REQUEST
common_lb_config: {healthy_panic_threshold: {}}
circuit_breakers: {thresholds: [{max_connections: 4294967295, max_pending_requests: 4294967295, max_requests: 4294967295, max_retries: 4294967295, track_remaining: true}]}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {max_concurrent_streams: 1073741824}}
metadata: {filter_metadata: {istio: {config: /apis/networking.istio.io/v1/namespaces/shop/destination-rule/catalog, subset: v1, default_original_port: 80, services: [{host: catalog.shop.svc.cluster.local, name: catalog, namespace: shop}]}}}
transport_socket_matches:
- name: tlsMode-istio
  match: {tlsMode: istio}
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: outbound_.80_.v1_.catalog.shop.svc.cluster.local
      common_tls_context:
        alpn_protocols: [istio-peer-exchange, istio]
        tls_certificate_sds_secret_configs: [{name: default, sds_config: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}]
        combined_validation_context:
          default_validation_context: {match_subject_alt_names: [{exact: 'spiffe://cluster.local/ns/shop/sa/catalog'}]}
          validation_context_sds_secret_config: {name: ROOTCA, sds_config: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
- name: tlsMode-disabled
  match: {}
  transport_socket: {name: envoy.transport_sockets.raw_buffer, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}
";

const ASSIGNMENT: &str = "
cluster_name: outbound|80|v1|catalog.shop.svc.cluster.local
endpoints:
- locality: {region: r, zone: z}
  load_balancing_weight: 2
  lb_endpoints:
  - endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 3000}}}
    load_balancing_weight: 1
    metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}, istio: {workload: catalog-v1;shop;catalog;v1;Kubernetes}}}
  - endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 3000}}}
    load_balancing_weight: 1
  - endpoint: {address: {socket_address: {address: 10.0.0.3, port_value: 3000}}}
    health_status: DRAINING
";

#[test]
fn an_outbound_cluster_with_its_endpoints() {
    let name = "outbound|80|v1|catalog.shop.svc.cluster.local";
    let mut builder = impatient();
    accept(&mut builder, CLUSTER, &[(name, OUTBOUND_CLUSTER)]);
    let snapshot = accept(&mut builder, ENDPOINT, &[(name, ASSIGNMENT)]);
    let cluster = &snapshot.clusters[name];
    assert_eq!(cluster.rules.panic_threshold, 0.0);
    assert!(cluster.endpoints.iter().all(|e| e.locality_weight == 2));
    assert_eq!(cluster.limits.max_retries, u32::MAX);
    assert_eq!(cluster.http.version, UpstreamVersion::Downstream);
    assert_eq!(cluster.istio.subset.as_deref(), Some("v1"));
    let service = cluster.istio.service.as_ref().expect("a service");
    assert_eq!((service.name.as_ref(), service.namespace.as_ref()), ("catalog", "shop"));
    let [meshed, plain, leaving] = &cluster.endpoints[..] else {
        panic!("three")
    };
    let Transport::Tls(tls) = &meshed.transport else {
        panic!("no TLS")
    };
    assert_eq!(tls.sni.as_ref(), "outbound_.80_.v1_.catalog.shop.svc.cluster.local");
    assert_eq!(tls.alpn, [b"istio-peer-exchange".to_vec(), b"istio".to_vec()]);
    assert_eq!(
        meshed.workload.as_deref(),
        Some("catalog-v1;shop;catalog;v1;Kubernetes")
    );
    assert!(matches!(plain.transport, Transport::Plain));
    assert!(plain.healthy && !leaving.healthy);
    assert_eq!(plain.locality.as_ref(), "r/z");
}

const TABLE: &str = "
name: '80'
ignore_port_in_host_matching: true
max_direct_response_body_size_bytes: 1048576
validate_clusters: false
virtual_hosts:
- name: catalog.shop.svc.cluster.local:80
  domains: [catalog.shop.svc.cluster.local, catalog, '*.catalog.shop']
  include_request_attempt_count: true
  routes:
  - name: canary
    match: {prefix: /, case_sensitive: true, headers: [{name: x-dark-launch, string_match: {exact: v2}}, {name: ':method', string_match: {safe_regex: {regex: GET|HEAD}}}]}
    route: {cluster: 'outbound|80|v2|catalog.shop.svc.cluster.local', timeout: 0s, max_grpc_timeout: 0s, retry_policy: {retry_on: 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes', num_retries: 2, retriable_status_codes: [503], host_selection_retry_max_attempts: 5, retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts, typed_config: {'@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]}}
    metadata: {filter_metadata: {istio: {config: /apis/networking.istio.io/v1/namespaces/shop/virtual-service/catalog}}}
    decorator: {operation: 'catalog.shop.svc.cluster.local:80/*'}
    typed_per_filter_config:
      envoy.filters.http.fault: {'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, abort: {http_status: 500, percentage: {numerator: 500000, denominator: MILLION}}}
  - name: weighted
    match: {prefix: /}
    route:
      weighted_clusters:
        clusters:
        - {name: a, weight: 90, request_headers_to_add: [{header: {key: x-to, value: a}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]}
        - {name: b, weight: 10}
        - {name: c, weight: 0}
- name: block_all
  domains: ['*']
  routes: [{name: block_all, match: {prefix: /}, direct_response: {status: 502}}]
";

#[test]
fn an_outbound_route_table() {
    let snapshot = accept(&mut impatient(), ROUTE, &[("80", TABLE)]);
    let table = &snapshot.routes["80"];
    assert!(table.ignore_port && table.any == Some(1) && table.exact["catalog"] == 0);
    assert_eq!(table.suffix, [(".catalog.shop".to_owned(), 0)]);
    let canary = &table.virtual_hosts[0].routes[0];
    assert_eq!(
        canary.origin.as_deref(),
        Some("/apis/networking.istio.io/v1/namespaces/shop/virtual-service/catalog")
    );
    assert_eq!(
        canary.fault.as_ref().and_then(|f| f.abort).map(|(_, share)| share),
        Some(500_000)
    );
    let RouteAction::Forward(forward) = &canary.action else {
        panic!("no forward")
    };
    assert_eq!(forward.timeout, None);
    let retry = forward.retry.as_ref().expect("retries");
    assert!(
        retry.on.connect_failure && retry.on.status_codes && retry.on.grpc_unavailable && retry.avoid_previous_hosts
    );
    let RouteAction::Forward(forward) = &table.virtual_hosts[0].routes[1].action else {
        panic!("no forward")
    };
    let Target::Weighted { clusters, total } = &forward.target else {
        panic!("not weighted")
    };
    assert_eq!((clusters.len(), *total), (2, 100));
}
