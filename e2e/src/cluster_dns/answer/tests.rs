use hickory_proto::op::Query;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use serde_json::json;

use super::*;
use crate::cluster_dns::names::tests::cluster;

fn question(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    query
}

fn ask_by(query: &Message, names: &Names, transport: Transport) -> Message {
    let bytes = answer(&query.to_vec().expect("bytes"), names, 30, transport).expect("an answer");
    let reply = Message::from_vec(&bytes).expect("a message");
    assert_eq!(reply.metadata.id, query.metadata.id);
    assert_eq!(reply.queries, query.queries);
    reply
}

fn ask(name: &str, kind: RecordType) -> Message {
    ask_by(&question(name, kind), &cluster(), Transport::Udp)
}

fn data(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|r| r.data.to_string()).collect()
}

#[test]
fn a_name_in_any_case_has_its_address() {
    let reply = ask("Web.Shop.svc.cluster.local.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(data(&reply), ["10.96.1.2"]);
    assert_eq!(reply.answers[0].ttl, 30);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_desired);
}

#[test]
fn what_a_name_has_not_is_not_the_absence_of_the_name() {
    let six = ask("web.shop.svc.cluster.local.", RecordType::AAAA);
    assert_eq!(
        (six.metadata.response_code, six.answers.len()),
        (ResponseCode::NoError, 0)
    );
    assert_eq!(six.authorities.len(), 1, "how long the absence holds");
    let other = ask("example.com.", RecordType::A);
    assert_eq!(
        (other.metadata.response_code, other.answers.len()),
        (ResponseCode::NXDomain, 0)
    );
}

#[test]
fn an_alias_comes_with_what_it_leads_to() {
    let reply = ask("outside.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(data(&reply), ["web.shop.svc.cluster.local.", "10.96.1.2"]);
}

#[test]
fn a_ring_of_aliases_ends() {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "ring", "namespace": "a"},
        "spec": {"type": "ExternalName", "externalName": "ring.a.svc.cluster.local"},
    }))
    .expect("a Service");
    let names = Names::new("cluster.local", [&service], []);
    let reply = ask_by(
        &question("ring.a.svc.cluster.local.", RecordType::A),
        &names,
        Transport::Udp,
    );
    assert_eq!(reply.answers.len(), ALIASES);
}

#[test]
fn servers_come_with_their_addresses() {
    let reply = ask("_sql._tcp.db.shop.svc.cluster.local.", RecordType::SRV);
    assert_eq!(
        data(&reply),
        [
            "0 100 15432 10-244-0-8.db.shop.svc.cluster.local.",
            "0 100 15432 db-0.db.shop.svc.cluster.local."
        ]
    );
    assert_eq!(reply.additionals.len(), 2);
}

#[test]
fn an_answer_too_long_for_udp_is_cut_and_whole_by_tcp() {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "many", "namespace": "a"}, "spec": {"clusterIP": "None"},
    }))
    .expect("a Service");
    let addresses: Vec<_> = (1..=60).map(|n| json!({"ip": format!("10.244.0.{n}")})).collect();
    let endpoints: Endpoints = serde_json::from_value(json!({
        "metadata": {"name": "many", "namespace": "a"}, "subsets": [{"addresses": addresses}],
    }))
    .expect("Endpoints");
    let names = Names::new("cluster.local", [&service], [&endpoints]);
    let mut query = question("many.a.svc.cluster.local.", RecordType::A);
    let cut = ask_by(&query, &names, Transport::Udp);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(ask_by(&query, &names, Transport::Tcp).answers.len(), 60);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns);
    assert_eq!(
        ask_by(&query, &names, Transport::Udp).answers.len(),
        60,
        "the client takes more"
    );
}

#[test]
fn nonsense_gets_no_answer() {
    assert!(answer(b"\x00\x01", &cluster(), 30, Transport::Udp).is_none());
    let reply = Message::response(1, OpCode::Query).to_vec().expect("bytes");
    assert!(
        answer(&reply, &cluster(), 30, Transport::Udp).is_none(),
        "an answer is no question"
    );
}
