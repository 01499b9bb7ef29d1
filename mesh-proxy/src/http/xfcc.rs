//! `x-forwarded-client-cert`.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Downstream;
use crate::listener::TlsInfo;
use crate::snapshot::ForwardClientCert;

static XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// This hop's element, in Envoy's order; `None` without mutual TLS.
pub(super) fn element(tls: &TlsInfo) -> Option<HeaderValue> {
    if !tls.mutual {
        return None;
    }
    let mut text = String::new();
    // Writing to a String does not fail.
    if let Some(uri) = &tls.local_uri {
        let _ = write!(text, "By={uri};");
    }
    if let Some(hash) = &tls.peer_hash {
        let _ = write!(text, "Hash={hash};");
    }
    let subject = tls.peer_subject.as_deref().unwrap_or_default();
    let _ = write!(
        text,
        "Subject=\"{}\"",
        subject.replace('\\', "\\\\").replace('"', "\\\"")
    );
    let _ = write!(text, ";URI={}", tls.peer_uri.as_deref().unwrap_or_default());
    for name in &tls.peer_dns {
        let _ = write!(text, ";DNS={name}");
    }
    HeaderValue::from_str(&text).ok()
}

/// Applies `forward_client_cert_details` to a request.
pub(super) fn apply(mode: ForwardClientCert, conn: &Downstream, headers: &mut HeaderMap) {
    let own = match mode {
        ForwardClientCert::AlwaysForwardOnly => return,
        ForwardClientCert::Sanitize => None,
        ForwardClientCert::ForwardOnly | ForwardClientCert::AppendForward | ForwardClientCert::SanitizeSet => {
            conn.xfcc()
        }
    };
    let Some(own) = own else {
        headers.remove(&XFCC);
        return;
    };
    match mode {
        ForwardClientCert::ForwardOnly => {}
        ForwardClientCert::AppendForward => {
            // It may have come in several lines: none of the hops before is lost.
            let hops = headers.get_all(&XFCC).iter().chain([&own]);
            let hops: Vec<&[u8]> = hops.map(HeaderValue::as_bytes).collect();
            if let Ok(joined) = HeaderValue::from_bytes(&hops.join(&b","[..])) {
                headers.insert(XFCC.clone(), joined);
            }
        }
        _ => {
            headers.insert(XFCC.clone(), own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_in_envoys_order() {
        let tls = TlsInfo {
            mutual: true,
            peer_uri: Some("spiffe://td/ns/a/sa/b".into()),
            local_uri: Some("spiffe://td/ns/c/sa/d".into()),
            peer_subject: Some("O=\"x\"".into()),
            peer_dns: vec!["one".into(), "two".into()],
            peer_hash: Some("ab12".into()),
            ..TlsInfo::default()
        };
        assert_eq!(
            element(&tls).unwrap(),
            "By=spiffe://td/ns/c/sa/d;Hash=ab12;Subject=\"O=\\\"x\\\"\";URI=spiffe://td/ns/a/sa/b;DNS=one;DNS=two"
        );
        assert!(element(&TlsInfo::default()).is_none());
    }
}
