//! What is to know of gRPC without knowing its messages.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// How long a caller waits.
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The status of a call that took too long.
pub(super) const DEADLINE_EXCEEDED: u16 = 4;

/// Whether a message is gRPC by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let Some(rest) = value.as_bytes().strip_prefix(b"application/grpc") else {
        return false;
    };
    // `application/grpc-web` is another protocol.
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// The gRPC status that stands for an HTTP status made by a proxy.
pub(crate) fn status_of(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// `grpc-timeout`: digits and a unit.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// `grpc-timeout` of so many milliseconds, in the smallest unit that its eight digits hold.
pub(super) fn timeout_value(millis: u64) -> HeaderValue {
    const MOST: u64 = 99_999_999;
    let units = [(millis, 'm'), (millis / 1000, 'S'), (millis / 60_000, 'M')];
    let fitting = units.into_iter().find(|(n, _)| *n <= MOST);
    let (n, unit) = fitting.unwrap_or(((millis / 3_600_000).min(MOST), 'H'));
    // Digits and a letter are always a header value.
    HeaderValue::try_from(format!("{n}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("0m"))
}

/// Counts messages in a stream of data: each has a header of five bytes, a flag and its length.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MessageCounter {
    header: [u8; 4],
    /// Bytes of the present header that are there, 0 to 4; the fifth completes it.
    have: u8,
    /// Bytes that are left of the present message.
    left: u32,
}

impl MessageCounter {
    /// Takes a piece of the stream; returns how many messages have begun in it.
    pub(crate) fn feed(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let skip = data.len().min(self.left as usize);
                // Not more than `left`, so it fits.
                self.left -= u32::try_from(skip).unwrap_or(self.left);
                data = &data[skip..];
                continue;
            }
            if self.have > 0 {
                self.header[usize::from(self.have) - 1] = data[0];
            }
            data = &data[1..];
            if self.have == 4 {
                self.have = 0;
                self.left = u32::from_be_bytes(self.header);
                begun += 1;
            } else {
                self.have += 1;
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for len in [0_usize, 3, 300] {
            stream.push(0);
            stream.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
            stream.resize(stream.len() + len, 7);
        }
        for cut in 1..stream.len() {
            let mut counter = MessageCounter::default();
            let total: u64 = stream.chunks(cut).map(|piece| counter.feed(piece)).sum();
            assert_eq!(total, 3, "cut every {cut} bytes");
        }
    }

    #[test]
    fn timeouts() {
        let parse = |v: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", v.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("S"), None);
        assert_eq!(parse("123456789S"), None);
        assert_eq!(parse("-1S"), None);
        assert_eq!(parse("1ü"), None);
    }

    #[test]
    fn content_types() {
        let grpc = |v: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(v));
            is_grpc(&headers)
        };
        assert!(grpc("application/grpc"));
        assert!(grpc("application/grpc+proto"));
        assert!(!grpc("application/grpc-web"));
        assert!(!grpc("application/json"));
    }
}
