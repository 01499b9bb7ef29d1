//! Rules of EnvoyFilter.

use super::common;
use crate::istio::{
    ApplyTo, EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilter, Patch, PatchContext, PatchOperation,
    error::{At, Findings},
};

pub(super) fn check(spec: &EnvoyFilter, at: &At<'_>, f: &mut Findings) {
    common::workload_labels(&at.field("workloadSelector"), spec.workload_selector.as_ref(), f);
    common::targets(at, spec.workload_selector.is_some(), None, &spec.target_refs, f);
    if spec.config_patches.is_empty() {
        f.warning(&at.field("configPatches"), "is empty; the object has no effect");
    }
    for (i, entry) in spec.config_patches.iter().enumerate() {
        config_patch(&at.field("configPatches").index(i), entry, f);
    }
}

fn config_patch(at: &At<'_>, entry: &EnvoyConfigObjectPatch, f: &mut Findings) {
    if entry.apply_to == ApplyTo::Invalid {
        f.error(
            &at.field("applyTo"),
            "is missing; write what is patched, such as HTTP_FILTER or CLUSTER",
        );
    }
    match &entry.patch {
        None => f.error(&at.field("patch"), "is missing; write an operation and a value"),
        Some(value) => patch(&at.field("patch"), value, entry.apply_to, f),
    }
    if let Some(value) = &entry.r#match {
        conditions(&at.field("match"), value, entry.apply_to, f);
    }
}

fn patch(at: &At<'_>, patch: &Patch, apply_to: ApplyTo, f: &mut Findings) {
    use ApplyTo as A;
    let operation = patch.operation;
    let at_operation = at.field("operation");
    match operation {
        PatchOperation::Invalid => f.error(
            &at_operation,
            "is missing; write MERGE, ADD, REMOVE, INSERT_BEFORE, INSERT_AFTER, INSERT_FIRST or REPLACE",
        ),
        PatchOperation::InsertBefore | PatchOperation::InsertAfter | PatchOperation::InsertFirst
            if !matches!(
                apply_to,
                A::HttpFilter | A::NetworkFilter | A::ListenerFilter | A::HttpRoute | A::Invalid
            ) =>
        {
            f.warning(
                &at_operation,
                format!("{operation} has no place among {apply_to}; it works as ADD"),
            );
        }
        PatchOperation::Replace
            if !matches!(
                apply_to,
                A::HttpFilter | A::NetworkFilter | A::ListenerFilter | A::VirtualHost | A::Invalid
            ) =>
        {
            f.error(
                &at_operation,
                format!("REPLACE does not work on {apply_to}; use REMOVE and ADD, or MERGE"),
            );
        }
        _ => {}
    }
    let needs_value = !matches!(operation, PatchOperation::Remove | PatchOperation::Invalid);
    match &patch.value {
        None if needs_value => f.error(
            &at.field("value"),
            format!("is missing; {operation} needs the JSON of an Envoy message"),
        ),
        Some(value) if !value.is_object() => f.error(&at.field("value"), "must be the fields of an Envoy message"),
        Some(_) if operation == PatchOperation::Remove => f.warning(&at.field("value"), "has no effect with REMOVE"),
        _ => {}
    }
}

fn conditions(at: &At<'_>, value: &EnvoyConfigObjectMatch, apply_to: ApplyTo, f: &mut Findings) {
    use ApplyTo as A;
    let objects = [
        ("listener", value.listener.is_some()),
        ("routeConfiguration", value.route_configuration.is_some()),
        ("cluster", value.cluster.is_some()),
        ("waypoint", value.waypoint.is_some()),
    ];
    let set: Vec<&str> = objects.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    if set.len() > 1 {
        f.error(at, format!("only one of {} can be set", set.join(", ")));
    }
    let fitting = match apply_to {
        A::Listener | A::FilterChain | A::NetworkFilter | A::HttpFilter | A::ListenerFilter => Some("listener"),
        A::RouteConfiguration | A::VirtualHost | A::HttpRoute => Some("routeConfiguration"),
        A::Cluster => Some("cluster"),
        A::Invalid | A::ExtensionConfig | A::Bootstrap => None,
    };
    let waypoint = value.context == PatchContext::Waypoint;
    if let (Some(fitting), [name]) = (fitting, set.as_slice())
        && !(*name == fitting || (waypoint && *name == "waypoint"))
    {
        f.error(
            &at.field(name),
            format!("does not choose among {apply_to}; write {fitting}"),
        );
    }
    if value.waypoint.is_some() && !waypoint {
        f.error(&at.field("waypoint"), "needs context: WAYPOINT");
    }
    if let Some(proxy) = &value.proxy {
        common::regex(&at.field("proxy").field("proxyVersion"), &proxy.proxy_version, f);
    }
    if let Some(listener) = &value.listener {
        let at = at.field("listener");
        common::optional_port(&at.field("portNumber"), listener.port_number, f);
        if !listener.port_name.is_empty() {
            f.warning(&at.field("portName"), "has no effect, as in Istio; write portNumber");
        }
        if let Some(chain) = &listener.filter_chain {
            common::optional_port(
                &at.field("filterChain").field("destinationPort"),
                chain.destination_port,
                f,
            );
        }
    }
    if let Some(routes) = &value.route_configuration {
        common::optional_port(
            &at.field("routeConfiguration").field("portNumber"),
            routes.port_number,
            f,
        );
    }
    if let Some(cluster) = &value.cluster {
        common::optional_port(&at.field("cluster").field("portNumber"), cluster.port_number, f);
    }
}
