//! Hash policies: which endpoint a request sticks to, for clusters with consistent hashing.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use twox_hash::XxHash64;

use crate::snapshot::{HashBy, HashPolicy};

/// What a request is hashed by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashable<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) query: Option<&'a str>,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
}

/// The hash, if any policy gives one, and cookies to be set on the response.
pub(super) fn evaluate(policies: &[HashPolicy], request: Hashable<'_>) -> (Option<u64>, Vec<HeaderValue>) {
    let mut hash: Option<u64> = None;
    let mut cookies = Vec::new();
    for policy in policies {
        let one = match &policy.by {
            HashBy::Header(name) => of_header(request.headers, name),
            HashBy::Cookie {
                name,
                ttl,
                path,
                attributes,
            } => match (cookie(request.headers, name), ttl) {
                (Some(value), _) => Some(xxhash(value.as_bytes())),
                (None, Some(ttl)) => {
                    // The same for all requests of a connection, so that those at once get the same one.
                    let value = format!(
                        "{:x}",
                        xxhash(format!("{}{}", request.remote, request.local).as_bytes())
                    );
                    cookies.extend(set_cookie(name, &value, *ttl, path, attributes));
                    Some(xxhash(value.as_bytes()))
                }
                (None, None) => None,
            },
            HashBy::SourceIp => Some(hash_of_address(request.remote)),
            HashBy::Query(name) => {
                let pairs = request.query.unwrap_or_default().split('&');
                let mut pairs = pairs.map(|p| p.split_once('=').unwrap_or((p, "")));
                pairs.find(|(n, _)| n == name).map(|(_, v)| xxhash(v.as_bytes()))
            }
        };
        if let Some(one) = one {
            // Rotated, so that two equal rules do not cancel each other out.
            hash = Some(hash.map_or(0, |h| h.rotate_left(1)) ^ one);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    (hash, cookies)
}

/// The hash of a caller's address, without its port.
pub(crate) fn hash_of_address(remote: SocketAddr) -> u64 {
    xxhash(remote.ip().to_string().as_bytes())
}

fn xxhash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

fn of_header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if values.is_empty() {
        return None;
    }
    values.sort_unstable();
    Some(xxhash(&values.concat()))
}

/// The value of a cookie, without quotation marks; `None` also when it is empty.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|v| v.split(';')).filter_map(|p| p.trim().split_once('='));
    let (_, value) = pairs.find(|(n, _)| *n == name)?;
    let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    Some(bare.unwrap_or(value)).filter(|v| !v.is_empty())
}

fn set_cookie(
    name: &str,
    value: &str,
    ttl: Duration,
    path: &str,
    attributes: &[(String, String)],
) -> Option<HeaderValue> {
    let mut text = format!("{name}=\"{value}\"");
    if ttl.as_secs() > 0 {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !path.is_empty() {
        text.push_str(&format!("; Path={path}"));
    }
    for (name, value) in attributes {
        text.push_str(&if value.is_empty() {
            format!("; {name}")
        } else {
            format!("; {name}={value}")
        });
    }
    text.push_str("; HttpOnly");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Hashable<'a> {
        Hashable {
            headers,
            query,
            remote: SocketAddr::from(([10, 0, 0, 1], 1234)),
            local: SocketAddr::from(([10, 0, 0, 2], 80)),
        }
    }

    fn by(by: HashBy) -> HashPolicy {
        HashPolicy { by, terminal: false }
    }

    fn cookie_policy(ttl: Option<Duration>) -> HashPolicy {
        by(HashBy::Cookie {
            name: "user".to_owned(),
            ttl,
            path: "/shop".to_owned(),
            attributes: vec![("SameSite".to_owned(), "Lax".to_owned())],
        })
    }

    #[test]
    fn each_kind_hashes_its_own_part() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("ada"));
        headers.insert("cookie", HeaderValue::from_static("a=1; user=\"ada\""));
        let ada = Some(xxhash(b"ada"));
        for policy in [
            by(HashBy::Header(HeaderName::from_static("x-user"))),
            cookie_policy(None),
            by(HashBy::Query("user".to_owned())),
        ] {
            let (hash, cookies) = evaluate(&[policy], request(&headers, Some("x=y&user=ada")));
            assert_eq!((hash, cookies.len()), (ada, 0));
        }
        let (hash, _) = evaluate(&[by(HashBy::SourceIp)], request(&headers, None));
        assert_eq!(hash, Some(xxhash(b"10.0.0.1")));
        let absent = by(HashBy::Header(HeaderName::from_static("x-absent")));
        assert_eq!(evaluate(&[absent], request(&headers, None)).0, None);
    }

    #[test]
    fn a_cookie_is_made_once_and_comes_back() {
        let headers = HeaderMap::new();
        let policies = [cookie_policy(Some(Duration::from_secs(60)))];
        let (hash, cookies) = evaluate(&policies, request(&headers, None));
        let set = cookies[0].to_str().expect("text").to_owned();
        assert!(
            set.ends_with("; Max-Age=60; Path=/shop; SameSite=Lax; HttpOnly"),
            "{set}"
        );
        let mut headers = HeaderMap::new();
        let pair = set.split(';').next().expect("a pair").to_owned();
        headers.insert("cookie", pair.parse().expect("a value"));
        assert_eq!(evaluate(&policies, request(&headers, None)), (hash, Vec::new()));
        // Without a lifetime none is made.
        assert_eq!(
            evaluate(&[cookie_policy(None)], request(&HeaderMap::new(), None)).0,
            None
        );
    }

    #[test]
    fn policies_add_up_until_a_terminal_one() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("ada"));
        let header = |terminal| HashPolicy {
            by: HashBy::Header(HeaderName::from_static("x-user")),
            terminal,
        };
        let one = xxhash(b"ada");
        let both = evaluate(&[header(false), header(false)], request(&headers, None)).0;
        assert_eq!(both, Some(one.rotate_left(1) ^ one));
        let first = evaluate(&[header(true), header(false)], request(&headers, None)).0;
        assert_eq!(first, Some(one));
    }
}
