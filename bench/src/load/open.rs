//! HTTP/1.1 requests at a fixed rate, whatever the answers do (an open loop).
//!
//! Each request has a time at which it is due. If no connection is free then, it waits, and its latency counts from when it
//! was due: a proxy that stalls is charged for all requests of the stall, not only for those that were under way
//! (what is called coordinated omission otherwise).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, ppoll};

use super::{Latency, Outcome, Target};

/// After the last request was due, so long answers are awaited; what is open then counts as failed.
const GRACE: Duration = Duration::from_secs(2);

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// When the request under way was due.
    due: Option<Instant>,
}

/// Sends `rate` requests a second over so many connections.
pub(crate) fn run(target: &Target, connections: u32, rate: f64, body: u32) -> Result<Outcome> {
    // Else the kernel may wake us 50 µs late.
    let _ = nix::sys::prctl::set_timerslack(1);
    let request = format!("GET /b/{body} HTTP/1.1\r\nHost: {}\r\n\r\n", target.host);
    let mut all = (0..connections).map(|_| connect(target)).collect::<Result<Vec<_>>>()?;
    let mut free: VecDeque<usize> = (0..all.len()).collect();
    let total = (rate * target.time.as_secs_f64()).round() as u64;
    let start = Instant::now() + Duration::from_millis(5);
    let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
    let mut samples = Vec::with_capacity(usize::try_from(total)?);
    let (mut sent, mut errors, mut ready) = (0u64, 0u64, Vec::new());
    while sent < total || free.len() < all.len() {
        let now = Instant::now();
        while sent < total && due(sent) <= now {
            let Some(index) = free.pop_front() else { break };
            let one = &mut all[index];
            if one.stream.write(request.as_bytes()).ok() != Some(request.len()) {
                errors += 1;
                *one = connect(target)?;
                free.push_back(index);
            } else {
                one.due = Some(due(sent));
            }
            sent += 1;
        }
        let wait = if sent < total && !free.is_empty() {
            due(sent).saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(100)
        };
        wait_readable(&all, wait, &mut ready)?;
        for index in ready.drain(..) {
            match receive(&mut all[index]) {
                Ok(None) => {}
                Ok(Some(good)) => {
                    if let Some(due) = all[index].due.take() {
                        samples.push(u64::try_from(due.elapsed().as_nanos())?);
                        free.push_back(index);
                    }
                    errors += u64::from(!good);
                }
                Err(_) => {
                    errors += 1;
                    let under_way = all[index].due.is_some();
                    all[index] = connect(target)?;
                    if under_way {
                        free.push_back(index);
                    }
                }
            }
        }
        if Instant::now() > start + target.time + GRACE {
            errors += total - sent + (all.len() - free.len()) as u64;
            break;
        }
    }
    Ok(Outcome {
        operations: samples.len() as u64,
        errors,
        time: start.elapsed(),
        bytes: 0,
        latency: Latency::of(samples),
    })
}

fn connect(target: &Target) -> Result<Connection> {
    let stream = TcpStream::connect(target.address).with_context(|| target.address.to_string())?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Connection {
        stream,
        input: Vec::with_capacity(4096),
        due: None,
    })
}

fn wait_readable(all: &[Connection], wait: Duration, ready: &mut Vec<usize>) -> Result<()> {
    let mut watched: Vec<PollFd<'_>> = all
        .iter()
        .map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN))
        .collect();
    match ppoll(&mut watched, Some(wait.into()), None) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(()),
        Ok(_) => {}
        Err(error) => bail!("poll: {error}"),
    }
    ready.extend(
        watched
            .iter()
            .enumerate()
            .filter(|(_, fd)| fd.any().unwrap_or(false))
            .map(|(index, _)| index),
    );
    Ok(())
}

/// Reads what is there. `Some` says that an answer is complete, and whether its status was 2xx.
fn receive(one: &mut Connection) -> Result<Option<bool>> {
    let mut block = [0; 64 * 1024];
    loop {
        match one.stream.read(&mut block) {
            Ok(0) => bail!("closed"),
            Ok(n) => {
                one.input.extend_from_slice(&block[..n]);
                if n < block.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    let Some(length) = length(&one.input)? else {
        return Ok(None);
    };
    if one.input.len() < length {
        return Ok(None);
    }
    let good = one.input.get(9) == Some(&b'2');
    one.input.drain(..length);
    Ok(Some(good))
}

/// Length of the answer with its head; `None` while the head is not there. Answers say their length or are refused.
fn length(input: &[u8]) -> Result<Option<usize>> {
    let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&input[..end])?;
    let length = head
        .split("\r\n")
        .filter_map(|l| l.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without content-length")?;
    Ok(Some(end + 4 + length.1.trim().parse::<usize>()?))
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn the_length_of_an_answer_counts_its_head() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP";
        assert_eq!(length(text).ok().flatten(), Some(text.len() - 4));
        assert_eq!(length(&text[..20]).ok().flatten(), None);
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
