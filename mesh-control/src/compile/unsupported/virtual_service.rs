//! VirtualServices.

use mesh_api::istio::{Headers, VirtualService};

use super::super::route::headers::misread;
use super::{Warning, fields, of_list};

const VIRTUAL_SERVICE: &[&str] = &[
    "hosts",
    "gateways",
    "exportTo",
    "http[].name",
    "http[].match[].name",
    "http[].match[].uri",
    "http[].match[].scheme",
    "http[].match[].method",
    "http[].match[].authority",
    "http[].match[].headers",
    "http[].match[].withoutHeaders",
    "http[].match[].queryParams",
    "http[].match[].port",
    "http[].match[].sourceLabels",
    "http[].match[].sourceNamespace",
    "http[].match[].gateways",
    "http[].match[].ignoreUriCase",
    "http[].delegate",
    "http[].route",
    "http[].redirect",
    "http[].directResponse",
    "http[].rewrite",
    "http[].timeout",
    "http[].retries.attempts",
    "http[].retries.perTryTimeout",
    "http[].retries.retryOn",
    "http[].retries.retryIgnorePreviousHosts",
    "http[].retries.backoff",
    "http[].fault.delay.fixedDelay",
    "http[].fault.delay.percentage",
    "http[].fault.delay.percent",
    "http[].fault.abort.httpStatus",
    "http[].fault.abort.grpcStatus",
    "http[].fault.abort.percentage",
    "http[].fault.abort.percent",
    "http[].match[].statPrefix",
    "http[].retries.retryRemoteLocalities",
    "http[].mirror",
    "http[].mirrors",
    "http[].mirrorPercent",
    "http[].mirrorPercentage",
    "http[].corsPolicy",
    "http[].headers",
    "tls",
    "tcp[].match[].destinationSubnets",
    "tcp[].match[].port",
    "tcp[].match[].sourceLabels",
    "tcp[].match[].sourceNamespace",
    "tcp[].match[].gateways",
    "tcp[].route",
];

pub(super) fn report(name: &str, spec: &VirtualService) -> Vec<Warning> {
    let mut found = unread(name, spec);
    for (index, rule) in spec.http.iter().enumerate() {
        let field = format!("spec.http[{index}]");
        operators(name, &format!("{field}.headers"), rule.headers.as_ref(), &mut found);
        for (number, destination) in rule.route.iter().enumerate() {
            let field = format!("{field}.route[{number}].headers");
            operators(name, &field, destination.headers.as_ref(), &mut found);
        }
    }
    found
}

/// Values of headers that are left out.
fn operators(name: &str, field: &str, headers: Option<&Headers>, found: &mut Vec<Warning>) {
    let sides = headers.map(|h| [("request", &h.request), ("response", &h.response)]);
    for (side, operations) in sides.into_iter().flatten() {
        let Some(operations) = operations else { continue };
        for (action, map) in [("set", &operations.set), ("add", &operations.add)] {
            for (header, value) in map {
                let Some(why) = misread(value) else { continue };
                found.push(Warning {
                    object: name.to_owned(),
                    field: format!("{field}.{side}.{action}.{header}"),
                    message: format!("{value:?} cannot be read, so the header stays as it is: {why}"),
                });
            }
        }
    }
}

fn unread(name: &str, spec: &VirtualService) -> Vec<Warning> {
    fields(name, spec, |path| of_list(VIRTUAL_SERVICE, path))
}
