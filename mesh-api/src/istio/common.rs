//! Messages that several kinds use.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::message::{message, names};

/// How a string is compared. `{}` in YAML asks only that the value is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StringMatchFields", into = "StringMatchFields")]
pub enum StringMatch {
    /// `{}`: any value, as long as there is one.
    #[default]
    Present,
    /// Equality.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// RE2 expression that matches the whole value.
    Regex(String),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct StringMatchFields {
    /// Equality.
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    /// Starts with.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// RE2 expression that matches the whole value.
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
}

impl TryFrom<StringMatchFields> for StringMatch {
    type Error = &'static str;

    fn try_from(fields: StringMatchFields) -> Result<Self, Self::Error> {
        match (fields.exact, fields.prefix, fields.regex) {
            (None, None, None) => Ok(Self::Present),
            (Some(text), None, None) => Ok(Self::Exact(text)),
            (None, Some(text), None) => Ok(Self::Prefix(text)),
            (None, None, Some(text)) => Ok(Self::Regex(text)),
            _ => Err("only one of exact, prefix and regex can be set"),
        }
    }
}

impl From<StringMatch> for StringMatchFields {
    fn from(value: StringMatch) -> Self {
        let mut fields = Self::default();
        match value {
            StringMatch::Present => {}
            StringMatch::Exact(text) => fields.exact = Some(text),
            StringMatch::Prefix(text) => fields.prefix = Some(text),
            StringMatch::Regex(text) => fields.regex = Some(text),
        }
        fields
    }
}

impl schemars::JsonSchema for StringMatch {
    fn schema_name() -> Cow<'static, str> {
        "StringMatch".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        StringMatchFields::json_schema(generator)
    }
}

message! {
    /// A share of requests.
    pub struct Percent {
        /// 0.0 to 100.0.
        pub value: f64,
    }

    /// A port by its number.
    pub struct PortSelector {
        /// Port number.
        pub number: u32,
    }

    /// Where traffic goes.
    pub struct Destination {
        /// Service name; a short name is completed with the namespace of the object that has it.
        #[schemars(extend("x-required" = true))]
        pub host: String,
        /// Subset of the DestinationRule for the host.
        pub subset: String,
        /// Port of the service; needed if it has several.
        pub port: Option<PortSelector>,
    }

    /// Changes of headers, both ways.
    pub struct Headers {
        /// On the way to the destination.
        pub request: Option<HeaderOperations>,
        /// On the way back.
        pub response: Option<HeaderOperations>,
    }

    /// Changes of headers.
    pub struct HeaderOperations {
        /// Overwrite.
        pub set: BTreeMap<String, String>,
        /// Append.
        pub add: BTreeMap<String, String>,
        /// Delete.
        pub remove: Vec<String>,
    }

    /// Chooses workloads by `labels` (networking kinds).
    pub struct WorkloadLabels {
        /// All of these labels, equal.
        pub labels: BTreeMap<String, String>,
    }

    /// Chooses workloads by `matchLabels` (security and telemetry kinds, DestinationRule, ProxyConfig).
    pub struct WorkloadSelector {
        /// All of these labels, equal.
        pub match_labels: BTreeMap<String, String>,
    }

    /// The Gateway, GatewayClass, Service or ServiceEntry that a policy is attached to.
    pub struct PolicyTargetReference {
        /// API group of the target; empty for the core group.
        pub group: String,
        /// Kind of the target.
        #[schemars(extend("x-required" = true))]
        pub kind: String,
        /// Name of the target.
        #[schemars(extend("x-required" = true))]
        pub name: String,
        /// Namespace of the target; must be that of the policy.
        pub namespace: String,
    }

    /// TLS settings of a server: gateways, and `ingress` of a Sidecar.
    pub struct ServerTlsSettings {
        /// Redirect plaintext HTTP to HTTPS with 301.
        pub https_redirect: bool,
        /// What the server does with TLS.
        pub mode: ServerTlsMode,
        /// File of the certificate chain.
        pub server_certificate: String,
        /// File of the private key.
        pub private_key: String,
        /// File of the roots that client certificates are checked with.
        pub ca_certificates: String,
        /// File of the revocation list.
        pub ca_crl: String,
        /// Secret with certificate and key.
        pub credential_name: String,
        /// Secrets with an RSA and an ECDSA certificate.
        #[schemars(length(min = 1, max = 2))]
        pub credential_names: Vec<String>,
        /// Files with an RSA and an ECDSA certificate.
        #[schemars(length(min = 1, max = 2))]
        pub tls_certificates: Vec<TlsCertificate>,
        /// Secret or ConfigMap with the roots, if it is not the one of `credentialName`.
        pub ca_cert_credential_name: String,
        /// Subject alternative names that a client may have.
        pub subject_alt_names: Vec<String>,
        /// SHA-256 of public keys that a client may have, base64.
        pub verify_certificate_spki: Vec<String>,
        /// SHA-256 of certificates that a client may have, hexadecimal.
        pub verify_certificate_hash: Vec<String>,
        /// Oldest TLS version.
        pub min_protocol_version: TlsProtocol,
        /// Newest TLS version.
        pub max_protocol_version: TlsProtocol,
        /// Cipher suites of TLS 1.2 and before.
        pub cipher_suites: Vec<String>,
        /// Curves of the key exchange.
        pub ecdh_curves: Vec<String>,
        /// Accept client certificates unchecked.
        pub insecure_skip_verify: Option<bool>,
    }

    /// Certificate files.
    pub struct TlsCertificate {
        /// File of the certificate chain.
        pub server_certificate: String,
        /// File of the private key.
        pub private_key: String,
        /// File of the roots.
        pub ca_certificates: String,
    }
}

names! {
    /// What a server does with TLS.
    pub enum ServerTlsMode {
        /// Not terminated; routed by SNI.
        Passthrough = "PASSTHROUGH",
        /// Terminated, the client shows no certificate.
        Simple = "SIMPLE",
        /// Terminated, the client shows a certificate.
        Mutual = "MUTUAL",
        /// Not terminated; the SNI names the cluster.
        AutoPassthrough = "AUTO_PASSTHROUGH",
        /// Terminated with the mesh's own certificates.
        IstioMutual = "ISTIO_MUTUAL",
        /// As MUTUAL, but a client without a certificate is served.
        OptionalMutual = "OPTIONAL_MUTUAL",
    }

    /// Versions of TLS.
    pub enum TlsProtocol {
        /// The server's choice.
        Auto = "TLS_AUTO",
        /// TLS 1.0.
        V1_0 = "TLSV1_0",
        /// TLS 1.1.
        V1_1 = "TLSV1_1",
        /// TLS 1.2.
        V1_2 = "TLSV1_2",
        /// TLS 1.3.
        V1_3 = "TLSV1_3",
    }
}
