use std::sync::Arc;

use super::super::testing::telemetry;
use super::*;
use crate::snapshot::{ClientTls, Discovery, IstioService};
use crate::testing;

fn sent(name: &str) -> HeaderMap {
    let telemetry = telemetry(name, &Arc::default());
    let mut headers = HeaderMap::new();
    inbound_response(&mut headers, true, &telemetry);
    headers
}

#[test]
fn what_one_side_says_the_other_understands() {
    let web = sent("web");
    let us = telemetry("catalog", &Arc::default());
    let mut headers = web.clone();
    let peer = inbound_request(&mut headers, true, &us).expect("a peer");
    assert!(headers.is_empty(), "the application sees nothing of it");
    assert_eq!(peer.id, "sidecar~10.0.0.1~web-v1-abc.shop~shop.svc.cluster.local");
    let w = &peer.workload;
    assert_eq!(
        [
            &w.name,
            &w.namespace,
            &w.canonical_name,
            &w.canonical_revision,
            &w.app,
            &w.version,
            &w.cluster_id
        ],
        ["web-v1", "shop", "web", "v1", "web", "v1", "Kubernetes"]
    );
    assert!(w.owner.ends_with("/deployments/web-v1"));
    assert!(
        !w.labels.contains_key("secret"),
        "only the labels that metrics need travel"
    );
    // The second time it is the very same object.
    let mut headers = web;
    let again = outbound_response(&mut headers, true, &us).expect("a peer");
    assert!(Arc::ptr_eq(&peer, &again));
}

#[test]
fn strangers_are_not_believed_and_learn_nothing() {
    let us = telemetry("catalog", &Arc::default());
    let mut headers = sent("web");
    assert_eq!(inbound_request(&mut headers, false, &us), None);
    assert!(headers.is_empty());
    // What an application sets itself goes, and without exchange nothing takes its place.
    let mut headers = sent("web");
    strip(&mut headers);
    inbound_response(&mut headers, false, &us);
    assert!(headers.is_empty());
}

#[test]
fn only_the_mesh_learns_who_calls() {
    let us = telemetry("web", &Arc::default());
    let tls = |alpn: &[&str]| {
        Transport::Tls(Arc::new(ClientTls {
            config: None,
            secrets: Vec::new(),
            sni: Arc::default(),
            alpn: testing::alpn(alpn),
            fingerprint: 0,
        }))
    };
    let service = || {
        Some(IstioService {
            host: "catalog.shop.svc.cluster.local".into(),
            name: "catalog".into(),
            namespace: "shop".into(),
        })
    };
    let mesh = tls(&["istio-peer-exchange", "istio"]);
    let cases = [
        (
            "a service, plaintext",
            service(),
            false,
            Discovery::Static,
            Transport::Plain,
            true,
        ),
        (
            "a service, its own TLS",
            service(),
            false,
            Discovery::Static,
            tls(&[]),
            true,
        ),
        ("external", service(), true, Discovery::Static, Transport::Plain, false),
        ("external, TLS", service(), true, Discovery::Static, tls(&["h2"]), false),
        ("external, mesh TLS", service(), true, Discovery::Static, mesh, true),
        (
            "passthrough",
            None,
            false,
            Discovery::OriginalDst,
            Transport::Plain,
            false,
        ),
        ("unknown", None, false, Discovery::Static, Transport::Plain, false),
    ];
    for (what, service, external, discovery, transport, told) in cases {
        let mut cluster = testing::cluster("c", &[], &transport);
        cluster.istio.service = service;
        cluster.istio.external = external;
        cluster.discovery = discovery;
        let mut headers = sent("impostor");
        strip(&mut headers);
        outbound_request(&mut headers, &cluster, &transport, &us);
        let id = headers
            .get(METADATA_ID)
            .map(|v| v.to_str().unwrap_or_default().to_owned());
        assert_eq!(id.is_some(), told, "{what}");
        assert_eq!(headers.contains_key(METADATA), told, "{what}");
        // Never what the application says of itself.
        assert!(id.is_none_or(|id| id.contains("~web-v1-abc.shop~")), "{what}");
    }
}

#[test]
fn nonsense_is_no_peer() {
    let us = telemetry("catalog", &Arc::default());
    let long = "A".repeat(MAX_BYTES + 4);
    for value in ["", "?", "AAAA", "/w==", &long] {
        let mut headers = HeaderMap::new();
        headers.insert(METADATA, HeaderValue::from_str(value).expect("ASCII"));
        let peer = inbound_request(&mut headers, true, &us);
        assert!(peer.is_none_or(|p| p.workload.name.is_empty()), "{value}");
        assert!(headers.is_empty());
    }
}

#[test]
fn tcp_prefix_goes_both_ways_and_stops_where_the_application_begins() {
    let prefix = tcp_prefix(&telemetry("web", &Arc::default())).expect("we are a workload");
    let mut stream = prefix.to_vec();
    stream.extend_from_slice(b"hello");
    for end in 0..prefix.len() {
        assert_eq!(decode_tcp(&stream[..end]), TcpPrefix::Partial, "{end}");
    }
    let TcpPrefix::Read(length, Some(peer)) = decode_tcp(&stream) else {
        panic!("a whole prefix");
    };
    assert_eq!(&stream[length..], b"hello");
    assert_eq!(peer.workload.name, "web-v1");
    assert!(peer.id.starts_with("sidecar~"));
}

#[test]
fn tcp_without_prefix_or_with_a_bad_one() {
    assert_eq!(decode_tcp(b"GET / HTTP/1.1"), TcpPrefix::None);
    assert_eq!(decode_tcp(&[0x3D, 0x24]), TcpPrefix::None);
    let huge = [&TCP_MAGIC.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat();
    assert_eq!(decode_tcp(&huge), TcpPrefix::TooLong(u32::MAX as usize));
    let odd = [&TCP_MAGIC.to_be_bytes()[..], &3_u32.to_be_bytes(), &[0xff; 3]].concat();
    assert_eq!(decode_tcp(&odd), TcpPrefix::Read(11, None));
}

#[test]
fn endpoints_name_their_workload() {
    let peer = from_endpoint("catalog-v2;shop;catalog;v2;Kubernetes").expect("five parts");
    assert_eq!(peer.workload.name, "catalog-v2");
    assert_eq!(peer.workload.canonical_revision, "v2");
    assert_eq!(peer.workload.app, "");
    assert_eq!(from_endpoint(""), None);
}
