//! Certificates that are renewed under load.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use e2e::runner::Options;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::lab::{LIMIT, Lab};

/// Lifetime of certificates. Half of it passes between two of them.
const LIFE: &str = "10s";
const LOAD: u64 = 18;

/// Serial number of the workload certificate that a proxy has.
fn serial(lab: &Lab, pod: &str) -> Option<String> {
    let certificates = lab.mesh.admin(pod, "/certs").ok()?.json().ok()?;
    let serial = certificates.pointer("/certificates/0/cert_chain/0/serial_number")?;
    serial.as_str().map(str::to_owned)
}

/// Trusts everybody and keeps what was shown.
#[derive(Debug, Default)]
struct Recorder(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock() = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a sidecar shows to one who speaks the mesh's TLS. Without a certificate of one's own that is as
/// far as one gets.
fn shown(lab: &Lab, to: SocketAddr) -> Option<CertificateDer<'static>> {
    let recorder = Arc::new(Recorder::default());
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(recorder.clone())
        .with_no_client_auth();
    config.alpn_protocols = ["istio-http/1.1", "istio", "http/1.1"]
        .map(|p| p.as_bytes().to_vec())
        .into();
    let asked = lab.mesh.inside("outside", move || {
        let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut session =
            ClientConnection::new(Arc::new(config), ServerName::from(to.ip())).map_err(std::io::Error::other)?;
        session.complete_io(&mut stream)
    });
    asked.expect("a pod").ok();
    recorder.0.lock().take()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this certificate has this serial number.
fn has_serial(certificate: &CertificateDer<'_>, serial: &str) -> bool {
    // An INTEGER of 16 bytes; anything else in a certificate has those bytes by accident only.
    hexadecimal(certificate).contains(&format!("0210{serial}"))
}

#[test]
fn renewed_certificates_cost_no_request_and_no_connection() {
    let options = Options {
        proxy_config: serde_json::json!({"proxyMetadata": {"SECRET_TTL": LIFE}}),
        ..Options::default()
    };
    let name = "renewed_certificates_cost_no_request_and_no_connection";
    let Some(lab) = Lab::start_as(name, options, &["services/catalog.yaml"], "") else {
        return;
    };
    lab.until("served", || {
        lab.client("inside", "load http://catalog/items/1 --requests 5")["ok"] == 5
    });
    let load = format!("load http://catalog/items/1 --duration {LOAD}s --rate 100 --concurrency 32");
    let messages = LOAD * 20;
    let talk = format!("ws ws://catalog/ws --interval 50ms --messages {messages}");
    let (report, open, serials) = std::thread::scope(|scope| {
        let load = scope.spawn(|| lab.client("inside", &load));
        let talk = scope.spawn(|| lab.client("inside", &talk));
        let mut serials = [BTreeSet::new(), BTreeSet::new()];
        while !(load.is_finished() && talk.is_finished()) {
            for (pod, seen) in ["inside", "catalog"].iter().zip(&mut serials) {
                seen.extend(serial(&lab, pod));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let reports = (load.join().expect("no panic"), talk.join().expect("no panic"));
        (reports.0, reports.1, serials)
    });
    for seen in &serials {
        assert!(
            (3..=8).contains(&seen.len()),
            "renewed several times, at half life: {serials:?}"
        );
    }
    assert_eq!(report["ok"], report["sent"], "{report:#}");
    assert!(report["sent"].as_u64() >= Some(LOAD * 90), "{report:#}");
    let whole = serde_json::json!({"sent": messages, "received": messages, "error": null});
    assert_eq!(open, whole, "an open WebSocket lives on");

    let catalog = SocketAddr::from((lab.mesh.pod("catalog").expect("a pod").ip, 3000));
    let first = shown(&lab, catalog).expect("a certificate");
    lab.until("new connections are shown the newest certificate", || {
        let (now, newest) = (shown(&lab, catalog), serial(&lab, "catalog"));
        now.zip(newest)
            .is_some_and(|(now, newest)| now != first && has_serial(&now, &newest))
    });
}
