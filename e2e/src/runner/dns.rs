//! The mesh's name server: service names to ClusterIPs, as CoreDNS has it in a cluster. There is nothing behind it: other
//! names do not exist.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use parking_lot::RwLock;

use crate::netns::{Network, enter};

/// Seconds for which answers may be kept; few, as Services come and go while one plays.
const TTL: u32 = 5;

/// Names in lower case without the last dot, and their addresses.
pub type Table = BTreeMap<String, Vec<IpAddr>>;

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct NameServer {
    table: Arc<RwLock<Table>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts on port 53 of the network's address for it.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn start(network: &Network) -> Result<NameServer> {
        let address = SocketAddr::from((network.dns_address(), 53));
        let socket = enter::bind_udp(&network.root().path(), address)?;
        NameServer::serve(socket)
    }

    fn serve(socket: UdpSocket) -> Result<NameServer> {
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let (table, stop) = (Arc::new(RwLock::new(Table::new())), Arc::new(AtomicBool::new(false)));
        let (names, ending) = (Arc::clone(&table), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            let mut buffer = [0; 1500];
            while !ending.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let query = buffer.get(..length).unwrap_or_default();
                if let Some(reply) = answer(query, &names.read()) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        })?;
        Ok(NameServer {
            table,
            stop,
            thread: Some(thread),
        })
    }

    /// Replaces all names.
    pub fn publish(&self, table: Table) {
        *self.table.write() = table;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(query: &[u8], table: &Table) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.metadata.authoritative = true;
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let question = query.queries.first()?.clone();
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    match table.get(&name) {
        None => reply.metadata.response_code = ResponseCode::NXDomain,
        // A name without what was asked for, such as addresses of the other family, exists nevertheless.
        Some(addresses) => {
            let data = addresses.iter().filter_map(|ip| match (question.query_type(), ip) {
                (RecordType::A, IpAddr::V4(v4)) => Some(RData::A(A(*v4))),
                (RecordType::AAAA, IpAddr::V6(v6)) => Some(RData::AAAA(AAAA(*v6))),
                _ => None,
            });
            for data in data {
                reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
            }
        }
    }
    reply.add_query(question);
    reply.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    use super::*;

    fn ask(name: &str, kind: RecordType) -> Message {
        let table = Table::from([(
            "web.shop.svc.cluster.local".to_owned(),
            vec!["10.96.1.2", "fd10:96:1::2", "fd10:96:1::3"]
                .into_iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
        )]);
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        let reply = answer(&query.to_vec().expect("bytes"), &table).expect("an answer");
        let reply = Message::from_vec(&reply).expect("a message");
        assert_eq!(reply.metadata.id, query.metadata.id);
        reply
    }

    #[test]
    fn known_names_have_addresses_and_others_do_not_exist() {
        let found = ask("Web.shop.svc.cluster.local.", RecordType::A);
        assert_eq!(found.metadata.response_code, ResponseCode::NoError);
        assert_eq!(found.answers.len(), 1);
        let v6 = ask("web.shop.svc.cluster.local.", RecordType::AAAA);
        assert_eq!(
            (v6.metadata.response_code, v6.answers.len()),
            (ResponseCode::NoError, 2)
        );
        let text = ask("web.shop.svc.cluster.local.", RecordType::TXT);
        assert_eq!(
            (text.metadata.response_code, text.answers.len()),
            (ResponseCode::NoError, 0)
        );
        let unknown = ask("example.com.", RecordType::A);
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn nonsense_gets_no_answer() {
        assert!(answer(b"\x00\x01", &Table::new()).is_none());
    }
}
