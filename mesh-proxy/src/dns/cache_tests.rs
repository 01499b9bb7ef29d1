use std::sync::atomic::AtomicBool;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;

/// Answers `*.good.test` with an address that the test changes, and nothing else.
struct Nameserver {
    address: SocketAddr,
    last: Arc<AtomicU32>,
    broken: Arc<AtomicBool>,
}

impl Nameserver {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let server = Nameserver {
            address: socket.local_addr().expect("bound"),
            last: Arc::new(AtomicU32::new(1)),
            broken: Arc::default(),
        };
        let (last, broken) = (server.last.clone(), server.broken.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (n, client) = socket.recv_from(&mut buffer).await.expect("receive");
                let query = Message::from_vec(&buffer[..n]).expect("a query");
                let question = query.queries[0].clone();
                let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
                let good = question.name().to_lowercase().to_ascii().ends_with(".good.test.");
                if broken.load(Relaxed) {
                    answer.metadata.response_code = ResponseCode::ServFail;
                } else if !good {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                } else if question.query_type() == RecordType::A {
                    let data = RData::A(A([192, 0, 2, u8::try_from(last.load(Relaxed)).expect("small")].into()));
                    answer.add_answer(Record::from_rdata(question.name().clone(), 0, data));
                }
                answer.add_query(question);
                let bytes = answer.to_vec().expect("it encodes");
                socket.send_to(&bytes, client).await.expect("send");
            }
        });
        server
    }

    fn settings(&self) -> CacheSettings {
        let short = Duration::from_millis(20);
        CacheSettings {
            family: DnsFamily::V4Only,
            refresh: short,
            min_refresh: short,
            failure: Some((short, short)),
            host_ttl: Duration::from_secs(300),
            max_hosts: 3,
            query_timeout: Some(Duration::from_secs(10)),
            max_pending: 1024,
            servers: vec![self.address],
        }
    }
}

fn caches() -> Arc<Caches> {
    let caches = Arc::new(Caches::default());
    let running = caches.clone();
    tokio::spawn(async move { running.run(None).await });
    caches
}

async fn until(mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "it never comes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn address(last: u8, port: u16) -> Option<SocketAddr> {
    Some(([192, 0, 2, last], port).into())
}

#[tokio::test]
async fn hosts_are_looked_up_once_and_followed() {
    let server = Nameserver::start().await;
    let registry = Registry::default();
    let cache = caches().get("c", server.settings(), &registry);
    assert_eq!(cache.address("a.good.test", 80), None);
    assert_eq!(cache.load("a.good.test", 80).await, Ok(()));
    assert_eq!(cache.address("a.good.test", 80), address(1, 80));
    // One host, whatever its spelling.
    assert_eq!(cache.address("A.Good.TEST:80", 443), address(1, 80));
    assert_eq!(cache.address("a.good.test", 443), None);
    assert_eq!(cache.load("a.good.test:8080", 80).await, Ok(()));
    assert_eq!(cache.address("a.good.test:8080", 80), address(1, 8080));
    assert_eq!(cache.load("127.0.0.1:7", 80).await, Ok(()));
    assert_eq!(cache.address("127.0.0.1:7", 80), Some(([127, 0, 0, 1], 7).into()));
    assert_eq!(registry.gauge("dns_cache.c.num_hosts").get(), 3);

    server.last.store(2, Relaxed);
    until(|| cache.address("a.good.test", 80) == address(2, 80)).await;
    // What was found stays while look-ups fail.
    server.broken.store(true, Relaxed);
    let failed = registry.counter("dns_cache.c.dns_query_failure");
    until(|| failed.get() > 0).await;
    assert_eq!(cache.address("a.good.test", 80), address(2, 80));
}

#[tokio::test]
async fn names_that_are_not_found_are_told_from_servers_that_fail() {
    let server = Nameserver::start().await;
    let registry = Registry::default();
    let cache = caches().get("c", server.settings(), &registry);
    let Err(Unresolved::Failed(details)) = cache.load("a.bad.test", 80).await else {
        panic!("there is no such name");
    };
    assert_eq!(
        &*details,
        "dns_resolution_failure{cares_norecords:Domain_name_not_found}"
    );
    server.broken.store(true, Relaxed);
    let Err(Unresolved::Failed(details)) = cache.load("b.good.test", 80).await else {
        panic!("the server fails");
    };
    assert!(
        details.starts_with("dns_resolution_failure{cares_failure:"),
        "{details}"
    );
    // It is there after all.
    server.broken.store(false, Relaxed);
    until(|| cache.address("b.good.test", 80).is_some()).await;
}

#[tokio::test]
async fn there_are_so_many_hosts_and_no_more_until_some_are_idle() {
    let server = Nameserver::start().await;
    let registry = Registry::default();
    let caches = caches();
    let mut settings = server.settings();
    settings.max_hosts = 1;
    let cache = caches.get("c", settings.clone(), &registry);
    assert_eq!(cache.load("a.good.test", 80).await, Ok(()));
    assert_eq!(cache.load("b.good.test", 80).await, Err(Unresolved::HostOverflow));
    assert_eq!(registry.counter("dns_cache.c.host_overflow").get(), 1);
    // Settings that come later hold for the cache that is there.
    settings.host_ttl = Duration::from_millis(1);
    let same = caches.get("c", settings.clone(), &registry);
    assert_eq!(cache, same);
    until(|| registry.counter("dns_cache.c.host_removed").get() > 0).await;
    assert_eq!(cache.load("b.good.test", 80).await, Ok(()));
    settings.max_pending = 0;
    caches.get("c", settings, &registry);
    assert_eq!(cache.load("b.good.test", 80).await, Err(Unresolved::PendingOverflow));
}

#[test]
fn authorities_have_one_key() {
    for (authority, expected) in [
        ("Shop.test", "shop.test:80"),
        ("shop.test:8080", "shop.test:8080"),
        ("shop.test:", "shop.test:80"),
        ("[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
        ("[2001:db8::1]", "[2001:db8::1]:80"),
        ("shop.test:99999", "shop.test:80"),
    ] {
        assert_eq!(key(authority, 80), expected, "{authority}");
    }
}
