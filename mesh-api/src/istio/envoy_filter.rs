//! EnvoyFilter: patches of the Envoy resources that are made from the other kinds.

use std::collections::BTreeMap;

use super::{
    PolicyTargetReference, WorkloadLabels,
    message::{message, names},
};

message! {
    /// Patches, applied in order.
    pub struct EnvoyFilter {
        /// Workloads; all of the namespace if absent.
        pub workload_selector: Option<WorkloadLabels>,
        /// Targets in place of a selector.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// The patches.
        pub config_patches: Vec<EnvoyConfigObjectPatch>,
        /// Order among EnvoyFilters; low first.
        pub priority: i32,
    }

    /// One patch.
    pub struct EnvoyConfigObjectPatch {
        /// Kind of resource that is patched.
        pub apply_to: ApplyTo,
        /// Which ones; all if absent.
        pub r#match: Option<EnvoyConfigObjectMatch>,
        /// The change.
        pub patch: Option<Patch>,
    }

    /// Which resources are patched.
    pub struct EnvoyConfigObjectMatch {
        /// Role and direction.
        pub context: PatchContext,
        /// Which proxies.
        pub proxy: Option<ProxyMatch>,
        /// Which listeners.
        pub listener: Option<ListenerMatch>,
        /// Which routes.
        pub route_configuration: Option<RouteConfigurationMatch>,
        /// Which clusters.
        pub cluster: Option<ClusterMatch>,
        /// Which parts of a waypoint.
        pub waypoint: Option<WaypointMatch>,
    }

    /// Which proxies.
    pub struct ProxyMatch {
        /// Regular expression for the version.
        pub proxy_version: String,
        /// Equality on the node's metadata.
        pub metadata: BTreeMap<String, String>,
    }

    /// Which listeners.
    pub struct ListenerMatch {
        /// Port of the service or gateway.
        pub port_number: u32,
        /// Not supported by Istio.
        pub port_name: String,
        /// Filter chain in it.
        pub filter_chain: Option<FilterChainMatch>,
        /// Listener filter in it.
        pub listener_filter: String,
        /// Name of the listener.
        pub name: String,
    }

    /// Which filter chains.
    pub struct FilterChainMatch {
        /// Name.
        pub name: String,
        /// Server name that it matches.
        pub sni: String,
        /// `raw_buffer` or `tls`.
        pub transport_protocol: String,
        /// Application protocols, by comma.
        pub application_protocols: String,
        /// Network filter in it.
        pub filter: Option<FilterMatch>,
        /// Destination port that it matches.
        pub destination_port: u32,
        /// Not read by Istio.
        pub transport_socket: String,
    }

    /// Which network filter.
    pub struct FilterMatch {
        /// Name.
        pub name: String,
        /// HTTP filter in it.
        pub sub_filter: Option<SubFilterMatch>,
    }

    /// Which HTTP filter.
    pub struct SubFilterMatch {
        /// Name.
        pub name: String,
    }

    /// Which route configurations.
    pub struct RouteConfigurationMatch {
        /// Port.
        pub port_number: u32,
        /// Name of the gateway server's port.
        pub port_name: String,
        /// `namespace/name` of the Gateway.
        pub gateway: String,
        /// Virtual host in it.
        pub vhost: Option<VirtualHostMatch>,
        /// Name.
        pub name: String,
    }

    /// Which virtual hosts.
    pub struct VirtualHostMatch {
        /// Name, `host:port`.
        pub name: String,
        /// One of its domains.
        pub domain_name: String,
        /// Route in it.
        pub route: Option<RouteMatch>,
    }

    /// Which routes.
    pub struct RouteMatch {
        /// Name.
        pub name: String,
        /// What the route does.
        pub action: RouteMatchAction,
    }

    /// Which clusters.
    pub struct ClusterMatch {
        /// Port of the service.
        pub port_number: u32,
        /// Host of the service.
        pub service: String,
        /// Subset.
        pub subset: String,
        /// Whole name, in place of the others.
        pub name: String,
    }

    /// Which parts of a waypoint.
    pub struct WaypointMatch {
        /// Port of the service.
        pub port_number: u32,
        /// Network filter.
        pub filter: Option<FilterMatch>,
        /// Route.
        pub route: Option<WaypointRouteMatch>,
    }

    /// Which routes of a waypoint.
    pub struct WaypointRouteMatch {
        /// Name.
        pub name: String,
    }

    /// A change.
    pub struct Patch {
        /// What is done.
        pub operation: PatchOperation,
        /// Envoy's message as JSON.
        #[schemars(extend("x-free-form" = true))]
        pub value: Option<serde_json::Value>,
        /// Place among the filters.
        pub filter_class: FilterClass,
    }
}

names! {
    /// Kinds of resources that can be patched.
    pub enum ApplyTo {
        /// Not set.
        Invalid = "INVALID",
        /// Listener.
        Listener = "LISTENER",
        /// Filter chain.
        FilterChain = "FILTER_CHAIN",
        /// Network filter.
        NetworkFilter = "NETWORK_FILTER",
        /// HTTP filter.
        HttpFilter = "HTTP_FILTER",
        /// Route configuration.
        RouteConfiguration = "ROUTE_CONFIGURATION",
        /// Virtual host.
        VirtualHost = "VIRTUAL_HOST",
        /// HTTP route.
        HttpRoute = "HTTP_ROUTE",
        /// Cluster.
        Cluster = "CLUSTER",
        /// Extension configuration.
        ExtensionConfig = "EXTENSION_CONFIG",
        /// Bootstrap.
        Bootstrap = "BOOTSTRAP",
        /// Listener filter.
        ListenerFilter = "LISTENER_FILTER",
    }

    /// Role and direction of a proxy.
    pub enum PatchContext {
        /// All.
        Any = "ANY",
        /// Sidecar, inbound.
        SidecarInbound = "SIDECAR_INBOUND",
        /// Sidecar, outbound.
        SidecarOutbound = "SIDECAR_OUTBOUND",
        /// Gateway.
        Gateway = "GATEWAY",
        /// Waypoint.
        Waypoint = "WAYPOINT",
    }

    /// What a route does.
    pub enum RouteMatchAction {
        /// Anything.
        Any = "ANY",
        /// Forwards.
        Route = "ROUTE",
        /// Redirects.
        Redirect = "REDIRECT",
        /// Answers.
        DirectResponse = "DIRECT_RESPONSE",
    }

    /// What a patch does.
    pub enum PatchOperation {
        /// Not set.
        Invalid = "INVALID",
        /// Merge as protobuf does; lists are appended.
        Merge = "MERGE",
        /// Append.
        Add = "ADD",
        /// Remove.
        Remove = "REMOVE",
        /// Insert before the one that matches.
        InsertBefore = "INSERT_BEFORE",
        /// Insert after the one that matches.
        InsertAfter = "INSERT_AFTER",
        /// Insert as the first.
        InsertFirst = "INSERT_FIRST",
        /// Replace.
        Replace = "REPLACE",
        /// Merge; lists are replaced.
        MergeAndReplaceList = "MERGE_AND_REPLACE_LIST",
    }

    /// Place among the filters.
    pub enum FilterClass {
        /// Decided by the operation.
        Unspecified = "UNSPECIFIED",
        /// After authentication.
        Authn = "AUTHN",
        /// After authorization.
        Authz = "AUTHZ",
        /// Before statistics.
        Stats = "STATS",
    }
}
