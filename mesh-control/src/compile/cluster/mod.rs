//! Clusters: one for each service port and subset, those towards the proxy's own application, and the fixed ones.

mod balance;
mod inbound;
mod misplaced;
mod outlier;
pub(super) mod policy;
mod proxy_protocol;
pub(super) mod tls;

use std::time::Duration;

use mesh_api::envoy::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
use mesh_api::istio::Subset;
use mesh_api::names;

use super::context::Context;
use super::dynamic_dns;
use super::endpoint::assignment;
use super::locality;
use super::pb::{
    Struct, ads, boolean, cluster, core, fields, istio_metadata, list, number, object, pack, socket_address, text, time,
};
use super::{Compiled, Encoded};
use crate::store::endpoint::Endpoint;
use crate::store::rules::TrafficRule;
use crate::store::service::{Resolution, Service, ServicePort};
use crate::store::workload::selects;
pub(super) use inbound::inbound;
use policy::Policy;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What an outbound cluster is made from.
pub(super) struct Outbound<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) rule: Option<&'a TrafficRule>,
    pub(super) subset: Option<&'a Subset>,
    /// Clients' own mutual TLS is passed on as it is, to the endpoints that it is for.
    pub(super) passed_on: bool,
}

impl Outbound<'_> {
    fn subset_name(&self) -> &str {
        self.subset.map_or("", |s| &s.name)
    }

    fn name(&self) -> String {
        if self.passed_on {
            return self.sni();
        }
        names::outbound_cluster(self.port.number, self.subset_name(), &self.service.host)
    }

    fn sni(&self) -> String {
        names::outbound_sni(self.port.number, self.subset_name(), &self.service.host)
    }

    fn rule_name(&self) -> String {
        self.rule.map(TrafficRule::name).unwrap_or_default()
    }
}

/// Outbound clusters of all services that the proxy sees, with the endpoints of those found by EDS.
pub(super) fn outbound(ctx: &Context<'_>, out: &mut Compiled) {
    for service in ctx.services() {
        of_service(ctx, service, out);
    }
}

/// As [`outbound`], of one service.
pub(super) fn of_service(ctx: &Context<'_>, service: &Service, out: &mut Compiled) {
    for from in parts(ctx, service, false) {
        one_outbound(ctx, &from, out);
    }
}

/// All ports and subsets of a service.
fn parts<'a>(ctx: &Context<'a>, service: &'a Service, passed_on: bool) -> Vec<Outbound<'a>> {
    let rule = ctx.rule(service);
    let mut out = Vec::new();
    for port in ctx.ports_of(service) {
        let subsets = rule.map(|r| r.subsets.as_slice()).unwrap_or_default();
        for subset in std::iter::once(None).chain(subsets.iter().map(Some)) {
            out.push(Outbound {
                service,
                port,
                rule,
                subset,
                passed_on,
            });
        }
    }
    out
}

/// Clusters by which a gateway passes on the mutual TLS of clients to a service (SNI-DNAT), with the name of each, which is the
/// server name that clients ask for too, and its policy.
pub(super) fn passed_on<'a>(ctx: &Context<'a>, service: &'a Service, out: &mut Compiled) -> Vec<(String, Policy<'a>)> {
    let mut found = Vec::new();
    for from in parts(ctx, service, true) {
        one_outbound(ctx, &from, out);
        let policy = Policy {
            tunnel: None,
            ..Policy::of(from.rule, from.port.number, from.subset)
        };
        found.push((from.name(), policy));
    }
    found
}

#[allow(
    deprecated,
    reason = "Envoy's DNS settings outside of the cluster are newer than what Istio sends"
)]
fn one_outbound(ctx: &Context<'_>, from: &Outbound<'_>, out: &mut Compiled) {
    let name = from.name();
    let policy = Policy::of(from.rule, from.port.number, from.subset);
    let mut cluster = base(
        &name,
        policy
            .connect_timeout()
            .unwrap_or(ctx.store.mesh().connect_timeout.get()),
    );
    cluster.circuit_breakers = Some(policy.limits());
    cluster.upstream_connection_options = policy.keepalive(ctx.store.mesh());

    let labels = from.subset.map(|s| &s.labels);
    let endpoints: Vec<&Endpoint> = ctx
        .store
        .endpoints(from.service)
        .get(&from.port.number)
        .into_iter()
        .flatten()
        .filter(|e| labels.is_none_or(|l| selects(l, &e.workload.labels)))
        .collect();
    use cluster::cluster::DiscoveryType;
    // A gateway has no original destination to go to.
    let original = from.service.resolution == Resolution::Passthrough && !ctx.proxy.is_gateway();
    let dynamic = from.service.resolution == Resolution::DynamicDns && !policy.passthrough();
    let discovery = if policy.passthrough() || original || dynamic {
        cluster.lb_policy = cluster::cluster::LbPolicy::ClusterProvided.into();
        DiscoveryType::OriginalDst
    } else {
        balance::apply(&policy, &mut cluster);
        outlier::apply(&policy, &mut cluster);
        locality::apply(ctx, &policy, &mut cluster);
        match from.service.resolution {
            Resolution::Eds | Resolution::Passthrough | Resolution::DynamicDns => {
                cluster.eds_cluster_config = Some(cluster::cluster::EdsClusterConfig {
                    eds_config: ads(),
                    service_name: name.clone(),
                });
                out.endpoints
                    .insert(name.clone(), assignment(ctx, &name, &policy, endpoints));
                DiscoveryType::Eds
            }
            Resolution::StrictDns | Resolution::LogicalDns => {
                cluster.dns_lookup_family = ctx.dns_family().into();
                cluster.dns_refresh_rate = time(ctx.store.mesh().dns_refresh_rate.get());
                cluster.respect_dns_ttl = true;
                cluster.load_assignment = assignment(ctx, &name, &policy, endpoints).message().ok();
                if from.service.resolution == Resolution::StrictDns {
                    DiscoveryType::StrictDns
                } else {
                    DiscoveryType::LogicalDns
                }
            }
        }
    };
    let unlisted = discovery == DiscoveryType::OriginalDst;
    misplaced::report(ctx, from, &policy, unlisted);

    let http2 =
        from.port.protocol.is_http2() || (policy.upgrades_to_http2(ctx.store.mesh()) && !from.port.protocol.is_tcp());
    let transport = if from.passed_on {
        tls::Transport::plain()
    } else {
        tls::transport(ctx, from, policy.tls, http2, unlisted)
    };
    cluster.cluster_discovery_type = if dynamic {
        let cache = dynamic_dns::cache(ctx, &from.service.host);
        Some(dynamic_dns::cluster_type(cache, &transport))
    } else {
        discovery_type(discovery)
    };
    let by_request = names_from_requests(&transport);
    cluster.transport_socket = transport.socket;
    cluster.transport_socket_matches = transport.matches;
    proxy_protocol::apply(&policy, &mut cluster);
    let mut options = upstream_http::HttpProtocolOptions {
        common_http_protocol_options: policy.http_common(),
        upstream_protocol_options: Some(if http2 {
            explicit_http2(policy.http2_options())
        } else if policy.uses_client_protocol() || (from.port.protocol.is_auto() && !ctx.proxy.is_gateway()) {
            as_client(policy.http2_options())
        } else {
            explicit_http1()
        }),
        ..Default::default()
    };
    options.upstream_http_protocol_options = by_request;
    if !from.passed_on {
        set_http_options(&mut cluster, &options);
    }

    let mut meta = service_metadata(from.service, from.port.number);
    if let Some(rule) = from.rule {
        meta.fields.insert("config".to_owned(), text(rule.config()));
    }
    if let Some(subset) = from.subset {
        meta.fields.insert("subset".to_owned(), text(&subset.name));
    }
    if from.service.external {
        meta.fields.insert("external".to_owned(), boolean(true));
    }
    if transport.keep_alpn {
        meta.fields.insert("alpn_override".to_owned(), text("false"));
    }
    cluster.metadata = Some(istio_metadata(meta));
    out.clusters.insert(name, Encoded::new(&cluster));
}

/// The clusters that every proxy has.
pub(super) fn fixed(ctx: &Context<'_>, out: &mut Compiled) {
    let mut black_hole = cluster::Cluster {
        alt_stat_name: format!("{};", names::BLACK_HOLE_CLUSTER),
        ..bare(names::BLACK_HOLE_CLUSTER, ctx.store.mesh().connect_timeout.get())
    };
    black_hole.cluster_discovery_type = discovery_type(cluster::cluster::DiscoveryType::Static);
    out.clusters.insert(black_hole.name.clone(), Encoded::new(&black_hole));
    if ctx.proxy.is_gateway() {
        return;
    }

    let mut passthrough = base(names::PASSTHROUGH_CLUSTER, ctx.store.mesh().connect_timeout.get());
    original_destination(&mut passthrough);
    out.clusters
        .insert(passthrough.name.clone(), Encoded::new(&passthrough));

    if ctx.allows_any_name() {
        let named = by_name(ctx);
        out.clusters.insert(named.name.clone(), Encoded::new(&named));
    }

    let inbound = to_application(ctx, names::INBOUND_PASSTHROUGH_CLUSTER);
    out.clusters.insert(inbound.name.clone(), Encoded::new(&inbound));
}

/// The cluster for hosts that nobody knows, by the names that requests give them.
fn by_name(ctx: &Context<'_>) -> cluster::Cluster {
    let mesh = ctx.store.mesh();
    let mut cluster = base(names::ALLOW_ANY_DYNAMIC_DNS_CLUSTER, mesh.connect_timeout.get());
    let settings = mesh.outbound_traffic_policy.tls.as_ref();
    let transport = settings.map_or_else(tls::Transport::plain, |settings| tls::of_mesh(ctx, settings));
    cluster.lb_policy = cluster::cluster::LbPolicy::ClusterProvided.into();
    let cache = dynamic_dns::cache_of_mesh(ctx);
    cluster.cluster_discovery_type = Some(dynamic_dns::cluster_type(cache, &transport));
    set_http_options(
        &mut cluster,
        &upstream_http::HttpProtocolOptions {
            upstream_http_protocol_options: names_from_requests(&transport),
            upstream_protocol_options: Some(as_client(core::Http2ProtocolOptions::default())),
            ..Default::default()
        },
    );
    cluster.transport_socket = transport.socket;
    cluster
}

/// TLS asks for the name that the request is for, and checks it.
fn names_from_requests(transport: &tls::Transport) -> Option<core::UpstreamHttpProtocolOptions> {
    transport.auto_sni.then(|| core::UpstreamHttpProtocolOptions {
        auto_sni: true,
        auto_san_validation: transport.auto_san_validation,
        ..Default::default()
    })
}

/// A cluster that hands connections to the application at the address that they were for, from an address that the capture rules leave alone.
fn to_application(ctx: &Context<'_>, name: &str) -> cluster::Cluster {
    let mut cluster = base(name, ctx.store.mesh().connect_timeout.get());
    original_destination(&mut cluster);
    cluster.upstream_bind_config = upstream_bind(ctx);
    cluster
}

/// The address that the capture rules leave alone.
#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
fn upstream_bind(ctx: &Context<'_>) -> Option<core::BindConfig> {
    let source = if ctx.proxy.id.ip.is_ipv6() {
        names::INBOUND_PASSTHROUGH_BIND_V6.to_string()
    } else {
        names::INBOUND_PASSTHROUGH_BIND_V4.to_string()
    };
    Some(core::BindConfig {
        source_address: Some(socket_address(&source, 0)),
        ..Default::default()
    })
}

fn original_destination(cluster: &mut cluster::Cluster) {
    cluster.cluster_discovery_type = discovery_type(cluster::cluster::DiscoveryType::OriginalDst);
    cluster.lb_policy = cluster::cluster::LbPolicy::ClusterProvided.into();
    set_http_options(
        cluster,
        &upstream_http::HttpProtocolOptions {
            upstream_protocol_options: Some(as_client(core::Http2ProtocolOptions::default())),
            ..Default::default()
        },
    );
}

fn bare(name: &str, connect_timeout: Duration) -> cluster::Cluster {
    cluster::Cluster {
        name: name.to_owned(),
        connect_timeout: time(connect_timeout),
        ..Default::default()
    }
}

/// A cluster with the limits that all of them have. The name in statistics ends in `;`, so that tags can be cut out of it.
fn base(name: &str, connect_timeout: Duration) -> cluster::Cluster {
    cluster::Cluster {
        alt_stat_name: format!("{name};"),
        circuit_breakers: Some(Policy::default().limits()),
        ..bare(name, connect_timeout)
    }
}

#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
fn discovery_type(kind: cluster::cluster::DiscoveryType) -> Option<cluster::cluster::ClusterDiscoveryType> {
    Some(cluster::cluster::ClusterDiscoveryType::Type(kind.into()))
}

use upstream_http::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig,
};

fn explicit_http1() -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::HttpProtocolOptions(
            core::Http1ProtocolOptions::default(),
        )),
    })
}

fn explicit_http2(options: core::Http2ProtocolOptions) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(options)),
    })
}

fn as_client(options: core::Http2ProtocolOptions) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(core::Http1ProtocolOptions::default()),
        http2_protocol_options: Some(options),
        http3_protocol_options: None,
    })
}

/// HTTP/1.1 without further options is what Envoy does by itself.
fn set_http_options(cluster: &mut cluster::Cluster, options: &upstream_http::HttpProtocolOptions) {
    let plain = upstream_http::HttpProtocolOptions {
        upstream_protocol_options: Some(explicit_http1()),
        ..Default::default()
    };
    if *options != plain {
        cluster
            .typed_extension_protocol_options
            .insert(HTTP_OPTIONS.to_owned(), pack(options));
    }
}

fn service_value(service: &Service) -> super::pb::ProtoValue {
    object(fields([
        ("host", text(&service.host)),
        ("name", text(&service.name)),
        ("namespace", text(&service.namespace)),
    ]))
}

fn service_metadata(service: &Service, port: u16) -> Struct {
    fields([
        ("default_original_port", number(f64::from(port))),
        ("services", list(vec![service_value(service)])),
    ])
}
