//! The protocol: a question's bytes to an answer's bytes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::names::{Data, Found, Names};

/// Bytes of an answer by UDP where the question says nothing else.
const PLAIN: u16 = 512;
/// What this server takes and gives by UDP at most: what passes every link in one piece.
const LARGEST: u16 = 1232;
/// Seconds for which the absence of a name may be kept: short, as names come and go in tests.
const NEGATIVE_TTL: u32 = 5;
/// Aliases that are followed for one question.
const ALIASES: usize = 8;

/// How the question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Answers, or gives nothing for what is no question.
pub(super) fn answer(query: &[u8], names: &Names, ttl: u32, transport: Transport) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let question = query.queries.first().cloned();
    match &question {
        Some(question) if query.metadata.op_code == OpCode::Query => {
            reply.metadata.authoritative = true;
            fill(&mut reply, question.name(), question.query_type(), names, ttl);
        }
        Some(_) => reply.metadata.response_code = ResponseCode::NotImp,
        None => reply.metadata.response_code = ResponseCode::FormErr,
    }
    reply.add_queries(question);
    let mut limit = PLAIN;
    if let Some(edns) = &query.edns {
        limit = edns.max_payload().clamp(PLAIN, LARGEST);
        let mut own = Edns::new();
        own.set_max_payload(LARGEST);
        reply.set_edns(own);
    }
    let bytes = reply.to_vec().ok()?;
    if transport == Transport::Udp && bytes.len() > usize::from(limit) {
        // The client asks again by TCP.
        return reply.truncate().to_vec().ok();
    }
    Some(bytes)
}

fn fill(reply: &mut Message, asked: &Name, kind: RecordType, names: &Names, ttl: u32) {
    let mut name = asked.clone();
    for _ in 0..ALIASES {
        let found = names.find(name.to_ascii().trim_end_matches('.').to_ascii_lowercase().as_str());
        let Found::Data(data) = found else {
            // An alias to a name that is not served here is still an answer.
            if reply.answers.is_empty() {
                reply.metadata.response_code = ResponseCode::NXDomain;
                deny(reply, names);
            }
            return;
        };
        let Some(target) = alias(&data) else {
            for record in data.iter().filter_map(|d| record(&name, kind, d, ttl)) {
                reply.add_answer(record);
            }
            servers(reply, &data, kind, names, ttl);
            break;
        };
        reply.add_answer(Record::from_rdata(name, ttl, RData::CNAME(CNAME(target.clone()))));
        if kind == RecordType::CNAME {
            return;
        }
        name = target;
    }
    if reply.answers.is_empty() {
        deny(reply, names);
    }
}

/// The addresses of servers, so that nobody has to ask for them.
fn servers(reply: &mut Message, data: &BTreeSet<Data>, kind: RecordType, names: &Names, ttl: u32) {
    if kind != RecordType::SRV {
        return;
    }
    for item in data {
        let Data::Server(_, target) = item else { continue };
        let (Ok(name), Found::Data(of_target)) = (Name::from_ascii(format!("{target}.")), names.find(target)) else {
            continue;
        };
        for kind in [RecordType::A, RecordType::AAAA] {
            reply.add_additionals(of_target.iter().filter_map(|d| record(&name, kind, d, ttl)));
        }
    }
}

fn alias(data: &BTreeSet<Data>) -> Option<Name> {
    data.iter().find_map(|d| match d {
        Data::Alias(target) => Name::from_ascii(format!("{target}.")).ok(),
        _ => None,
    })
}

fn record(name: &Name, kind: RecordType, data: &Data, ttl: u32) -> Option<Record> {
    let absolute = |name: &str| Name::from_ascii(format!("{name}.")).ok();
    let data = match (kind, data) {
        (RecordType::A, Data::Address(IpAddr::V4(v4))) => RData::A(A(*v4)),
        (RecordType::AAAA, Data::Address(IpAddr::V6(v6))) => RData::AAAA(AAAA(*v6)),
        (RecordType::SRV, Data::Server(port, target)) => RData::SRV(SRV::new(0, 100, *port, absolute(target)?)),
        (RecordType::PTR, Data::Pointer(target)) => RData::PTR(PTR(absolute(target)?)),
        (RecordType::TXT, Data::Text(text)) => RData::TXT(TXT::new(vec![text.clone()])),
        _ => return None,
    };
    Some(Record::from_rdata(name.clone(), ttl, data))
}

/// Says for how long the absence holds.
fn deny(reply: &mut Message, names: &Names) {
    let zone = names.zone();
    let name = |text: String| Name::from_ascii(text).ok();
    let (Some(origin), Some(server), Some(person)) = (
        name(format!("{zone}.")),
        name(format!("ns.dns.{zone}.")),
        name(format!("hostmaster.{zone}.")),
    ) else {
        return;
    };
    let soa = SOA::new(server, person, 1, 7200, 1800, 86400, NEGATIVE_TTL);
    reply.add_authority(Record::from_rdata(origin, NEGATIVE_TTL, RData::SOA(soa)));
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
