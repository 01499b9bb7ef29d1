use super::*;

/// A listener with one HTTP connection manager; the argument is indented into it.
fn http_listener(fields: &str) -> String {
    format!(
        "
name: l
address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}
filter_chains:
- filters:
  - name: http
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: a
      route_config: {{}}
{fields}"
    )
}

const ROUTER: &str = "      http_filters: [{name: envoy.filters.http.router}]\n";

/// A route table with one route.
fn one_route(fields: &str) -> String {
    format!("name: r\nvirtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n  - match: {{prefix: /}}\n{fields}")
}

#[test]
fn fields_that_are_not_implemented_are_refused_with_their_path() {
    let hcm = "filter_chains[0].filters[0].typed_config";
    let http = |fields: &str| http_listener(&format!("{ROUTER}{fields}"));
    let cases: Vec<(&str, &str, String, String)> = vec![
        (
            LISTENER,
            "l",
            http("      local_reply_config: {}\n"),
            format!("{hcm}.local_reply_config: not implemented"),
        ),
        (
            LISTENER,
            "l",
            http("      tracing: {provider: {name: zipkin}}\n"),
            format!("{hcm}.tracing.provider: not implemented"),
        ),
        (
            LISTENER,
            "l",
            http("      codec_type: HTTP3\n"),
            format!("{hcm}.codec_type: not implemented"),
        ),
        (
            LISTENER,
            "l",
            http("      common_http_protocol_options: {max_stream_duration: 5s}\n"),
            format!("{hcm}.common_http_protocol_options.max_stream_duration: not implemented"),
        ),
        (
            LISTENER,
            "l",
            http("      access_log: [{name: a, filter: {not_health_check_filter: {}}}]\n"),
            format!("{hcm}.access_log[0].filter.not_health_check_filter: not implemented"),
        ),
        (
            LISTENER,
            "l",
            http_listener(
                "      http_filters: [{name: lua, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}, {name: envoy.filters.http.router}]\n",
            ),
            format!("{hcm}.http_filters[0].typed_config: envoy.extensions.filters.http.lua.v3.Lua is not implemented"),
        ),
        (
            LISTENER,
            "l",
            http_listener("      http_filters: [{name: envoy.filters.http.cors}]\n"),
            format!("{hcm}.http_filters: the last filter must be envoy.filters.http.router"),
        ),
        (
            LISTENER,
            "l",
            "name: l\naddress: {pipe: {path: /x}}\nfilter_chains: [{}]".to_owned(),
            "address.pipe: not implemented".to_owned(),
        ),
        (
            LISTENER,
            "l",
            "name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 1}}\nfilter_chains: [{filters: [{name: a}]}]"
                .to_owned(),
            "filter_chains[0].filters[0].typed_config: a configuration is required".to_owned(),
        ),
        (
            LISTENER,
            "l",
            "name: l\naddress: {socket_address: {address: 127.0.0.1, port_value: 1}}\nfilter_chains: [{name: a}, {name: b}]"
                .to_owned(),
            "filter_chains[1].filter_chain_match: another chain has the same match".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {cluster: c, rate_limits: [{actions: [{source_cluster: {}}]}]}"),
            "virtual_hosts[0].routes[0].route.rate_limits: not implemented".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {cluster: c, hash_policy: [{filter_state: {key: x}}]}"),
            "virtual_hosts[0].routes[0].route.hash_policy[0].filter_state: not implemented".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {cluster: c, hedge_policy: {initial_requests: 2}}"),
            "virtual_hosts[0].routes[0].route.hedge_policy.initial_requests: not implemented".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {cluster: c, retry_policy: {retry_on: 5xx, retry_priority: {name: a}}}"),
            "virtual_hosts[0].routes[0].route.retry_policy.retry_priority.typed_config: a configuration is required".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {cluster: c, retry_policy: {retry_on: '5xx,sometimes'}}"),
            "virtual_hosts[0].routes[0].route.retry_policy.retry_on: \"sometimes\" is no condition of retries".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {cluster: c}\n    request_headers_to_add: [{header: {key: a, value: '%NONE(b)%'}}]"),
            "virtual_hosts[0].routes[0].request_headers_to_add[0].header.value: %NONE%: not implemented".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route(
                "    route: {cluster: c}\n    typed_per_filter_config: {envoy.filters.http.fault: {'@type': \
                 type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, max_active_faults: 1}}",
            ),
            "virtual_hosts[0].routes[0].typed_per_filter_config[\"envoy.filters.http.fault\"].max_active_faults: not \
             implemented"
                .to_owned(),
        ),
        (
            ROUTE,
            "r",
            "name: r\nvirtual_hosts: [{name: a, domains: [x.y]}, {name: b, domains: [X.y]}]".to_owned(),
            "virtual_hosts[1].domains[0]: \"x.y\" occurs twice; a domain belongs to one virtual host".to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}"),
            "virtual_hosts[0].routes[0].route.weighted_clusters.clusters: the weights must add up to 1 to 4294967295"
                .to_owned(),
        ),
        (
            ROUTE,
            "r",
            one_route("    route: {cluster: c, regex_rewrite: {pattern: {regex: '(a)'}, substitution: '\\2'}}"),
            "virtual_hosts[0].routes[0].route.regex_rewrite.substitution: \\2: the pattern has no such group".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\noutlier_detection: {consecutive_5xx: 5, detect_degraded_hosts: true}".to_owned(),
            "outlier_detection.detect_degraded_hosts: not implemented".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\noutlier_detection: {max_ejection_percent: 101}".to_owned(),
            "outlier_detection.max_ejection_percent: is a percentage: 0 to 100".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\ncommon_lb_config: {zone_aware_lb_config: {}}".to_owned(),
            "common_lb_config.zone_aware_lb_config: not implemented".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\nlb_policy: MAGLEV\nmaglev_lb_config: {table_size: 1000}".to_owned(),
            "maglev_lb_config.table_size: must be a prime".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\nlb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 9, maximum_ring_size: 8}".to_owned(),
            "ring_hash_lb_config.minimum_ring_size: is more than maximum_ring_size".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\nround_robin_lb_config: {slow_start_config: {slow_start_window: 1s, min_weight_percent: {value: 101}}}"
                .to_owned(),
            "round_robin_lb_config.slow_start_config.min_weight_percent: is a percentage: 0 to 100".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\ntype: ORIGINAL_DST".to_owned(),
            "lb_policy: CLUSTER_PROVIDED goes with type ORIGINAL_DST and with dynamic forward proxies, and only with those".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            format!(
                "name: c\nload_assignment: {{{}}}",
                endpoints("c", &["web"]).replace('\n', ", ")
            ),
            "load_assignment: \"web\" is no IP address; names are looked up in clusters of type STRICT_DNS or LOGICAL_DNS"
                .to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\ntransport_socket: {name: tls, typed_config: {'@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, allow_renegotiation: true}}"
                .to_owned(),
            "transport_socket.typed_config.allow_renegotiation: not implemented".to_owned(),
        ),
        (
            CLUSTER,
            "c",
            "name: c\ncircuit_breakers: {thresholds: [{max_retries: 3}, {retry_budget: {}}]}".to_owned(),
            "circuit_breakers.thresholds[1]: priority DEFAULT has thresholds already, and Envoy takes the first; put them into one".to_owned(),
        ),
        (
            ENDPOINT,
            "c",
            "cluster_name: c\npolicy: {drop_overloads: [{category: a}]}".to_owned(),
            "policy.drop_overloads: not implemented".to_owned(),
        ),
        (
            SECRET,
            "s",
            "name: s\ntls_certificate: {certificate_chain: {inline_string: nothing}, private_key: {inline_string: x}}"
                .to_owned(),
            "tls_certificate.certificate_chain: holds no PEM certificate".to_owned(),
        ),
    ];
    for (type_url, name, yaml, expected) in cases {
        assert_eq!(refused(type_url, name, &yaml), [expected], "{yaml}");
    }
}

#[test]
fn all_refusals_of_a_resource_come_at_once() {
    let yaml = "name: c\ntrack_timeout_budgets: true\nlb_subset_config: {}\npreconnect_policy: {}";
    assert_eq!(refused(CLUSTER, "c", yaml).len(), 3);
}

#[test]
fn optional_filters_of_unknown_types_are_left_out() {
    let lua = "{name: lua, is_optional: true, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}";
    let yaml = http_listener(&format!(
        "      http_filters: [{lua}, {{name: envoy.filters.http.router}}]\n"
    ));
    assert_eq!(refused(LISTENER, "l", &yaml), [] as [String; 0]);
}

#[test]
fn a_bare_router_is_a_router() {
    assert_eq!(refused(LISTENER, "l", &http_listener(ROUTER)), [] as [String; 0]);
}

#[test]
fn one_bad_resource_does_not_stop_the_others_nor_the_version_before_it() {
    let mut builder = impatient();
    accept(&mut builder, CLUSTER, &[("a", "name: a"), ("b", "name: b")]);
    let applied = apply(
        &mut builder,
        CLUSTER,
        &[
            ("a", "name: a\nlb_policy: LOAD_BALANCING_POLICY_CONFIG"),
            ("b", "name: b\nconnect_timeout: 7s"),
        ],
    );
    assert_eq!(applied.rejected.len(), 1);
    assert_eq!(applied.rejected[0].name, "a");
    let snapshot = applied.snapshot.expect("b changed");
    assert!(snapshot.clusters.contains_key("a"));
    assert_eq!(snapshot.clusters["b"].connect_timeout, Duration::from_secs(7));
    let kept = builder.shared().resources.get(CLUSTER, "a").expect("still there");
    assert!(kept.bytes.is_some());
    let refusal = kept.rejected.expect("noted for dumps");
    assert!(
        refusal.message.contains("LOAD_BALANCING_POLICY_CONFIG"),
        "{}",
        refusal.message
    );
}

#[test]
fn broken_bytes_are_refused() {
    let mut builder = impatient();
    for type_url in [
        CLUSTER,
        LISTENER,
        ROUTE,
        ENDPOINT,
        SECRET,
        "type.googleapis.com/not.Ours",
    ] {
        let update = Update {
            type_url: type_url.to_owned(),
            set: vec![Incoming {
                name: "x".to_owned(),
                version: String::new(),
                bytes: vec![0x0a, 0xff, 0xff, 0xff],
            }],
            ..Update::default()
        };
        assert_eq!(builder.apply(update, Source::Dynamic).rejected.len(), 1, "{type_url}");
    }
}

#[test]
fn a_virtual_host_is_refused_by_its_place() {
    let first = "{name: v, domains: [A.test]}";
    for (second, reason) in [
        (
            "{name: w, domains: [b.test, a.TEST]}",
            "virtual_hosts[1].domains[1]: \"a.test\" occurs twice",
        ),
        ("{name: w}", "virtual_hosts[1].domains: a domain is required"),
        (
            "{name: w, domains: [b.test], routes: [{}]}",
            "virtual_hosts[1].routes[0].match: a match",
        ),
    ] {
        // What comes after the hosts still belongs to the table.
        let yaml = format!("virtual_hosts: [{first}, {second}]\nname: r");
        let all = refused(ROUTE, "r", &yaml);
        assert!(all.len() == 1 && all[0].starts_with(reason), "{all:?}");
    }
}

#[test]
fn substitutions_take_the_syntax_of_the_regex_crate() {
    let value = mesh_api::envoy::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute {
        pattern: Some(mesh_api::envoy::pb::envoy::r#type::matcher::v3::RegexMatcher {
            regex: "^/(a+)/(b+)".to_owned(),
            ..Default::default()
        }),
        substitution: r"/$\2/\1\\".to_owned(),
    };
    let (regex, with) = super::super::common::substitute(&value).expect("well formed");
    assert_eq!(regex.replace_all("/aa/b/c", with.as_str()), r"/$b/aa\/c");
}
