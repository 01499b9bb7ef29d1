//! Requests, and their answers as far as they can be compared.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::upstream::{attempts, is_given_up, release};
use super::{LIMIT, wait_for};

/// A request. Upstreams know it by a number that it carries.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
    pub(super) number: usize,
}

pub(crate) fn get(path: &str) -> Ask {
    method("GET", path)
}

pub(crate) fn post(path: &str, body: &str) -> Ask {
    Ask {
        body: Some(body.to_owned()),
        ..method("POST", path)
    }
}

pub(crate) fn method(method: &str, path: &str) -> Ask {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    Ask {
        method: method.to_owned(),
        path: path.to_owned(),
        host: "shop.test".to_owned(),
        headers: Vec::new(),
        body: None,
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
    }
}

impl Ask {
    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes it a gRPC call by its content type.
    pub(crate) fn grpc(self) -> Self {
        self.with("content-type", "application/grpc")
    }

    /// What the upstream does at each attempt, see [`super::upstream`].
    pub(crate) fn script(self, script: &str) -> Self {
        self.with("x-do", script)
    }

    /// The attempts that upstreams have seen of it, as lines.
    pub(crate) fn attempts(&self) -> Vec<String> {
        let all = attempts(self.number);
        let numbered = all.into_iter().enumerate();
        numbered
            .flat_map(|(i, attempt)| {
                let lines = attempt.lines.into_iter();
                lines.map(move |line| format!("attempt {}: {line}", i + 1))
            })
            .collect()
    }

    /// Those of one endpoint.
    pub(crate) fn attempts_at(&self, endpoint: &str) -> Vec<String> {
        let all = attempts(self.number).into_iter().filter(|a| a.endpoint == endpoint);
        let lines = all.flat_map(|attempt| attempt.lines);
        lines.map(|line| format!("at {endpoint}: {line}")).collect()
    }

    /// Waits for so many attempts.
    pub(crate) fn wait(&self, count: usize) {
        wait_for(
            || attempts(self.number).len() >= count,
            || format!("{count} attempts never come: {:?}", attempts(self.number)),
        );
    }

    /// Waits until the proxy has given it up, with an upstream that is `silent` or has to `stay`.
    pub(crate) fn wait_given_up(&self) {
        wait_for(
            || is_given_up(self.number),
            || format!("the proxy does not give up {self:?}"),
        );
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Names of the endpoints that have seen it.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        attempts(self.number).into_iter().map(|a| a.endpoint).collect()
    }

    /// As it is sent over a connection of its own.
    pub(crate) fn text(&self) -> String {
        let Ask {
            method,
            path,
            host,
            headers,
            body,
            number,
        } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nx-case: {number}\r\n");
        let chunked = headers.iter().any(|(n, _)| n == "transfer-encoding");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !headers.iter().any(|(n, _)| n == "connection") {
            text += "Connection: close\r\n";
        }
        match body {
            Some(body) if chunked => text + &format!("\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            Some(body) => text + &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
            None => text + "\r\n",
        }
    }

    pub(super) fn send(&self, to: SocketAddr) -> Answer {
        Answer::of(exchange(to, &self.text()))
    }
}

/// So many answers over one connection.
pub(super) fn often(path: &str, count: usize, to: SocketAddr) -> Vec<Answer> {
    let stream = connect(to);
    let mut reader = BufReader::new(&stream);
    let ask = get(path).with("connection", "keep-alive").text();
    let one = |_| {
        (&stream).write_all(ask.as_bytes()).expect("sent");
        Answer::of(read(&mut reader, &ask))
    };
    (0..count).map(one).collect()
}

/// A request that its upstream holds until it is wanted back.
#[derive(Debug)]
pub(crate) struct Held {
    number: usize,
    answer: JoinHandle<Answer>,
}

impl Held {
    pub(super) fn send(ask: Ask, to: SocketAddr) -> Self {
        Held {
            number: ask.number,
            answer: std::thread::spawn(move || ask.script("hold 200").send(to)),
        }
    }

    pub(crate) fn end(self) -> Answer {
        release(self.number);
        self.answer.join().expect("an answer")
    }
}

/// How a caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It closes its connection.
    Close,
    /// It resets its connection; by HTTP/2 the stream alone.
    Reset,
    /// It closes its side of the connection, and reads on.
    Half,
}

/// Sends a text over a connection of its own, and leaves when it is time. What is read after that comes back.
pub(crate) fn leave(to: SocketAddr, text: &str, how: Leave, time: impl FnOnce(&TcpStream)) -> String {
    let mut stream = connect(to);
    stream.write_all(text.as_bytes()).expect("sent");
    time(&stream);
    let mut rest = String::new();
    match how {
        Leave::Close => {}
        Leave::Reset => {
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).expect("a socket");
        }
        Leave::Half => {
            stream.shutdown(Shutdown::Write).expect("a connection");
            let _ = stream.read_to_string(&mut rest);
        }
    }
    rest
}

/// An answer. The reason is not looked at, as HTTP/1.1 leaves it open.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn of((head, body): (String, String)) -> Self {
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(':'));
        Answer {
            status: status.and_then(|s| s.parse().ok()).expect("a status"),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            body,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// Everything of it that does not change from time to time.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut headers: Vec<String> = Vec::new();
        for (name, value) in &self.headers {
            match name.as_str() {
                "date" | "x-endpoint" => {}
                "x-envoy-upstream-service-time" => headers.push(format!("{name}: ms")),
                _ => headers.push(format!("{name}: {value}")),
            }
        }
        headers.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
        let mut lines = vec![format!("status {}", self.status)];
        lines.append(&mut headers);
        lines.push(format!("body {:?}", self.body));
        lines
    }
}

/// Sends a request with these lines and reads the answer: its head and its body.
///
/// The body ends where its length or its last chunk says, as Envoy leaves connections open for a second after some answers.
pub(super) fn exchange(to: SocketAddr, request: &str) -> (String, String) {
    let mut stream = connect(to);
    stream.write_all(request.as_bytes()).expect("sent");
    read(&mut BufReader::new(stream), request)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream
}

fn read(reader: &mut impl BufRead, request: &str) -> (String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader
            .read_line(&mut head)
            .unwrap_or_else(|e| panic!("no answer: {e}: {request}"));
        assert_ne!(read, 0, "the answer ends in its head: {head:?}");
    }
    let lower = head.to_lowercase();
    let value = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let status = head.split(' ').nth(1).unwrap_or_default();
    let bodiless = request.starts_with("HEAD ") || ["101", "204", "304"].contains(&status);
    let mut body = Vec::new();
    if bodiless {
    } else if let Some(length) = value("content-length:") {
        body.resize(length.parse().expect("a length"), 0);
        reader.read_exact(&mut body).expect("a body");
    } else if value("transfer-encoding:").is_some() {
        while chunk(reader, &mut body).expect("a chunk") {}
    } else {
        reader.read_to_end(&mut body).expect("an answer that ends");
    }
    (
        head.trim_end().to_owned(),
        String::from_utf8(body).expect("a body of text"),
    )
}

/// Reads a chunk, and says whether another one comes.
pub(super) fn chunk(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk)?;
    body.extend_from_slice(&chunk[..size]);
    Ok(size > 0)
}
