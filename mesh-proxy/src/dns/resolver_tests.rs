use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_resolver::config::NameServerConfig;
use tokio::net::UdpSocket;

use super::*;

/// Knows `both.shop.svc.cluster.local` (two families) and `four.example.com`, with a TTL of 77 s.
async fn nameserver() -> NameServerConfig {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (n, client) = socket.recv_from(&mut buffer).await.expect("receive");
            let query = Message::from_vec(&buffer[..n]).expect("a query");
            let question = query.queries[0].clone();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            let name = question.name().to_lowercase().to_ascii();
            let known = ["both.shop.svc.cluster.local.", "four.example.com."].contains(&name.as_str());
            let data = match question.query_type() {
                RecordType::A if known => Some(RData::A(A([192, 0, 2, 1].into()))),
                RecordType::AAAA if name.starts_with("both") && known => {
                    Some(RData::AAAA(AAAA("2001:db8::1".parse().expect("an address"))))
                }
                _ => None,
            };
            if !known {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            if let Some(data) = data {
                answer.add_answer(Record::from_rdata(question.name().clone(), 77, data));
            }
            answer.add_query(question);
            socket
                .send_to(&answer.to_vec().expect("it encodes"), client)
                .await
                .expect("send");
        }
    });
    let mut server = NameServerConfig::udp(address.ip());
    server.connections.iter_mut().for_each(|c| c.port = address.port());
    server
}

async fn resolver() -> Resolver {
    let search = vec![Name::from_ascii("shop.svc.cluster.local.").expect("a name")];
    let config = ResolverConfig::from_parts(None, search, vec![nameserver().await]);
    let mut hosts = Hosts::default();
    hosts
        .read_hosts_conf(&b"127.0.0.9 simple-service\n"[..])
        .expect("a hosts file");
    Resolver::with(config, ResolverOpts::default(), hosts).expect("settings")
}

async fn look(resolver: &Resolver, host: &str, family: DnsFamily) -> Result<String, String> {
    let (addresses, ttl) = resolver.lookup(host, family).await.map_err(|e| e.to_string())?;
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    assert!(ttl <= Duration::from_secs(77), "{ttl:?}");
    Ok(texts.join(" "))
}

#[tokio::test]
async fn families_are_chosen_as_envoy_does() {
    let resolver = resolver().await;
    for (host, family, expected) in [
        ("both.shop.svc.cluster.local", DnsFamily::All, "192.0.2.1 2001:db8::1"),
        ("both.shop.svc.cluster.local", DnsFamily::Auto, "2001:db8::1"),
        ("both.shop.svc.cluster.local", DnsFamily::V4Preferred, "192.0.2.1"),
        ("both.shop.svc.cluster.local", DnsFamily::V6Only, "2001:db8::1"),
        ("four.example.com", DnsFamily::Auto, "192.0.2.1"),
        ("both", DnsFamily::V4Only, "192.0.2.1"),
        ("simple-service", DnsFamily::Auto, "127.0.0.9"),
        ("10.1.2.3", DnsFamily::V4Only, "10.1.2.3"),
        ("[::1]", DnsFamily::Auto, "::1"),
    ] {
        assert_eq!(
            look(&resolver, host, family).await.as_deref(),
            Ok(expected),
            "{host} {family:?}"
        );
    }
}

#[tokio::test]
async fn failures_say_which() {
    let resolver = resolver().await;
    let missing = look(&resolver, "nowhere.example.com.", DnsFamily::All).await;
    let missing = missing.expect_err("no such name");
    assert!(
        missing.contains("nowhere.example.com") && missing.contains("no such host"),
        "{missing}"
    );
    let only_four = look(&resolver, "four.example.com.", DnsFamily::V6Only).await;
    assert!(only_four.is_err());
    assert!(look(&resolver, "not a name", DnsFamily::All).await.is_err());
}
