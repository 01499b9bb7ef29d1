//! Envoy's dynamic forward proxy: clusters whose hosts are those that requests name.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::support::{Ask, LIMIT, Proxy, Seen, Setup, compare, get, serve, table, wait_for};

pub(crate) const BEHAVIOURS: usize = 16;

const ENVOY: &str = "type.googleapis.com/envoy.extensions";

/// Names below `good.test` are this machine, those that begin with `fail` fail, and there are no others.
fn nameserver() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = socket.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..length]), client);
        }
    });
    port
}

fn answer(query: &[u8]) -> Vec<u8> {
    let mut end = 12;
    let mut labels = Vec::new();
    while query[end] != 0 {
        let length = usize::from(query[end]);
        labels.push(String::from_utf8_lossy(&query[end + 1..=end + length]).to_lowercase());
        end += length + 1;
    }
    let name = labels.join(".");
    let asks_v4 = query[end + 1..end + 3] == [0, 1];
    let (code, found) = match name.as_str() {
        n if n.starts_with("fail") => (2, false),
        n if n.ends_with("good.test") => (0, asks_v4),
        _ => (3, false),
    };
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    out.extend(&query[12..end + 5]);
    if found {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    out
}

fn cache(name: &str, nameserver: u16, more: &str) -> String {
    format!(
        "dns_cache_config: {{name: {name}, dns_lookup_family: V4_ONLY, typed_dns_resolver_config: {{name: \
         envoy.network.dns_resolver.cares, typed_config: {{\"@type\": {ENVOY}.network.dns_resolver.cares.v3.CaresDnsResolverConfig, \
         resolvers: [{{socket_address: {{address: 127.0.0.1, port_value: {nameserver}}}}}], dns_resolver_options: \
         {{no_default_search_domain: true}}}}}}{more}}}"
    )
}

fn filter(cache: &str) -> String {
    format!(
        "- {{name: envoy.filters.http.dynamic_forward_proxy, typed_config: {{\"@type\": \
         {ENVOY}.filters.http.dynamic_forward_proxy.v3.FilterConfig, {cache}}}}}\n"
    )
}

fn cluster(name: &str, cache: &str, more: &str) -> String {
    format!(
        "- {{name: {name}, connect_timeout: 10s, lb_policy: CLUSTER_PROVIDED, cluster_type: {{name: \
         envoy.clusters.dynamic_forward_proxy, typed_config: {{\"@type\": \
         {ENVOY}.clusters.dynamic_forward_proxy.v3.ClusterConfig, {cache}}}}}{more}}}\n"
    )
}

fn statistics(proxy: &Proxy, cache: &str) -> Vec<String> {
    proxy.stats(&format!("dns_cache.{cache}"), &["dns_query_", "host_", "num_hosts"])
}

#[test]
fn hosts_of_requests() {
    let there = serve("there");
    let secure = secure("known.good.test");
    let setup = || {
        let nameserver = nameserver();
        let all = cache("all", nameserver, ", max_hosts: 6");
        let log = "access_log:\n- name: text\n  typed_config:\n    \"@type\": \
                   type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    path: LOG_FILE\n    \
                   log_format: {text_format_source: {inline_string: \"%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% \
                   %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER%\\n\"}}\n";
        let routes = "\
            - {match: {prefix: /secure}, route: {cluster: secure}}\n\
            - {match: {prefix: /rewritten}, route: {cluster: all, host_rewrite_literal: nobody.good.test}}\n\
            - {match: {prefix: /}, route: {cluster: all}}\n";
        let sni = format!(
            "- name: sni\n  address: {{socket_address: {{address: 127.0.0.1, port_value: TCP_PORT_0}}}}\n  listener_filters: \
             [{{name: envoy.filters.listener.tls_inspector, typed_config: {{\"@type\": \
             {ENVOY}.filters.listener.tls_inspector.v3.TlsInspector}}}}]\n  filter_chains: [{{filters: [{{name: \
             envoy.filters.network.sni_dynamic_forward_proxy, typed_config: {{\"@type\": \
             {ENVOY}.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig, port_value: {}, {}}}}}, {{name: \
             envoy.filters.network.tcp_proxy, typed_config: {{\"@type\": {ENVOY}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: \
             sni, cluster: sni}}}}]}}]\n",
            secure.to.port(),
            cache("sni", nameserver, "")
        );
        let transport = format!(
            ", transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {{\"@type\": \
             {ENVOY}.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {{validation_context: {{trusted_ca: \
             {{inline_string: {:?}}}}}}}}}}}",
            secure.roots
        );
        Setup {
            manager: log.to_owned(),
            filters: filter(&all),
            table: table(
                "response_headers_to_add: [{header: {key: x-of-route, value: always}}]\n",
                routes,
            ),
            listeners: sni,
            clusters: vec![
                cluster("all", &all, ""),
                cluster("secure", &all, &transport),
                cluster("sni", &cache("sni", nameserver, ""), ""),
            ],
        }
    };
    compare("dynamic DNS", BEHAVIOURS, setup, |proxy, seen| {
        let at = |name: &str| format!("{name}.good.test:{}", there.port());
        seen.ask(proxy, "found", 200, &get("/").host(&at("a")));
        seen.ask(proxy, "found before", 200, &get("/").host(&at("a")));
        seen.ask(proxy, "an address", 200, &get("/").host(&there.to_string()));
        let failing = [
            ("no such name", get("/").host("a.bad.test")),
            ("no such name again", get("/").host("a.bad.test")),
            ("a server that fails", get("/").host("fail.good.test")),
            ("a host that the route gives", get("/rewritten").host(&at("a"))),
        ];
        for (name, ask) in &failing {
            seen.ask(proxy, name, 503, ask);
        }
        seen.add("statistics", {
            let mut lines = statistics(proxy, "all");
            lines.extend(proxy.stats("cluster.all", &["none_healthy", "upstream_rq_5xx", "upstream_rq_total"]));
            lines
        });
        tls(proxy, seen, &secure);
        let overflow = get("/").host(&at("b"));
        seen.ask(proxy, "too many hosts", 503, &overflow);
        seen.add("too many hosts, counted", statistics(proxy, "all"));
        logged(proxy, seen, &failing[..3], &overflow);
    });
}

/// TLS that the proxy begins, and TLS that it passes on.
fn tls(proxy: &Proxy, seen: &mut Seen, secure: &Secure) {
    let at = |name: &str| format!("{name}.good.test:{}", secure.to.port());
    let answer = proxy.ask(&get("/secure").host(&at("known")));
    seen.add(
        "a certificate of the name",
        vec![answer.status.to_string(), answer.body],
    );
    let answer = proxy.ask(&get("/secure").host(&at("other")));
    seen.add("a certificate of another name", vec![answer.status.to_string()]);

    for (name, of) in [
        ("a server name", "known.good.test"),
        ("no such server name", "known.bad.test"),
    ] {
        seen.add(name, vec![passed_on(proxy.tcp[0], of, secure)]);
    }
    let mut lines = statistics(proxy, "sni");
    lines.extend(proxy.stats("cluster.sni", &["none_healthy", "upstream_cx_total"]));
    seen.add("server names, counted", lines);
}

fn logged(proxy: &Proxy, seen: &mut Seen, failing: &[(&str, Ask)], overflow: &Ask) {
    let read = || std::fs::read_to_string(&proxy.log).unwrap_or_default();
    let of = |ask: &Ask| {
        let start = format!("{} ", ask.number());
        read().lines().find_map(|l| l.strip_prefix(&start).map(str::to_owned))
    };
    wait_for(
        || of(overflow).is_some(),
        || format!("{}: the lines never come: {}", proxy.name, read()),
    );
    let lines = failing.iter().map(|(_, ask)| ask).chain([overflow]).filter_map(of);
    seen.add("logged", lines.collect());
}

/// A server of TLS that answers with the name that it was asked for.
struct Secure {
    to: SocketAddr,
    /// PEM.
    roots: String,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn secure(name: &str) -> Secure {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").expect("a port"), Arc::new(config));
    let to = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || greet(stream, config));
        }
    });
    Secure {
        to,
        roots: made.cert.pem(),
    }
}

fn greet(stream: TcpStream, config: Arc<ServerConfig>) {
    let _ = stream.set_read_timeout(Some(LIMIT));
    let Ok(conn) = ServerConnection::new(config) else {
        return;
    };
    let mut stream = StreamOwned::new(conn, stream);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let name = stream.conn.server_name().unwrap_or("nobody").to_owned();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{name}",
        name.len()
    );
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

/// Asks over TLS of the test's own; what comes back, or that nothing does.
fn passed_on(to: SocketAddr, name: &str, secure: &Secure) -> String {
    let mut roots = RootCertStore::empty();
    let pem = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
        secure.roots.as_bytes(),
    );
    roots.add(pem.expect("PEM")).expect("a root");
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let conn = ClientConnection::new(Arc::new(config), name).expect("a client");
    let socket = TcpStream::connect(to).expect("a connection");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut stream = StreamOwned::new(conn, socket);
    let mut text = String::new();
    let asked = stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut text));
    match asked {
        Ok(_) => text,
        Err(_) => "hung up".to_owned(),
    }
}
