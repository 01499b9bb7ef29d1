//! Labels of Istio's metrics.

use mesh_api::names::{self, SpiffeId};

use super::super::flags::ResponseFlags;
use crate::shared::Workload;
use crate::snapshot::IstioService;

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The caller's proxy.
    Source,
    /// The server's proxy.
    Destination,
}

/// Labels of the HTTP metrics, in the order of emission.
pub const HTTP_LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// Place of `response_code` and `grpc_response_status`.
const STATUSES: std::ops::Range<usize> = 21..23;

/// Labels of the TCP metrics: those of HTTP without the two statuses.
pub const TCP_LABELS: [&str; 23] = {
    let mut labels = [""; 23];
    let mut i = 0;
    while i < labels.len() {
        labels[i] = HTTP_LABELS[if i < STATUSES.start { i } else { i + 2 }];
        i += 1;
    }
    labels
};

const UNKNOWN: &str = "unknown";

/// What the labels are made of; empty texts are unknown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) reporter: Reporter,
    /// This proxy's workload.
    pub(super) own: &'a Workload,
    /// The other side's.
    pub(super) peer: Option<&'a Workload>,
    pub(super) source_principal: &'a str,
    pub(super) destination_principal: &'a str,
    /// Service of the cluster's metadata.
    pub(super) service: Option<&'a IstioService>,
    /// Stands in for the service.
    pub(super) authority: &'a str,
    pub(super) cluster: &'a str,
    pub(super) route: &'a str,
    pub(super) protocol: &'a str,
    pub(super) flags: ResponseFlags,
    pub(super) mutual: bool,
    /// Status and gRPC status; `None` for TCP.
    pub(super) http: Option<(u16, Option<u16>)>,
}

/// Workload, canonical service, canonical revision, namespace, principal, app, version, cluster.
struct Side<'a> {
    workload: &'a str,
    canonical_service: &'a str,
    canonical_revision: &'a str,
    namespace: String,
    principal: &'a str,
    app: &'a str,
    version: &'a str,
    cluster: &'a str,
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

fn side<'a>(workload: Option<&'a Workload>, principal: &'a str) -> Side<'a> {
    let get = |field: fn(&Workload) -> &String| workload.map_or(UNKNOWN, |w| or_unknown(field(w)));
    // What the certificate proves goes before what the peer says of itself.
    let namespace = SpiffeId::parse(principal).map_or_else(|| get(|w| &w.namespace).to_owned(), |id| id.namespace);
    Side {
        workload: get(|w| &w.name),
        canonical_service: get(|w| &w.canonical_name),
        canonical_revision: workload
            .map(|w| w.canonical_revision.as_str())
            .filter(|r| !r.is_empty())
            .unwrap_or("latest"),
        namespace,
        principal: or_unknown(principal),
        app: get(|w| &w.app),
        version: get(|w| &w.version),
        cluster: get(|w| &w.cluster_id),
    }
}

impl Facts<'_> {
    /// Values in the order of [`HTTP_LABELS`] or [`TCP_LABELS`].
    pub(super) fn labels(&self) -> Box<[Box<str>]> {
        let (source, destination) = match self.reporter {
            Reporter::Source => (Some(self.own), self.peer),
            Reporter::Destination => (self.peer, Some(self.own)),
        };
        let source = side(source, self.source_principal);
        let destination = side(destination, self.destination_principal);
        let (service, service_name, service_namespace) = self.service(&destination);
        let mut all: Vec<Box<str>> = Vec::with_capacity(HTTP_LABELS.len());
        let reporter = match self.reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        for text in [
            reporter,
            source.workload,
            source.canonical_service,
            source.canonical_revision,
            &source.namespace,
            source.principal,
            source.app,
            source.version,
            source.cluster,
            destination.workload,
            &destination.namespace,
            destination.principal,
            destination.app,
            destination.version,
            service,
            destination.canonical_service,
            destination.canonical_revision,
            service_name,
            service_namespace,
            destination.cluster,
            self.protocol,
        ] {
            all.push(text.into());
        }
        if let Some((code, grpc)) = self.http {
            all.push(code.to_string().into());
            all.push(grpc.map(|g| g.to_string()).unwrap_or_default().into());
        }
        all.push(self.flags.to_string().into());
        let security = match (self.reporter, self.mutual) {
            // The caller's side cannot know what the other end made of it; Istio says so too.
            (Reporter::Source, _) => UNKNOWN,
            (Reporter::Destination, true) => "mutual_tls",
            (Reporter::Destination, false) => "none",
        };
        all.push(security.into());
        all.into()
    }

    /// Destination service: host, name, namespace.
    fn service<'b>(&'b self, destination: &'b Side<'_>) -> (&'b str, &'b str, &'b str) {
        let namespace = match self.reporter {
            Reporter::Destination => or_unknown(&self.own.namespace),
            Reporter::Source if destination.namespace != UNKNOWN => &destination.namespace,
            Reporter::Source => self.service.map_or(UNKNOWN, |s| or_unknown(&s.namespace)),
        };
        if let Some(service) = self.service {
            return (or_unknown(&service.host), or_unknown(&service.name), namespace);
        }
        let fixed = match (self.cluster, self.route) {
            (names::PASSTHROUGH_CLUSTER, _) | (_, "allow_any") => names::PASSTHROUGH_CLUSTER,
            (names::BLACK_HOLE_CLUSTER, _) | (_, "block_all") => names::BLACK_HOLE_CLUSTER,
            (names::INBOUND_PASSTHROUGH_CLUSTER, _) => names::INBOUND_PASSTHROUGH_CLUSTER,
            _ => or_unknown(self.authority.split(['.', ':']).next().unwrap_or_default()),
        };
        (or_unknown(self.authority), fixed, namespace)
    }
}
