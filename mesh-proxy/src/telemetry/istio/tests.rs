use std::sync::Arc;

use super::labels::Facts;
use super::*;
use crate::shared::Workload;
use crate::snapshot::IstioService;

fn workload(name: &str, namespace: &str) -> Workload {
    Workload {
        name: format!("{name}-v1"),
        namespace: namespace.to_owned(),
        canonical_name: name.to_owned(),
        canonical_revision: "v1".to_owned(),
        app: name.to_owned(),
        version: "v1".to_owned(),
        cluster_id: "Kubernetes".to_owned(),
        ..Workload::default()
    }
}

fn service() -> IstioService {
    IstioService {
        host: "catalog.shop.svc.cluster.local".into(),
        name: "catalog".into(),
        namespace: "shop".into(),
    }
}

fn facts<'a>(reporter: Reporter, own: &'a Workload, peer: Option<&'a Workload>) -> Facts<'a> {
    Facts {
        reporter,
        own,
        peer,
        source_principal: "",
        destination_principal: "",
        service: None,
        authority: "",
        cluster: "",
        route: "",
        protocol: "http",
        flags: ResponseFlags::NONE,
        mutual: false,
        http: Some((200, None)),
    }
}

fn table(names: &[&str], facts: &Facts<'_>) -> String {
    let labels = facts.labels();
    assert_eq!(labels.len(), names.len());
    let rows: Vec<String> = names.iter().zip(&labels).map(|(n, v)| format!("{n}={v}")).collect();
    rows.join(" ")
}

#[test]
fn the_server_reports_what_certificate_and_metadata_say() {
    let (web, catalog, service) = (workload("web", "wrong"), workload("catalog", "shop"), service());
    let facts = Facts {
        source_principal: "spiffe://cluster.local/ns/front/sa/web",
        destination_principal: "spiffe://cluster.local/ns/shop/sa/catalog",
        service: Some(&service),
        mutual: true,
        ..facts(Reporter::Destination, &catalog, Some(&web))
    };
    assert_eq!(
        table(&HTTP_LABELS, &facts),
        "reporter=destination source_workload=web-v1 source_canonical_service=web source_canonical_revision=v1 \
         source_workload_namespace=front source_principal=spiffe://cluster.local/ns/front/sa/web source_app=web \
         source_version=v1 source_cluster=Kubernetes destination_workload=catalog-v1 \
         destination_workload_namespace=shop destination_principal=spiffe://cluster.local/ns/shop/sa/catalog \
         destination_app=catalog destination_version=v1 destination_service=catalog.shop.svc.cluster.local \
         destination_canonical_service=catalog destination_canonical_revision=v1 destination_service_name=catalog \
         destination_service_namespace=shop destination_cluster=Kubernetes request_protocol=http response_code=200 \
         grpc_response_status= response_flags=- connection_security_policy=mutual_tls"
    );
}

#[test]
fn the_client_falls_back_to_the_endpoints_metadata() {
    let (web, service) = (workload("web", "front"), service());
    let peer = peer::from_endpoint("catalog-v2;shop;catalog;;Kubernetes").expect("five parts");
    let facts = Facts {
        service: Some(&service),
        flags: ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        protocol: "grpc",
        http: Some((200, Some(14))),
        ..facts(Reporter::Source, &web, Some(&peer.workload))
    };
    let table = table(&HTTP_LABELS, &facts);
    assert!(
        table.ends_with(
            "destination_workload=catalog-v2 destination_workload_namespace=shop destination_principal=unknown \
             destination_app=unknown destination_version=unknown \
             destination_service=catalog.shop.svc.cluster.local destination_canonical_service=catalog \
             destination_canonical_revision=latest destination_service_name=catalog destination_service_namespace=shop \
             destination_cluster=Kubernetes request_protocol=grpc response_code=200 grpc_response_status=14 \
             response_flags=UF connection_security_policy=unknown"
        ),
        "{table}"
    );
}

#[test]
fn what_is_not_a_service_gets_the_clusters_name() {
    let web = workload("web", "front");
    for (cluster, route, authority, name) in [
        (
            "PassthroughCluster",
            "allow_any",
            "example.com:8443",
            "PassthroughCluster",
        ),
        ("", "block_all", "example.com", "BlackHoleCluster"),
        ("InboundPassthroughCluster", "default", "x", "InboundPassthroughCluster"),
        ("something", "", "api.example.com", "api"),
        ("something", "", "", "unknown"),
    ] {
        let facts = Facts {
            cluster,
            route,
            authority,
            ..facts(Reporter::Source, &web, None)
        };
        let labels = facts.labels();
        assert_eq!(&*labels[17], name, "{cluster} {route}");
        assert_eq!(&*labels[14], if authority.is_empty() { "unknown" } else { authority });
    }
}

#[test]
fn tcp_has_no_status() {
    let web = workload("web", "front");
    let facts = Facts {
        protocol: "tcp",
        http: None,
        ..facts(Reporter::Source, &web, None)
    };
    assert!(
        table(&TCP_LABELS, &facts)
            .ends_with("request_protocol=tcp response_flags=- connection_security_policy=unknown")
    );
}

#[test]
fn workers_add_up_and_series_are_bounded() {
    let store = Store::with_limit(2);
    let label = |name: &str| -> Box<[Box<str>]> { ["source", name].map(Box::from).into() };
    store.http(0, label("a")).requests.inc();
    store.http(1, label("a")).requests.add(2);
    store.http(0, label("b")).requests.inc();
    for i in 0..10 {
        store.http(0, label(&i.to_string())).requests.inc();
    }
    let all: Vec<(String, u64)> = store
        .http_series()
        .iter()
        .map(|s| (s.labels.join(" "), s.requests))
        .collect();
    let expected = [("source a", 3), ("source b", 1), ("source overflow", 10)];
    assert_eq!(all, expected.map(|(l, n)| (l.to_owned(), n)));
    assert_eq!(store.overflowed.get(), 10);
    store.reset();
    assert!(store.http_series().iter().all(|s| s.requests == 0));
}

#[test]
fn a_borrowed_key_finds_the_owned_one() {
    let key = Key {
        reporter: Reporter::Source,
        cluster: 1,
        peer: 2,
        code: 200,
        flags: ResponseFlags::NONE,
        grpc: false,
        grpc_status: None,
        mutual: true,
        texts: ["a", "b", "", "d", "e"],
    };
    let mut cache = SeriesCache::default();
    let entry = Entry {
        cells: Arc::default(),
        _cluster: None,
        _peer: None,
    };
    cache.entries.insert(key.to_owned(), entry);
    assert!(cache.entries.contains_key(&key));
    let other = Key {
        texts: ["a", "b", "c", "d", "e"],
        ..key
    };
    assert!(!cache.entries.contains_key(&other));
}
