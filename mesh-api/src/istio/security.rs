//! PeerAuthentication, RequestAuthentication and AuthorizationPolicy: who may speak to whom.

use std::collections::BTreeMap;

use super::{
    Duration, PolicyTargetReference, WorkloadSelector,
    message::{message, names},
};

message! {
    /// Whether inbound connections must be mutual TLS.
    pub struct PeerAuthentication {
        /// Workloads; all of the namespace if absent.
        pub selector: Option<WorkloadSelector>,
        /// For all ports.
        pub mtls: Option<MutualTls>,
        /// For single ports of the workload.
        #[schemars(with = "BTreeMap<String, MutualTls>")]
        pub port_level_mtls: BTreeMap<u32, MutualTls>,
    }

    /// Mutual TLS.
    pub struct MutualTls {
        /// Whether it is needed.
        pub mode: MutualTlsMode,
    }

    /// JSON web tokens that are checked.
    pub struct RequestAuthentication {
        /// Workloads; all of the namespace if absent.
        pub selector: Option<WorkloadSelector>,
        /// Deprecated single form of `targetRefs`.
        pub target_ref: Option<PolicyTargetReference>,
        /// Targets in place of a selector.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Issuers that are accepted.
        #[schemars(length(max = 4096))]
        pub jwt_rules: Vec<JwtRule>,
    }

    /// One issuer.
    pub struct JwtRule {
        /// The `iss` claim.
        #[schemars(length(min = 1))]
        pub issuer: String,
        /// Accepted `aud` claims.
        pub audiences: Vec<String>,
        /// Where the keys are; by OpenID discovery if absent.
        #[serde(alias = "jwks_uri")]
        #[schemars(extend("x-alias" = "jwks_uri"), length(min = 1, max = 2048))]
        pub jwks_uri: String,
        /// The keys themselves.
        pub jwks: String,
        /// Headers that hold the token; `Authorization: Bearer` if no place is named.
        pub from_headers: Vec<JwtHeader>,
        /// Query parameters that hold the token; `access_token` if no place is named.
        pub from_params: Vec<String>,
        /// Cookies that hold the token.
        pub from_cookies: Vec<String>,
        /// Header that is given the payload, base64url.
        pub output_payload_to_header: String,
        /// Keep the token on the way to the application.
        pub forward_original_token: bool,
        /// Headers that are given claims.
        pub output_claim_to_headers: Vec<ClaimToHeader>,
        /// Limit for fetching the keys; 5 s if absent.
        pub timeout: Option<Duration>,
        /// Claims that are split at spaces.
        #[schemars(length(max = 64))]
        pub space_delimited_claims: Vec<String>,
        /// Whether a token must be there.
        pub presence: JwtPresence,
    }

    /// A header that holds a token.
    pub struct JwtHeader {
        /// Name.
        #[schemars(extend("x-required" = true), length(min = 1))]
        pub name: String,
        /// What stands before the token.
        pub prefix: String,
    }

    /// A header that is given a claim.
    pub struct ClaimToHeader {
        /// Name of the header.
        #[schemars(extend("x-required" = true), length(min = 1))]
        pub header: String,
        /// Name of the claim.
        #[schemars(extend("x-required" = true), length(min = 1))]
        pub claim: String,
    }

    /// Which requests are served.
    pub struct AuthorizationPolicy {
        /// Workloads; all of the namespace if absent.
        pub selector: Option<WorkloadSelector>,
        /// Deprecated single form of `targetRefs`.
        pub target_ref: Option<PolicyTargetReference>,
        /// Targets in place of a selector.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Rules, one of which must match. None: nothing matches. One empty rule: everything matches.
        #[schemars(length(max = 512))]
        pub rules: Vec<Rule>,
        /// What a match does.
        pub action: AuthorizationAction,
        /// Who decides, with CUSTOM.
        pub provider: Option<ExtensionProvider>,
    }

    /// An extension provider of the mesh configuration.
    pub struct ExtensionProvider {
        /// Name.
        pub name: String,
    }

    /// Sources, operations and conditions that must hold together.
    pub struct Rule {
        /// Sources; any if none.
        #[schemars(length(max = 512))]
        pub from: Vec<RuleFrom>,
        /// Operations; any if none.
        pub to: Vec<RuleTo>,
        /// Conditions, all of which must hold.
        pub when: Vec<Condition>,
    }

    /// A source.
    pub struct RuleFrom {
        /// The source.
        pub source: Option<Source>,
    }

    /// An operation.
    pub struct RuleTo {
        /// The operation.
        pub operation: Option<Operation>,
    }

    /// Who asks; all fields that are set must hold.
    pub struct Source {
        /// Identities, `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
        pub principals: Vec<String>,
        /// None of these identities.
        pub not_principals: Vec<String>,
        /// Token identities, `issuer/subject`.
        pub request_principals: Vec<String>,
        /// None of these token identities.
        pub not_request_principals: Vec<String>,
        /// Namespaces.
        pub namespaces: Vec<String>,
        /// None of these namespaces.
        pub not_namespaces: Vec<String>,
        /// Service accounts, `account` or `namespace/account`.
        #[schemars(length(max = 16))]
        pub service_accounts: Vec<String>,
        /// None of these service accounts.
        #[schemars(length(max = 16))]
        pub not_service_accounts: Vec<String>,
        /// Trust domains.
        pub trust_domains: Vec<String>,
        /// None of these trust domains.
        pub not_trust_domains: Vec<String>,
        /// Addresses or ranges of the connection's other end.
        pub ip_blocks: Vec<String>,
        /// None of these addresses.
        pub not_ip_blocks: Vec<String>,
        /// Addresses or ranges of the first client, from X-Forwarded-For or the PROXY header.
        pub remote_ip_blocks: Vec<String>,
        /// None of these addresses.
        pub not_remote_ip_blocks: Vec<String>,
    }

    /// What is asked; all fields that are set must hold.
    pub struct Operation {
        /// Hosts.
        pub hosts: Vec<String>,
        /// None of these hosts.
        pub not_hosts: Vec<String>,
        /// Ports of the workload.
        pub ports: Vec<String>,
        /// None of these ports.
        pub not_ports: Vec<String>,
        /// Methods.
        pub methods: Vec<String>,
        /// None of these methods.
        pub not_methods: Vec<String>,
        /// Paths.
        pub paths: Vec<String>,
        /// None of these paths.
        pub not_paths: Vec<String>,
    }

    /// A further condition.
    pub struct Condition {
        /// Attribute.
        #[schemars(extend("x-required" = true))]
        pub key: String,
        /// One of these values.
        pub values: Vec<String>,
        /// None of these values.
        pub not_values: Vec<String>,
    }
}

names! {
    /// Whether mutual TLS is needed.
    pub enum MutualTlsMode {
        /// As the wider scope has it.
        Unset = "UNSET",
        /// Plaintext only.
        Disable = "DISABLE",
        /// Both.
        Permissive = "PERMISSIVE",
        /// Mutual TLS only.
        Strict = "STRICT",
    }

    /// Whether a token must be there.
    pub enum JwtPresence {
        /// A request without one is served.
        Optional = "OPTIONAL",
        /// A request without one is refused.
        Required = "REQUIRED",
    }

    /// What a match does.
    pub enum AuthorizationAction {
        /// Serves.
        Allow = "ALLOW",
        /// Refuses.
        Deny = "DENY",
        /// Notes.
        Audit = "AUDIT",
        /// Asks the provider.
        Custom = "CUSTOM",
    }
}
