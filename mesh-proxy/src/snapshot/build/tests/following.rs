use std::net::IpAddr;

use super::*;
use crate::snapshot::{RouteSource, Secret, Terminal};
use crate::tls::{Identity, TrustBundle};

#[test]
fn what_did_not_change_keeps_its_arc() {
    let mut builder = impatient();
    let first = accept(&mut builder, CLUSTER, &[("a", "name: a"), ("b", "name: b")]);
    let second = accept(
        &mut builder,
        CLUSTER,
        &[("a", "name: a\nconnect_timeout: 1s"), ("b", "name: b")],
    );
    assert!(arc_eq(&first.clusters["b"], &second.clusters["b"]));
    assert!(!arc_eq(&first.clusters["a"], &second.clusters["a"]));
    assert!(arc_eq(&first.clusters["a"].state, &second.clusters["a"].state));
    assert!(arc_eq(&first.clusters["a"].stats, &second.clusters["a"].stats));
    assert!(second.version > first.version);
    assert!(
        apply(&mut builder, CLUSTER, &[("b", "name: b")]).snapshot.is_none(),
        "nothing changed, nothing to publish"
    );
}

#[test]
fn endpoints_keep_their_state_and_their_arc() {
    let mut builder = builder();
    apply(&mut builder, CLUSTER, &[("a", &eds_cluster("a"))]);
    let first = accept(
        &mut builder,
        ENDPOINT,
        &[("a", &endpoints("a", &["10.0.0.1", "10.0.0.2"]))],
    );
    let second = accept(
        &mut builder,
        ENDPOINT,
        &[("a", &endpoints("a", &["10.0.0.3", "10.0.0.2"]))],
    );
    let (old, new) = (&first.clusters["a"].endpoints, &second.clusters["a"].endpoints);
    assert_eq!(new.len(), 2);
    assert!(arc_eq(&old[1], &new[1]));
    assert_eq!(new[0].address.ip(), IpAddr::from([10, 0, 0, 3]));
    let weighted = endpoints("a", &["10.0.0.2"]).replace(
        "]}]",
        ", {endpoint: {address: {socket_address: {address: 10.0.0.3, port_value: 80}}}, load_balancing_weight: 5}]}]",
    );
    let third = accept(&mut builder, ENDPOINT, &[("a", &weighted)]);
    let heavier = &third.clusters["a"].endpoints[1];
    assert_eq!(heavier.weight, 5);
    assert!(!arc_eq(heavier, &new[0]) && arc_eq(&heavier.state, &new[0].state));
}

#[test]
fn clusters_wait_for_their_endpoints() {
    let mut builder = builder();
    assert!(
        apply(&mut builder, CLUSTER, &[("a", &eds_cluster("a"))])
            .snapshot
            .is_none()
    );
    assert_eq!(builder.wants().endpoints, ["a".to_owned()].into());
    assert!(builder.shared().resources.get(CLUSTER, "a").expect("accepted").warming);
    assert!(builder.deadline().is_some());
    let snapshot = accept(&mut builder, ENDPOINT, &[("a", &endpoints("a", &["10.0.0.1"]))]);
    assert_eq!(snapshot.clusters["a"].endpoints.len(), 1);
    assert!(builder.deadline().is_none());
    assert!(!builder.shared().resources.get(CLUSTER, "a").expect("accepted").warming);
}

#[test]
fn waiting_is_bounded() {
    let mut builder = builder().with_patience(Duration::from_millis(1));
    assert!(
        apply(&mut builder, CLUSTER, &[("a", &eds_cluster("a"))])
            .snapshot
            .is_none()
    );
    std::thread::sleep(Duration::from_millis(2));
    let snapshot = builder.tick().expect("the time is over");
    assert!(snapshot.clusters["a"].endpoints.is_empty());
}

fn rds_listener(name: &str, table: &str) -> String {
    format!(
        "
name: {name}
address: {{socket_address: {{address: 0.0.0.0, port_value: 80}}}}
filter_chains:
- filters:
  - name: http
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: a
      rds: {{route_config_name: {table}, config_source: {{ads: {{}}}}}}
      http_filters: [{{name: envoy.filters.http.router}}]
"
    )
}

fn table_to(name: &str, cluster: &str) -> String {
    format!(
        "name: '{name}'\nvirtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}]"
    )
}

#[test]
fn the_listener_before_stays_until_the_routes_of_the_next_one_come() {
    let mut builder = builder();
    apply(&mut builder, LISTENER, &[("l", &rds_listener("l", "one"))]);
    let first = accept(&mut builder, ROUTE, &[("one", &table_to("one", "c"))]);
    assert!(
        apply(&mut builder, LISTENER, &[("l", &rds_listener("l", "two"))])
            .snapshot
            .is_none()
    );
    assert_eq!(builder.wants().routes, ["two".to_owned()].into());
    let second = accept(&mut builder, ROUTE, &[("two", &table_to("two", "c"))]);
    let source = |snapshot: &Snapshot| match &snapshot.listeners["l"].chains[0].terminal {
        Terminal::Http(manager) => match &manager.routes {
            RouteSource::Rds(name) => name.to_string(),
            RouteSource::Inline(_) => "inline".to_owned(),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!((source(&first), source(&second)), ("one".to_owned(), "two".to_owned()));
}

#[test]
fn routes_wait_for_clusters_that_are_on_their_way_only() {
    let mut builder = builder();
    accept(&mut builder, ROUTE, &[("r", &table_to("r", "nobody"))]);
    apply(&mut builder, CLUSTER, &[("coming", &eds_cluster("coming"))]);
    let held_back = apply(&mut builder, ROUTE, &[("r", &table_to("r", "coming"))]);
    assert!(held_back.snapshot.is_none(), "its cluster is not ready");
    let snapshot = accept(
        &mut builder,
        ENDPOINT,
        &[("coming", &endpoints("coming", &["10.0.0.1"]))],
    );
    assert!(snapshot.clusters.contains_key("coming"));
    assert_eq!(snapshot.routes["r"].virtual_hosts.len(), 1);
}

#[test]
fn state_of_the_world_removes_what_is_not_named_but_nothing_static() {
    let mut builder = impatient();
    builder.apply(update(CLUSTER, &[("static", "name: static")]), Source::Static);
    accept(&mut builder, CLUSTER, &[("a", "name: a"), ("b", "name: b")]);
    let complete = Update {
        complete: true,
        ..update(CLUSTER, &[("b", "name: b")])
    };
    let snapshot = builder.apply(complete, Source::Dynamic).snapshot.expect("a is gone");
    let mut names: Vec<_> = snapshot.clusters.keys().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["b", "static"]);
    let over_static = apply(
        &mut builder,
        CLUSTER,
        &[("static", "name: static\nconnect_timeout: 1s")],
    );
    assert_eq!(over_static.rejected.len(), 1);
}

#[test]
fn dns_clusters_are_filled_by_look_ups() {
    let mut builder = builder();
    let yaml = "
name: web
type: STRICT_DNS
load_assignment: {cluster_name: web, endpoints: [{lb_endpoints: [
  {endpoint: {address: {socket_address: {address: web.test, port_value: 80}}}},
  {endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 81}}}}]}]}
";
    assert!(apply(&mut builder, CLUSTER, &[("web", yaml)]).snapshot.is_none());
    let asked = builder.dns_clusters();
    assert_eq!(asked[0].1.targets[0].host, "web.test");
    let found = vec![
        vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])],
        vec![IpAddr::from([10, 0, 0, 9])],
    ];
    let snapshot = builder.set_dns("web", found.clone()).expect("warm now");
    let endpoints = &snapshot.clusters["web"].endpoints;
    let shown: Vec<_> = endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(shown, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:81"]);
    assert_eq!(endpoints[0].hostname.as_deref(), Some("web.test"));
    assert!(builder.set_dns("web", found).is_none());
}

/// A self-signed certificate, in PEM, with its key.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("params");
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("      {l}\n")).collect()
}

fn sds(name: &str, pair: &(String, String)) -> String {
    format!(
        "name: {name}\ntls_certificate:\n  certificate_chain:\n    inline_string: |\n{}  private_key:\n    inline_string: |\n{}",
        indent(&pair.0),
        indent(&pair.1)
    )
}

const TLS_LISTENER: &str = "
name: l
address: {socket_address: {address: 0.0.0.0, port_value: 443}}
filter_chains:
- transport_socket:
    name: tls
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      common_tls_context:
        tls_certificate_sds_secret_configs: [{name: 'kubernetes://web', sds_config: {ads: {}}}]
";

#[test]
fn a_new_secret_reaches_the_listeners_that_use_it() {
    let mut builder = builder();
    assert!(apply(&mut builder, LISTENER, &[("l", TLS_LISTENER)]).snapshot.is_none());
    assert_eq!(builder.wants().secrets, ["kubernetes://web".to_owned()].into());
    let (one, two) = (certificate(), certificate());
    let name = "kubernetes://web";
    let first = accept(&mut builder, SECRET, &[(name, &sds(name, &one))]);
    let second = accept(&mut builder, SECRET, &[(name, &sds(name, &two))]);
    let tls = |snapshot: &Snapshot| snapshot.listeners["l"].chains[0].tls.clone().expect("TLS");
    assert!(tls(&first).config.is_some() && tls(&second).config.is_some());
    assert!(!arc_eq(&tls(&first), &tls(&second)));

    let mixed = (one.0, two.1);
    let applied = apply(&mut builder, SECRET, &[(name, &sds(name, &mixed))]);
    assert!(
        applied.rejected[0].message.contains("key does not fit"),
        "{:?}",
        applied.rejected
    );
    assert!(applied.snapshot.is_none());
}

#[test]
fn a_secret_that_does_not_exist_keeps_no_listener_waiting() {
    let mut builder = builder();
    let name = "kubernetes://web";
    let gone = Update {
        remove: vec![name.to_owned()],
        ..update(SECRET, &[])
    };
    assert!(apply(&mut builder, LISTENER, &[("l", TLS_LISTENER)]).snapshot.is_none());
    let without = builder
        .apply(gone.clone(), Source::Dynamic)
        .snapshot
        .expect("in force without it");
    let tls = |snapshot: &Snapshot| snapshot.listeners["l"].chains[0].tls.clone().expect("TLS");
    assert!(tls(&without).config.is_none());
    assert!(!builder.listeners_warming());
    let with = accept(&mut builder, SECRET, &[(name, &sds(name, &certificate()))]);
    assert!(tls(&with).config.is_some());

    // One that was there is waited for: it may be on its way again. What is in force stays so long.
    assert!(
        builder
            .apply(gone, Source::Dynamic)
            .snapshot
            .is_none_or(|s| tls(&s).config.is_some())
    );
    assert!(builder.listeners_warming());
}

#[test]
fn a_listener_without_its_secret_refuses_handshakes_and_never_falls_back_to_plaintext() {
    let snapshot = accept(&mut impatient(), LISTENER, &[("l", TLS_LISTENER)]);
    let tls = snapshot.listeners["l"].chains[0].tls.as_ref().expect("still TLS");
    assert!(tls.config.is_none());
}

const MESH_CLUSTER: &str = "
name: c
transport_socket:
  name: tls
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    common_tls_context:
      tls_certificate_sds_secret_configs: [{name: default, sds_config: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}]
      validation_context_sds_secret_config: {name: ROOTCA, sds_config: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}
";

#[test]
fn the_agents_own_secrets_are_not_asked_for_over_ads() {
    let mut builder = builder();
    assert!(apply(&mut builder, CLUSTER, &[("c", MESH_CLUSTER)]).snapshot.is_none());
    assert!(builder.wants().secrets.is_empty());
    let (pem, key) = certificate();
    let identity = crate::snapshot::build::identity(pem.as_bytes(), key.as_bytes()).expect("a pair");
    let roots = identity.chain.clone();
    let trust = TrustBundle {
        roots,
        ..TrustBundle::default()
    };
    assert!(builder.set_secret("ROOTCA", Secret::Trust(Arc::new(trust))).is_some());
    let snapshot = builder.set_secret("default", own(identity)).expect("complete now");
    let crate::snapshot::Transport::Tls(tls) = &snapshot.clusters["c"].endpoints[0].transport else {
        panic!("plaintext");
    };
    assert!(tls.config.is_some());
}

#[test]
fn clusters_share_tls_where_only_the_server_name_differs() {
    let mut builder = impatient();
    let (pem, key) = certificate();
    let identity = crate::snapshot::build::identity(pem.as_bytes(), key.as_bytes()).expect("a pair");
    let trust = TrustBundle {
        roots: identity.chain.clone(),
        ..TrustBundle::default()
    };
    builder.set_secret("ROOTCA", Secret::Trust(Arc::new(trust)));
    builder.set_secret("default", own(identity));
    let with = |name: &str, fields: &str| {
        let yaml = MESH_CLUSTER.replace("    common_tls_context:", &format!("{fields}\n    common_tls_context:"));
        yaml.replacen("name: c", &format!("name: {name}"), 1)
    };
    let oldest = with("other", "    sni: a.test").replace(
        "common_tls_context:",
        "common_tls_context:\n      tls_params: {tls_minimum_protocol_version: TLSv1_3}",
    );
    let alpn = with("b", "    sni: b.test").replace(
        "common_tls_context:",
        "common_tls_context:\n      alpn_protocols: [istio]",
    );
    let all = [("a", with("a", "    sni: a.test")), ("b", alpn), ("other", oldest)];
    let snapshot = accept(&mut builder, CLUSTER, &all.each_ref().map(|(n, y)| (*n, y.as_str())));
    let transport = |name: &str| snapshot.clusters[name].endpoints[0].transport.clone();
    let tls = |name: &str| transport(name).tls().cloned().expect("no plaintext");
    let config = |name: &str| tls(name).config.clone().expect("secrets are there");
    assert_eq!((&*tls("a").sni, &*tls("b").sni), ("a.test", "b.test"));
    assert_eq!(tls("b").alpn, [b"istio".to_vec()]);
    assert!(arc_eq(&config("a"), &config("b")));
    assert!(!arc_eq(&config("a"), &config("other")));
}

fn own(identity: Identity) -> Secret {
    Secret::Identity(Arc::new(identity))
}

#[test]
fn files_behind_secrets_are_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let write = |pair: &(String, String)| {
        std::fs::write(&cert, &pair.0).expect("written");
        std::fs::write(&key, &pair.1).expect("written");
    };
    write(&certificate());
    let name = format!("file-cert:{}~{}", cert.display(), key.display());
    let yaml = TLS_LISTENER.replace("kubernetes://web", &name);
    let mut builder = builder();
    let first = accept(&mut builder, LISTENER, &[("l", &yaml)]);
    assert!(builder.wants().secrets.is_empty());
    assert!(builder.reread_files().is_none());
    write(&certificate());
    let second = builder.reread_files().expect("other content");
    assert!(!arc_eq(&first.listeners["l"], &second.listeners["l"]));
}
