//! What the bridge between two pods carries, and who is refused under STRICT.

use anyhow::Result;

use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

/// Rare enough to be found in a capture only if it was sent in the clear.
const WORD: &str = "canary-3f9c1e7ab2";

pub(super) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();

    let seen = stage.record(|s| {
        s.get(&format!("/api/catalog/items/1?word={WORD}"), &[("x-word", WORD)])
            .map(|_| ())
    })?;
    // The gateway's own side is plaintext HTTP from the host; what counts is traffic between pods.
    show::note(&format!(
        "PERMISSIVE, webapp → catalog: {} packets, {} bytes recorded",
        seen.packets, seen.bytes
    ));
    findings.check(seen.packets > 0, "the capture saw the traffic between the pods");
    findings.check(
        !seen.contains(WORD),
        "between two pods with sidecars the word is not readable (automatic mutual TLS)",
    );

    let plain = stage.record(|s| {
        s.get_without_sidecar("catalog.istioinaction", &format!("/items/1?word={WORD}"))
            .map(|_| ())
    })?;
    let answer = stage.get_without_sidecar("catalog.istioinaction", "/items/1");
    findings.check(
        answer.is_ok_and(|a| a.status == 200),
        "PERMISSIVE: a client without a sidecar is served",
    );
    findings.check(plain.contains(WORD), "its word is readable on the wire: plaintext");

    stage.apply_in("istio-system", STRICT)?;
    let refused = stage.get_without_sidecar("catalog.istioinaction", "/items/1");
    if let Err(e) = &refused {
        show::note(&format!("client without sidecar: {e:#}"));
    }
    findings.check(refused.is_err(), "STRICT: the client without a sidecar is refused");
    let strict = stage.record(|s| {
        let answer = s.get(&format!("/api/catalog/items/1?word={WORD}"), &[("x-word", WORD)])?;
        anyhow::ensure!(answer.status == 200, "the gateway answered {}", answer.status);
        Ok(())
    });
    findings.check(
        strict.as_ref().is_ok_and(|s| s.packets > 0),
        "STRICT: services in the mesh go on as before",
    );
    findings.check(
        strict.is_ok_and(|s| !s.contains(WORD)),
        "no byte of the word is on the wire",
    );

    stage.delete("PeerAuthentication", "istio-system", "default")?;
    let again = stage.get_without_sidecar("catalog.istioinaction", "/items/1");
    findings.check(
        again.is_ok_and(|a| a.status == 200),
        "without the policy it is served again",
    );
    Ok(findings)
}

const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: istio-system
spec:
  mtls:
    mode: STRICT
";
