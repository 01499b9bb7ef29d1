//! Local rate limits.

use crate::support::{Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 4;

const LIMIT: &str = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

const ON: &str = "filter_enabled: {default_value: {numerator: 100}, runtime_key: a}, \
                  filter_enforced: {default_value: {numerator: 100}, runtime_key: b}";

const OBSERVED: &str = "filter_enabled: {default_value: {numerator: 100}, runtime_key: a}, \
                        filter_enforced: {default_value: {numerator: 0}, runtime_key: b}";

fn route(path: &str, fields: &str) -> String {
    format!(
        "- match: {{prefix: {path}}}\n  route: {{cluster: there}}\n  typed_per_filter_config: \
         {{envoy.filters.http.local_ratelimit: {{\"@type\": {LIMIT}, token_bucket: {{max_tokens: 2, tokens_per_fill: 1, \
         fill_interval: 3600s}}, {fields}}}}}\n"
    )
}

#[test]
fn local_rate_limit() {
    let setup = || Setup {
        filters: format!(
            "- {{name: envoy.filters.http.local_ratelimit, typed_config: {{\"@type\": {LIMIT}, stat_prefix: all}}}}\n"
        ),
        table: table(
            "response_headers_to_add: [{header: {key: x-host, value: \"yes\"}}]\n",
            &[
                route(
                    "/limited",
                    &format!(
                        "stat_prefix: lab, {ON}, response_headers_to_add: [{{header: {{key: x-by, value: limit}}}}]"
                    ),
                ),
                route(
                    "/status",
                    &format!("stat_prefix: status, {ON}, status: {{code: ServiceUnavailable}}"),
                ),
                route("/observed", &format!("stat_prefix: observed, {OBSERVED}")),
                "- {match: {prefix: /free}, route: {cluster: there}}\n".to_owned(),
            ]
            .concat(),
        ),
        clusters: vec![cluster("there", "", &[serve("there")])],
        ..Setup::default()
    };
    compare("local rate limits", BEHAVIOURS, setup, |proxy, seen| {
        for (name, path, stat) in [
            ("a local rate limit", "/limited", "lab"),
            ("a status of its own", "/status", "status"),
            ("observed only", "/observed", "observed"),
            ("no limit of the route", "/free", "all"),
        ] {
            let mut lines: Vec<_> = (0..4).flat_map(|_| proxy.ask(&get(path)).lines()).collect();
            lines.extend(proxy.stats(&format!("{stat}.http_local_rate_limit"), &[""]));
            seen.add(name, lines);
        }
    });
}
