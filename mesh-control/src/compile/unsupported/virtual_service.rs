//! VirtualServices.

use mesh_api::istio::VirtualService;

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
    fields(name, spec, |path| of_list(VIRTUAL_SERVICE, path))
}
