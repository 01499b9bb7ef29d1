//! What the tests of the whole control plane share.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mesh_control::serve::webhook::NativeSidecars;
use mesh_control::serve::{Options, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// A control plane on free loopback ports, with its folders below `dir`.
pub(crate) fn options(dir: &Path) -> Options {
    let source = dir.join("mesh");
    std::fs::create_dir_all(&source).expect("folder");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Options {
        source: Source::Directory(source),
        mesh_config: None,
        grpc: any,
        secure_grpc: any,
        monitoring: any,
        webhook: any,
        ca_dir: dir.join("ca"),
        trust_domain: None,
        exclude_unsafe_503: false,
        native_sidecars: NativeSidecars::Auto,
        names: Vec::new(),
    }
}

/// A page with its head.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    get_with(address, path, "").await
}

/// As [`get`], with more lines in the head of the request, each with its end.
pub(crate) async fn get_with(address: SocketAddr, path: &str, lines: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{lines}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Asks until the page says what is expected.
pub(crate) async fn until(address: SocketAddr, path: &str, expected: impl Fn(&str) -> bool) -> String {
    let end = tokio::time::Instant::now() + WAIT;
    loop {
        let page = get(address, path).await;
        if expected(&page) {
            return page;
        }
        assert!(tokio::time::Instant::now() < end, "{path}: {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
