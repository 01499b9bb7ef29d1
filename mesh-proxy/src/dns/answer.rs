//! What the DNS proxy says to a query. Pure: bytes and names in, bytes or "ask somebody else" out.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::{Addresses, Found, Names};

/// Short: addresses in the table are virtual and stable, but tables change.
const TTL: u32 = 30;
/// Of a client that says nothing of its buffer.
const PLAIN_UDP: u16 = 512;
/// What passes every network without fragments; larger answers go over TCP.
const MAX_UDP: u16 = 1232;

/// What to do with a query.
#[derive(Debug)]
pub(super) enum Action {
    /// Send this back.
    Answer(Vec<u8>),
    /// Not ours: ask the pod's nameservers.
    Forward,
    /// Nothing that deserves an answer.
    Drop,
}

/// Decides. `udp` bounds the size of the answer.
pub(super) fn answer(query: &[u8], names: &Names, udp: bool) -> Action {
    let Ok(query) = Message::from_vec(query) else {
        return Action::Drop;
    };
    let metadata = &query.metadata;
    if metadata.message_type != MessageType::Query {
        return Action::Drop;
    }
    if metadata.op_code != OpCode::Query {
        return error(&query, ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else {
        return error(&query, ResponseCode::FormErr);
    };
    let family = question.query_type();
    if question.query_class() != DNSClass::IN || !matches!(family, RecordType::A | RecordType::AAAA) {
        return Action::Forward;
    }
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let Some(found) = names.find(&name) else {
        return Action::Forward;
    };
    let mut response = respond(&query, ResponseCode::NoError);
    response.metadata.authoritative = true;
    match found {
        Found::Name(addresses) => add(&mut response, question.name(), addresses, family),
        Found::Alias(to, addresses) => {
            let Ok(mut target) = Name::from_ascii(&to) else {
                return Action::Forward;
            };
            target.set_fqdn(true);
            let alias = RData::CNAME(CNAME(target.clone()));
            response.add_answer(Record::from_rdata(question.name().clone(), TTL, alias));
            add(&mut response, &target, addresses, family);
        }
    }
    let limit = if udp { udp_limit(&query) } else { u16::MAX };
    encode(&mut response, limit.into())
}

/// The answer when no nameserver helped.
pub(super) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    respond(&query, ResponseCode::ServFail).to_vec().ok()
}

fn add(response: &mut Message, name: &Name, addresses: &Addresses, family: RecordType) {
    let mut records: Vec<RData> = match family {
        RecordType::AAAA => addresses.v6.iter().map(|ip| RData::AAAA(AAAA(*ip))).collect(),
        _ => addresses.v4.iter().map(|ip| RData::A(A(*ip))).collect(),
    };
    // Clients take the first; let them not all take the same. No record at all is right for the family that a name does
    // not have: NXDOMAIN would deny the other one too.
    if records.len() > 1 {
        let turn = rand::random_range(0..records.len());
        records.rotate_left(turn);
    }
    for data in records {
        response.add_answer(Record::from_rdata(name.clone(), TTL, data));
    }
}

fn udp_limit(query: &Message) -> u16 {
    let offered = query.edns.as_ref().map_or(PLAIN_UDP, Edns::max_payload);
    offered.clamp(PLAIN_UDP, MAX_UDP)
}

/// Leaves out answers until the message fits, and says so; the client comes again by TCP.
fn encode(response: &mut Message, limit: usize) -> Action {
    loop {
        match response.to_vec() {
            Ok(bytes) if bytes.len() <= limit => return Action::Answer(bytes),
            Ok(_) if !response.answers.is_empty() => {
                response.metadata.truncation = true;
                let half = response.answers.len() / 2;
                response.answers.truncate(half);
            }
            _ => return Action::Drop,
        }
    }
}

fn error(query: &Message, code: ResponseCode) -> Action {
    respond(query, code).to_vec().map_or(Action::Drop, Action::Answer)
}

fn respond(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::error_msg(query.metadata.id, query.metadata.op_code, code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    let question: Option<&Query> = query.queries.first();
    response.add_queries(question.cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        response.set_edns(edns);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::names::table;
    use super::*;

    fn ask(name: &str, family: RecordType, udp: bool) -> Action {
        let many: Vec<String> = (0..100).map(|i| format!("10.0.1.{i}")).collect();
        let table = table(&[
            ("catalog.shop.svc.cluster.local", "10.0.0.1 10.0.0.2", "catalog", "shop"),
            ("six.example.com", "2001:db8::1", "", ""),
            ("many.example.com", &many.join(" "), "", ""),
        ]);
        let names = Names::new(&table, &["shop.svc.cluster.local".to_owned()]);
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), family));
        answer(&query.to_vec().expect("it encodes"), &names, udp)
    }

    fn reply(action: Action) -> Message {
        match action {
            Action::Answer(bytes) => Message::from_vec(&bytes).expect("our own answer"),
            other => panic!("{other:?}"),
        }
    }

    fn texts(message: &Message) -> Vec<String> {
        let mut all: Vec<String> = message.answers.iter().map(ToString::to_string).collect();
        all.sort();
        all
    }

    #[test]
    fn names_of_the_mesh_are_answered() {
        let message = reply(ask("Catalog.shop.svc.cluster.local.", RecordType::A, true));
        let expected = ["10.0.0.1", "10.0.0.2"].map(|ip| format!("Catalog.shop.svc.cluster.local. 30 IN A {ip}"));
        assert_eq!(texts(&message), expected);
        assert!(message.metadata.authoritative && message.metadata.recursion_available);
        assert_eq!(message.queries.len(), 1);
    }

    #[test]
    fn the_other_family_has_no_data_and_exists() {
        for (name, family) in [
            ("catalog.shop.svc.cluster.local.", RecordType::AAAA),
            ("six.example.com.", RecordType::A),
        ] {
            let message = reply(ask(name, family, true));
            assert_eq!(message.metadata.response_code, ResponseCode::NoError);
            assert!(message.answers.is_empty());
        }
    }

    #[test]
    fn a_search_domain_is_an_alias() {
        let message = reply(ask("six.example.com.shop.svc.cluster.local.", RecordType::AAAA, true));
        let expected = [
            "six.example.com. 30 IN AAAA 2001:db8::1",
            "six.example.com.shop.svc.cluster.local. 30 IN CNAME six.example.com.",
        ];
        assert_eq!(texts(&message), expected);
    }

    #[test]
    fn what_is_not_ours_is_forwarded() {
        assert!(matches!(ask("example.org.", RecordType::A, true), Action::Forward));
        let other_type = ask("catalog.shop.svc.cluster.local.", RecordType::MX, true);
        assert!(matches!(other_type, Action::Forward));
    }

    #[test]
    fn long_answers_are_cut_on_udp_only() {
        let message = reply(ask("many.example.com.", RecordType::A, true));
        assert!(message.metadata.truncation);
        assert!((1..100).contains(&message.answers.len()));
        assert!(message.to_vec().expect("it encodes").len() <= 512);
        let message = reply(ask("many.example.com.", RecordType::A, false));
        assert!(!message.metadata.truncation);
        assert_eq!(message.answers.len(), 100);
    }

    #[test]
    fn nonsense_is_dropped() {
        let names = Names::default();
        for bytes in [&b""[..], &[0; 5], &[0xff; 40]] {
            assert!(matches!(answer(bytes, &names, true), Action::Drop));
        }
    }
}
