//! Endpoints that remember what they were asked and do as requests tell them.
//!
//! A request's header `x-do` has a step for each attempt, between `;`; the last one stands for all that follow. Words of a step:
//! a status, `name=value` for a header of the answer, `late:MS` to wait first, `close` to hang up without an answer, `silent`
//! to say nothing as long as the proxy waits, `hold` to wait for [`release`], `cut` to hang up in the middle of the body, `stay`
//! to stop there as long as the proxy waits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use super::client::chunk;
use super::wait_for;

/// What an endpoint saw of one attempt.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// Name of the endpoint.
    pub(super) endpoint: String,
    pub(super) lines: Vec<String>,
}

/// All attempts of this process, by the number of the request.
static ATTEMPTS: Mutex<BTreeMap<usize, Vec<Attempt>>> = Mutex::new(BTreeMap::new());

pub(super) fn attempts(number: usize) -> Vec<Attempt> {
    ATTEMPTS.lock().get(&number).cloned().unwrap_or_default()
}

/// Requests that the proxy gave up while they were not answered wholly, by their numbers.
static GIVEN_UP: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

pub(super) fn is_given_up(number: usize) -> bool {
    GIVEN_UP.lock().contains(&number)
}

/// Requests that need not be held any longer, by their numbers.
static RELEASED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Lets a request go that is held.
pub(super) fn release(number: usize) {
    RELEASED.lock().insert(number);
}

/// An endpoint that ends with the test's process.
pub(crate) fn serve(name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || while answer(&stream, &name).is_some() {});
        }
    });
    address
}

/// An address that refuses connections, and that nobody else gets as long as the test's process lives.
pub(crate) fn refusing() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a port");
    let address = socket
        .local_addr()
        .ok()
        .and_then(|a| a.as_socket())
        .expect("an address");
    std::mem::forget(socket);
    address
}

/// Reads a request and answers it; `None` at the end of the connection.
fn answer(stream: &TcpStream, endpoint: &str) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" if line.is_empty() => return None,
            "" => break,
            text => head.push(text.to_owned()),
        }
    }
    let header = |name: &str| {
        let pairs = head.iter().skip(1).filter_map(|l| l.split_once(':'));
        let mut found = pairs.filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let mut body = Vec::new();
    if let Some(length) = header("content-length").and_then(|l| l.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
    } else if header("transfer-encoding").is_some() {
        while chunk(&mut reader, &mut body).ok()? {}
    }
    let number = header("x-case").and_then(|n| n.parse().ok());
    let call = remember(number, endpoint, &head, &body);
    // An endpoint may be one that always answers alike.
    let always = endpoint.strip_prefix("always ").map(str::to_owned);
    let script = always.or_else(|| header("x-do")).unwrap_or_default();
    let mut steps: Vec<&str> = script.split(';').collect();
    let step = if call < steps.len() {
        steps.swap_remove(call)
    } else {
        steps.pop()?
    };
    if step.starts_with("hold") {
        let number = number.unwrap_or_default();
        wait_for(
            || RELEASED.lock().contains(&number),
            || "nobody releases a request".to_owned(),
        );
    }
    let bodiless = head.first()?.starts_with("HEAD ");
    let done = act(stream, endpoint, step.trim_start_matches("hold"), bodiless);
    if step.split_whitespace().any(|word| word == "silent" || word == "stay") {
        GIVEN_UP.lock().extend(number);
    }
    done
}

/// Does what a step says.
fn act(mut stream: &TcpStream, endpoint: &str, step: &str, bodiless: bool) -> Option<()> {
    if step.trim() == "101" {
        return echo(stream);
    }
    let (mut status, mut headers, mut cut, mut stay) = (200, String::new(), false, false);
    for word in step.split_whitespace() {
        if let Some((name, value)) = word.split_once('=') {
            headers += &format!("{name}: {value}\r\n");
        } else if let Some(ms) = word.strip_prefix("late:") {
            std::thread::sleep(Duration::from_millis(ms.parse().expect("milliseconds")));
        } else if word == "close" {
            return None;
        } else if word == "silent" {
            // Until the proxy hangs up.
            let _ = stream.read(&mut [0]);
            return None;
        } else if word == "cut" {
            cut = true;
        } else if word == "stay" {
            (cut, stay) = (true, true);
        } else {
            status = word.parse().expect("a status");
        }
    }
    let body = if status == 204 {
        String::new()
    } else {
        format!("said {status}")
    };
    let length = if cut { body.len() + 100 } else { body.len() };
    if status != 204 {
        headers += &format!("content-length: {length}\r\n");
    }
    let body = if bodiless { "" } else { &body };
    let text = format!("HTTP/1.1 {status} Said\r\nx-endpoint: {endpoint}\r\n{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).ok()?;
    if stay {
        let _ = stream.read(&mut [0]);
    }
    (!cut).then_some(())
}

/// Grants an upgrade and sends back what comes.
fn echo(mut stream: &TcpStream) -> Option<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    let _ = std::io::copy(&mut &*stream, &mut stream);
    None
}

/// Writes an attempt down, and tells how many came before it.
fn remember(number: Option<usize>, endpoint: &str, head: &[String], body: &[u8]) -> usize {
    let Some(number) = number else {
        return 0;
    };
    let mut lines = vec![head.first().cloned().unwrap_or_default()];
    let mut all = ATTEMPTS.lock();
    let of = all.entry(number).or_default();
    let later = of.iter().any(|attempt| attempt.endpoint == endpoint);
    let told = |line: &String| told(line, later);
    let mut headers: Vec<String> = head.iter().skip(1).filter_map(told).collect();
    headers.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
    lines.append(&mut headers);
    if body.len() > 200 {
        lines.push(format!("body of {} bytes, hash {:x}", body.len(), sum(body)));
    } else if !body.is_empty() {
        lines.push(format!("body {:?}", String::from_utf8_lossy(body)));
    }
    of.push(Attempt {
        endpoint: endpoint.to_owned(),
        lines,
    });
    of.len() - 1
}

fn sum(body: &[u8]) -> u64 {
    body.iter()
        .fold(7, |sum: u64, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)))
}

/// A header as it can be compared.
fn told(line: &str, later: bool) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.to_lowercase(), value.trim());
    match name.as_str() {
        "x-case" | "x-do" => None,
        "x-request-id" => Some(format!("{name}: an id")),
        // Of later attempts it is what is left.
        "x-envoy-expected-rq-timeout-ms" if later => Some(format!("{name}: left")),
        "x-envoy-expected-rq-timeout-ms" => {
            let ms: u64 = value.parse().ok()?;
            let unit = if ms > 5000 { 5000 } else { 1 };
            Some(format!("{name}: {}", ms.div_ceil(unit) * unit))
        }
        _ => Some(format!("{name}: {value}")),
    }
}
