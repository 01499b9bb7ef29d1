//! EnvoyFilters in the form in which they are applied: in their order, with their values read as Envoy's messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_api::envoy::json::Json;
use mesh_api::envoy::{patch, supported};
use mesh_api::istio::{
    ApplyTo, EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilter, FilterClass, Object, PatchContext,
    PatchOperation, PolicyTargetReference,
};
use prost::Message;
use prost_reflect::DynamicMessage;
use regex::Regex;

use super::rules::age;
use super::workload::selects;

/// Label of the Pods of a gateway that was made for a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// All EnvoyFilters: by priority, then the oldest first, then by name.
#[derive(Debug, Clone, Default)]
pub struct EnvoyFilters(Vec<Arc<Filter>>);

/// One EnvoyFilter.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    selector: BTreeMap<String, String>,
    targets: Vec<PolicyTargetReference>,
    /// Those that can be applied, in the order in which they stand.
    pub patches: Vec<Patch>,
    /// What is not in force: path of the field, and why.
    pub findings: Vec<(String, String)>,
}

/// One patch.
#[derive(Debug, Clone)]
pub struct Patch {
    /// Its place in `configPatches`.
    pub index: usize,
    /// What it changes.
    pub apply_to: ApplyTo,
    /// How. An insertion into what has no order is an addition.
    pub operation: PatchOperation,
    /// Where.
    pub matches: EnvoyConfigObjectMatch,
    /// `match.proxy.proxyVersion`.
    pub version: Option<Regex>,
    /// Envoy's message; `None` for a removal.
    pub value: Option<DynamicMessage>,
    /// It sets something that mesh-proxy does not have, so that only an Envoy can be sent it.
    pub envoy_only: bool,
}

impl EnvoyFilters {
    pub(super) fn build<'a>(filters: impl Iterator<Item = &'a Object<EnvoyFilter>>) -> Self {
        let mut objects: Vec<_> = filters.collect();
        objects.sort_by(|a, b| (a.spec.priority, age(&a.meta)).cmp(&(b.spec.priority, age(&b.meta))));
        EnvoyFilters(objects.into_iter().map(|o| Arc::new(Filter::read(o))).collect())
    }

    /// Those that a namespace may have: of the root namespace first, then its own.
    pub(super) fn seen_by<'a>(&'a self, root: &str, namespace: &str) -> impl Iterator<Item = &'a Filter> {
        let of_root = self.0.iter().filter(move |f| f.namespace == root);
        let own = self.0.iter();
        let own = own.filter(move |f| f.namespace == namespace && namespace != root);
        of_root.chain(own).map(AsRef::as_ref)
    }

    /// Keys of the metadata of nodes that any of them asks for.
    pub(super) fn metadata(&self) -> BTreeSet<String> {
        let patches = self.0.iter().flat_map(|f| &f.patches);
        let mut out = BTreeSet::new();
        for proxy in patches.filter_map(|p| p.matches.proxy.as_ref()) {
            out.extend(proxy.metadata.keys().cloned());
            if !proxy.proxy_version.is_empty() {
                out.insert(VERSION.to_owned());
            }
        }
        out
    }
}

/// Key of a node's metadata with the version of its proxy.
pub const VERSION: &str = "ISTIO_VERSION";

impl Filter {
    /// Reads an object. What cannot be read is left out, and said in [`Filter::findings`].
    pub fn read(object: &Object<EnvoyFilter>) -> Self {
        let spec = &object.spec;
        let mut findings = Vec::new();
        for (index, target) in spec.target_refs.iter().enumerate() {
            if target.kind != "Gateway" {
                findings.push((
                    format!("spec.targetRefs[{index}]"),
                    format!("a {} cannot be patched yet; the target has no effect", target.kind),
                ));
            }
        }
        let patches = spec.config_patches.iter().enumerate();
        Filter {
            namespace: object.meta.namespace.clone(),
            name: object.meta.name.clone(),
            selector: spec
                .workload_selector
                .as_ref()
                .map(|s| s.labels.clone())
                .unwrap_or_default(),
            targets: spec.target_refs.clone(),
            patches: patches.filter_map(|(i, p)| Patch::read(i, p, &mut findings)).collect(),
            findings,
        }
    }

    /// `EnvoyFilter shop/limits`, for messages.
    pub fn object(&self) -> String {
        format!("EnvoyFilter {}/{}", self.namespace, self.name)
    }

    /// Whether it is for a workload.
    pub fn takes(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        if self.targets.is_empty() {
            return selects(&self.selector, labels);
        }
        if self.namespace != namespace {
            return false;
        }
        let gateway = labels.get(GATEWAY_NAME);
        let mut gateways = self.targets.iter().filter(|t| t.kind == "Gateway");
        gateways.any(|t| gateway == Some(&t.name))
    }
}

impl Patch {
    fn read(index: usize, entry: &EnvoyConfigObjectPatch, findings: &mut Vec<(String, String)>) -> Option<Self> {
        let at = format!("spec.configPatches[{index}]");
        let mut say = |field: &str, message: String| findings.push((format!("{at}.{field}"), message));
        let Some(type_name) = type_of(entry.apply_to) else {
            say("applyTo", why_not(entry.apply_to).to_owned());
            return None;
        };
        let patch = entry.patch.as_ref()?;
        let matches = entry.r#match.clone().unwrap_or_default();
        if matches.context == PatchContext::Waypoint {
            let field = if matches.waypoint.is_some() {
                "match.waypoint"
            } else {
                "match.context"
            };
            say(
                field,
                "there are no waypoints to be patched; write GATEWAY or SIDECAR_…".to_owned(),
            );
            return None;
        }
        if patch.filter_class != FilterClass::Unspecified {
            say(
                "patch.filterClass",
                "has no effect, as in Istio; say the place with INSERT_BEFORE or INSERT_AFTER".to_owned(),
            );
        }
        let chain = matches.listener.as_ref().and_then(|l| l.filter_chain.as_ref());
        if chain.is_some_and(|c| !c.transport_socket.is_empty()) {
            say(
                "match.listener.filterChain.transportSocket",
                "has no effect, as in Istio; remove it, or write transportProtocol".to_owned(),
            );
        }
        let operation = operation(entry.apply_to, patch.operation);
        if let Some(message) = idle(entry.apply_to, operation, &matches) {
            say("patch.operation", message);
            return None;
        }
        let version = match matches.proxy.as_ref().map(|p| p.proxy_version.as_str()) {
            None | Some("") => None,
            Some(pattern) => match Regex::new(pattern) {
                Ok(regex) => Some(regex),
                Err(e) => {
                    say("match.proxy.proxyVersion", format!("{e}; the patch is not applied"));
                    return None;
                }
            },
        };
        let value = if operation == PatchOperation::Remove {
            None
        } else {
            let value = patch.value.clone().unwrap_or_default();
            match patch::read(Json::shared(), type_name, value) {
                Ok(value) => Some(value),
                Err(e) => {
                    say(
                        "patch.value",
                        format!("is no {type_name}, so the patch is not applied: {e}"),
                    );
                    return None;
                }
            }
        };
        let lacking = value.as_ref().map(|v| lacking(type_name, v)).unwrap_or_default();
        for (path, reason) in &lacking {
            let field = format!("patch.value.{path}");
            say(
                field.trim_end_matches('.'),
                format!(
                    "{reason} in mesh-proxy, so the patch is applied to Envoys only; take it out to have the rest in force"
                ),
            );
        }
        Some(Patch {
            index,
            apply_to: entry.apply_to,
            operation,
            matches,
            version,
            value,
            envoy_only: !lacking.is_empty(),
        })
    }
}

/// What a value sets and mesh-proxy does not have: path in the value, and what is the matter with it.
fn lacking(type_name: &str, value: &DynamicMessage) -> Vec<(String, String)> {
    let refused = supported::check(type_name, &value.encode_to_vec());
    refused.into_iter().map(|r| (r.path, r.message)).collect()
}

/// Envoy's message of what a patch changes; `None` where nothing is changed.
fn type_of(apply_to: ApplyTo) -> Option<&'static str> {
    Some(match apply_to {
        ApplyTo::Listener => "envoy.config.listener.v3.Listener",
        ApplyTo::ListenerFilter => "envoy.config.listener.v3.ListenerFilter",
        ApplyTo::FilterChain => "envoy.config.listener.v3.FilterChain",
        ApplyTo::NetworkFilter => "envoy.config.listener.v3.Filter",
        ApplyTo::HttpFilter => "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        ApplyTo::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
        ApplyTo::VirtualHost => "envoy.config.route.v3.VirtualHost",
        ApplyTo::HttpRoute => "envoy.config.route.v3.Route",
        ApplyTo::Cluster => "envoy.config.cluster.v3.Cluster",
        ApplyTo::Invalid | ApplyTo::ExtensionConfig | ApplyTo::Bootstrap => return None,
    })
}

fn why_not(apply_to: ApplyTo) -> &'static str {
    match apply_to {
        ApplyTo::ExtensionConfig => {
            "EXTENSION_CONFIG is not in force yet; write the extension into a patch of HTTP_FILTER"
        }
        ApplyTo::Bootstrap => "BOOTSTRAP is not in force: a proxy's bootstrap is made by its agent, from ProxyConfig",
        _ => "is missing; the patch has no effect",
    }
}

/// An insertion into what has no order is an addition.
fn operation(apply_to: ApplyTo, operation: PatchOperation) -> PatchOperation {
    use PatchOperation::{Add, InsertAfter, InsertBefore, InsertFirst};
    let ordered = matches!(
        apply_to,
        ApplyTo::HttpFilter | ApplyTo::NetworkFilter | ApplyTo::ListenerFilter | ApplyTo::HttpRoute
    );
    match operation {
        InsertBefore | InsertAfter | InsertFirst if !ordered => Add,
        other => other,
    }
}

/// Why a patch can never do anything.
fn idle(apply_to: ApplyTo, operation: PatchOperation, matches: &EnvoyConfigObjectMatch) -> Option<String> {
    use PatchOperation::{Invalid, Merge, MergeAndReplaceList, Remove, Replace};
    let listener = matches.listener.as_ref();
    let filter = listener
        .and_then(|l| l.filter_chain.as_ref())
        .and_then(|c| c.filter.as_ref());
    let named = match apply_to {
        ApplyTo::ListenerFilter => listener.is_some_and(|l| !l.listener_filter.is_empty()).then_some(""),
        ApplyTo::NetworkFilter => filter.is_some().then_some(""),
        ApplyTo::HttpFilter => filter.and_then(|f| f.sub_filter.as_ref()).map(|_| ""),
        _ => Some(""),
    };
    match operation {
        Invalid => Some("is missing; the patch has no effect".to_owned()),
        Remove | Replace if named.is_none() => Some(format!(
            "{operation} needs to be told which filter, so the patch has no effect; write {}",
            match apply_to {
                ApplyTo::ListenerFilter => "match.listener.listenerFilter",
                ApplyTo::NetworkFilter => "match.listener.filterChain.filter.name",
                _ => "match.listener.filterChain.filter.subFilter.name",
            }
        )),
        other if apply_to == ApplyTo::RouteConfiguration && !matches!(other, Merge | MergeAndReplaceList) => Some(
            format!("{other} does nothing to ROUTE_CONFIGURATION, as in Istio; only MERGE does"),
        ),
        _ => None,
    }
}
