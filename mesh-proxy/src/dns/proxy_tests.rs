use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::super::names::table;
use super::*;

const LOOPBACK: &str = "127.0.0.1:0";
const WAIT: Duration = Duration::from_secs(20);

/// A nameserver that knows `example.org` and leaves the first `ignored` queries unanswered.
async fn nameserver(ignored: usize) -> SocketAddr {
    let (udp, tcp) = bind(LOOPBACK.parse().expect("an address")).await.expect("loopback");
    let address = udp.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        let mut seen = 0;
        loop {
            let (n, client) = udp.recv_from(&mut buffer).await.expect("receive");
            seen += 1;
            if seen > ignored {
                udp.send_to(&known(&buffer[..n], 1), client).await.expect("send");
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = tcp.accept().await.expect("accept");
            let query = read_message(&mut socket).await.expect("read").expect("a query");
            write_message(&mut socket, &known(&query, 2)).await.expect("write");
        }
    });
    address
}

/// `example.org` has the address 192.0.2.`last`; everything else does not exist.
fn known(query: &[u8], last: u8) -> Vec<u8> {
    let query = Message::from_vec(query).expect("a query");
    let question = query.queries[0].clone();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    if question.name().to_ascii() == "example.org." {
        let data = RData::A(A([192, 0, 2, last].into()));
        answer.add_answer(Record::from_rdata(question.name().clone(), 60, data));
    } else {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer.add_query(question);
    answer.to_vec().expect("it encodes")
}

struct Running {
    address: SocketAddr,
    table: watch::Sender<Arc<NameTable>>,
    _files: tempfile::TempDir,
}

async fn running(upstreams: Vec<SocketAddr>) -> Running {
    let files = tempfile::tempdir().expect("a folder");
    let resolv_conf = files.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "search shop.svc.cluster.local\n").expect("write");
    let (table, receiver) = watch::channel(Arc::new(table(&[(
        "catalog.shop.svc.cluster.local",
        "10.0.0.1",
        "catalog",
        "shop",
    )])));
    let options = ProxyOptions {
        listen: vec![LOOPBACK.parse().expect("an address")],
        resolv_conf,
        upstreams,
    };
    let addresses = start(options, receiver).await.expect("loopback ports");
    Running {
        address: addresses[0],
        table,
        _files: files,
    }
}

fn query(name: &str) -> Vec<u8> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    query.to_vec().expect("it encodes")
}

fn read(bytes: &[u8], query: &[u8]) -> (ResponseCode, Vec<String>) {
    let answer = Message::from_vec(bytes).expect("an answer");
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(bytes[..2], query[..2], "the client's id");
    let data = answer.answers.iter().map(|r| r.data.to_string()).collect();
    (answer.metadata.response_code, data)
}

async fn by_udp(proxy: SocketAddr, name: &str) -> (ResponseCode, Vec<String>) {
    let socket = UdpSocket::bind(LOOPBACK).await.expect("loopback");
    let query = query(name);
    socket.send_to(&query, proxy).await.expect("send");
    let mut buffer = [0; 2048];
    let received = tokio::time::timeout(WAIT, socket.recv(&mut buffer)).await;
    let n = received.expect("an answer in time").expect("receive");
    read(&buffer[..n], &query)
}

async fn by_tcp(proxy: SocketAddr, name: &str) -> (ResponseCode, Vec<String>) {
    let mut socket = TcpStream::connect(proxy).await.expect("connect");
    let query = query(name);
    write_message(&mut socket, &query).await.expect("write");
    let bytes = read_message(&mut socket).await.expect("read").expect("an answer");
    read(&bytes, &query)
}

fn found(data: &str) -> (ResponseCode, Vec<String>) {
    (ResponseCode::NoError, vec![data.to_owned()])
}

#[tokio::test]
async fn mesh_names_here_and_the_rest_from_the_nameserver() {
    let r = running(vec![nameserver(0).await]).await;
    assert_eq!(by_udp(r.address, "catalog.").await, found("10.0.0.1"));
    assert_eq!(
        by_tcp(r.address, "catalog.shop.svc.cluster.local.").await,
        found("10.0.0.1")
    );
    assert_eq!(by_udp(r.address, "example.org.").await, found("192.0.2.1"));
    assert_eq!(by_tcp(r.address, "example.org.").await, found("192.0.2.2"));
    assert_eq!(by_udp(r.address, "nowhere.").await.0, ResponseCode::NXDomain);
    // Nonsense gets no answer and does no harm.
    let socket = UdpSocket::bind(LOOPBACK).await.expect("loopback");
    socket.send_to(&[1, 2, 3], r.address).await.expect("send");
    assert_eq!(by_udp(r.address, "catalog.").await, found("10.0.0.1"));
}

#[tokio::test]
async fn a_new_table_is_in_force_at_once() {
    let r = running(vec![nameserver(0).await]).await;
    assert_eq!(by_udp(r.address, "new.example.com.").await.0, ResponseCode::NXDomain);
    r.table
        .send_replace(Arc::new(table(&[("new.example.com", "240.240.0.9", "", "")])));
    let appears = async {
        while by_udp(r.address, "new.example.com.").await != found("240.240.0.9") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, appears).await.expect("it appears");
}

#[tokio::test]
async fn a_silent_nameserver_is_asked_again_and_then_the_next() {
    let deaf = UdpSocket::bind(LOOPBACK).await.expect("loopback");
    let r = running(vec![deaf.local_addr().expect("bound"), nameserver(0).await]).await;
    assert_eq!(by_udp(r.address, "example.org.").await, found("192.0.2.1"));
}

#[tokio::test]
async fn without_a_nameserver_the_client_is_told() {
    let r = running(Vec::new()).await;
    assert_eq!(by_udp(r.address, "example.org.").await.0, ResponseCode::ServFail);
}
