use serde_json::{Value, json};

use super::*;

fn service(value: Value) -> Service {
    serde_json::from_value(value).expect("a Service")
}

/// A cluster with a Service of each kind.
pub(in crate::cluster_dns) fn cluster() -> Names {
    let services = [
        service(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.1.2", "clusterIPs": ["10.96.1.2"], "ports": [{"name": "http", "port": 80}, {"port": 81}]},
        })),
        service(json!({
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]},
        })),
        service(json!({
            "metadata": {"name": "idle", "namespace": "shop"},
            "spec": {"clusterIP": "None"},
        })),
        service(json!({
            "metadata": {"name": "outside", "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": "Web.shop.svc.cluster.local."},
        })),
    ];
    let endpoints: Endpoints = serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "shop"},
        "subsets": [{
            "addresses": [{"ip": "10.244.0.7", "hostname": "db-0"}, {"ip": "10.244.0.8"}],
            "notReadyAddresses": [{"ip": "10.244.0.9", "hostname": "db-2"}],
            "ports": [{"name": "sql", "port": 15432, "protocol": "TCP"}],
        }],
    }))
    .expect("Endpoints");
    Names::new("cluster.local", &services, [&endpoints])
}

fn addresses(name: &str) -> Vec<String> {
    match cluster().find(name) {
        Found::Nothing => vec!["nothing".to_owned()],
        Found::Data(data) => data
            .into_iter()
            .map(|d| match d {
                Data::Address(ip) => ip.to_string(),
                other => format!("{other:?}"),
            })
            .collect(),
    }
}

#[test]
fn a_service_has_its_cluster_address_and_a_headless_one_those_of_its_ready_pods() {
    assert_eq!(addresses("web.shop.svc.cluster.local"), ["10.96.1.2"]);
    assert_eq!(addresses("db.shop.svc.cluster.local"), ["10.244.0.7", "10.244.0.8"]);
    assert_eq!(
        addresses("idle.shop.svc.cluster.local"),
        ["nothing"],
        "no endpoint is ready"
    );
}

#[test]
fn pods_of_a_stateful_set_have_names() {
    assert_eq!(addresses("db-0.db.shop.svc.cluster.local"), ["10.244.0.7"]);
    assert_eq!(addresses("10-244-0-8.db.shop.svc.cluster.local"), ["10.244.0.8"]);
    assert_eq!(
        addresses("db-2.db.shop.svc.cluster.local"),
        ["nothing"],
        "it is not ready"
    );
    assert_eq!(addresses("10-244-0-9.shop.pod.cluster.local"), ["10.244.0.9"]);
    assert_eq!(addresses("x.shop.pod.cluster.local"), ["nothing"]);
}

#[test]
fn named_ports_have_servers() {
    let found = |name: &str| match cluster().find(name) {
        Found::Data(data) => data.into_iter().collect::<Vec<_>>(),
        Found::Nothing => Vec::new(),
    };
    assert_eq!(
        found("_http._tcp.web.shop.svc.cluster.local"),
        [Data::Server(80, "web.shop.svc.cluster.local".to_owned())]
    );
    assert_eq!(
        found("_sql._tcp.db.shop.svc.cluster.local"),
        [
            Data::Server(15432, "10-244-0-8.db.shop.svc.cluster.local".to_owned()),
            Data::Server(15432, "db-0.db.shop.svc.cluster.local".to_owned()),
        ]
    );
}

#[test]
fn an_external_name_is_an_alias() {
    let data = BTreeSet::from([Data::Alias("web.shop.svc.cluster.local".to_owned())]);
    assert_eq!(cluster().find("outside.shop.svc.cluster.local"), Found::Data(data));
}

#[test]
fn addresses_lead_back_to_names() {
    let pointer = |name: &str| match cluster().find(name) {
        Found::Data(data) => data.into_iter().next(),
        Found::Nothing => None,
    };
    let web = Data::Pointer("web.shop.svc.cluster.local".to_owned());
    assert_eq!(pointer("2.1.96.10.in-addr.arpa"), Some(web));
    let db = Data::Pointer("db-0.db.shop.svc.cluster.local".to_owned());
    assert_eq!(pointer("7.0.244.10.in-addr.arpa"), Some(db));
    let six: IpAddr = "fd00::1".parse().expect("an address");
    assert_eq!(reverse(six), format!("1.{}0.0.d.f.ip6.arpa", "0.".repeat(27)));
}

#[test]
fn names_between_exist_without_data_and_others_do_not_exist() {
    assert_eq!(cluster().find("shop.svc.cluster.local"), Found::Data(BTreeSet::new()));
    assert_eq!(cluster().find("cluster.local"), Found::Data(BTreeSet::new()));
    assert_eq!(cluster().find("else.svc.cluster.local"), Found::Nothing);
    assert_eq!(
        cluster().find("web.shop.svc.cluster.local.cluster.local"),
        Found::Nothing
    );
    assert_eq!(cluster().find("example.com"), Found::Nothing);
}
