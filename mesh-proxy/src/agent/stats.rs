//! Which statistics a pod wants to be shown beside Istio's: its annotations, else `proxyStatsMatcher`.

use std::net::IpAddr;

use mesh_api::envoy::pb::envoy::config::metrics::v3::stats_matcher::StatsMatcher as Matcher;
use mesh_api::envoy::pb::envoy::config::metrics::v3::{StatsConfig, StatsMatcher};
use mesh_api::envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use mesh_api::envoy::pb::envoy::r#type::matcher::v3::{ListStringMatcher, RegexMatcher, StringMatcher};
use regex::Regex;
use serde_json::{Map, Value};

use crate::telemetry::stats::Inclusion;

/// What the metadata of a node asks for; `None` when that is nothing.
pub(super) fn stats_config(metadata: &Map<String, Value>, ips: &[IpAddr]) -> Option<StatsConfig> {
    let mut wanted = Wanted::read(metadata, ips, &mut Vec::new());
    if wanted == Wanted::default() {
        return None;
    }
    // A list in the bootstrap stands in place of the built-in one, so that one belongs into it.
    let always = Inclusion::istio_default();
    wanted.prefixes.extend(always.prefixes);
    wanted.suffixes.extend(always.suffixes);
    wanted
        .patterns
        .extend(always.patterns.iter().map(|p| p.as_str().to_owned()));
    let regex = |regex| {
        MatchPattern::SafeRegex(RegexMatcher {
            regex,
            ..RegexMatcher::default()
        })
    };
    let patterns = wanted.prefixes.into_iter().map(MatchPattern::Prefix);
    let patterns = patterns.chain(wanted.suffixes.into_iter().map(MatchPattern::Suffix));
    let patterns = patterns.chain(wanted.patterns.into_iter().map(regex));
    let list = ListStringMatcher {
        patterns: patterns
            .map(|pattern| StringMatcher {
                match_pattern: Some(pattern),
                ..StringMatcher::default()
            })
            .collect(),
    };
    Some(StatsConfig {
        stats_matcher: Some(StatsMatcher {
            stats_matcher: Some(Matcher::InclusionList(list)),
        }),
        ..StatsConfig::default()
    })
}

/// What is asked for and has no effect.
pub(super) fn warnings(metadata: &Map<String, Value>, ips: &[IpAddr]) -> Vec<String> {
    let mut warnings = Vec::new();
    Wanted::read(metadata, ips, &mut warnings);
    for name in ["statsHistogramBuckets", "extraStatTags"] {
        let annotation = format!("sidecar.istio.io/{name}");
        if annotation_of(metadata, &annotation).is_some() {
            warnings.push(format!("annotation {annotation} is not implemented and has no effect"));
        }
    }
    warnings
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    prefixes: Vec<String>,
    suffixes: Vec<String>,
    patterns: Vec<String>,
}

impl Wanted {
    /// As in Istio, an annotation stands in place of its part of `proxyStatsMatcher`.
    fn read(metadata: &Map<String, Value>, ips: &[IpAddr], warnings: &mut Vec<String>) -> Self {
        let config = metadata.get("PROXY_CONFIG").and_then(|c| c.get("proxyStatsMatcher"));
        let mut read = |kind: &str| -> Vec<(String, String)> {
            let annotation = format!("sidecar.istio.io/statsInclusion{kind}");
            let field = format!("inclusion{kind}");
            let (from, texts) = match annotation_of(metadata, &annotation) {
                Some(list) => (
                    format!("annotation {annotation}"),
                    list.split(',').map(str::to_owned).collect(),
                ),
                None => {
                    let list = config.and_then(|c| c.get(&field));
                    let from = format!("PROXY_CONFIG: proxyStatsMatcher.{field}");
                    let texts = match list {
                        None => Vec::new(),
                        Some(Value::Array(all)) => all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
                        Some(other) => {
                            warnings.push(format!("{from}: expected a list of texts, found {other}"));
                            Vec::new()
                        }
                    };
                    (from, texts)
                }
            };
            let texts = texts.into_iter().map(|t: String| t.trim().to_owned());
            let texts = texts.filter(|t| !t.is_empty()).flat_map(|t| with_addresses(t, ips));
            texts.map(|text| (from.clone(), text)).collect()
        };
        let plain = |all: Vec<(String, String)>| all.into_iter().map(|(_, text)| text).collect();
        let (prefixes, suffixes) = (plain(read("Prefixes")), plain(read("Suffixes")));
        let patterns = read("Regexps");
        let valid = |(from, text): (String, String)| match Regex::new(&text) {
            Ok(_) => Some(text),
            Err(error) => {
                warnings.push(format!(
                    "{from}: {text:?} is no regular expression and left out: {error}"
                ));
                None
            }
        };
        Wanted {
            prefixes,
            suffixes,
            patterns: patterns.into_iter().filter_map(valid).collect(),
        }
    }
}

fn annotation_of<'a>(metadata: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    metadata
        .get("ANNOTATIONS")?
        .get(name)?
        .as_str()
        .filter(|v| !v.is_empty())
}

/// `{pod_ip}` stands for each of the pod's addresses.
fn with_addresses(text: String, ips: &[IpAddr]) -> Vec<String> {
    if text.contains("{pod_ip}") {
        ips.iter().map(|ip| text.replace("{pod_ip}", &ip.to_string())).collect()
    } else {
        vec![text]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(metadata: &Value) -> Option<Inclusion> {
        let ips = ["10.0.0.7".parse().expect("an address")];
        let metadata = metadata.as_object().expect("an object");
        let config = stats_config(metadata, &ips)?;
        Inclusion::from_config(&config).expect("well formed")
    }

    #[test]
    fn what_a_pod_asks_for_is_shown_beside_istios_list() {
        assert!(shown(&json!({})).is_none());
        let all = shown(&json!({
            "ANNOTATIONS": {
                "sidecar.istio.io/statsInclusionPrefixes": "cluster.outbound|80||a.b, http.{pod_ip}_",
                "sidecar.istio.io/statsInclusionRegexps": "x[0-9]+y",
            },
            "PROXY_CONFIG": {"proxyStatsMatcher": {
                "inclusionPrefixes": ["listener."],
                "inclusionSuffixes": ["upstream_rq_retry"],
            }},
        }))
        .expect("a list");
        for (name, is) in [
            ("cluster.outbound|80||a.b;.upstream_rq_total", true),
            ("http.10.0.0.7_8080.downstream_rq_total", true),
            ("cluster.c.upstream_rq_retry", true),
            ("x12y", true),
            // Istio's own.
            ("server.live", true),
            ("vhost.a.route.b.upstream_rq_total", true),
            // The annotation stands in place of the configuration's list.
            ("listener.0.0.0.0_15006.x", false),
            ("cluster.c.upstream_rq_total", false),
        ] {
            assert_eq!(all.shows(name), is, "{name}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let metadata = json!({
            "ANNOTATIONS": {
                "sidecar.istio.io/statsInclusionRegexps": "[",
                "sidecar.istio.io/statsHistogramBuckets": "{}",
            },
            "PROXY_CONFIG": {"proxyStatsMatcher": {"inclusionPrefixes": "one"}},
        });
        let found = warnings(metadata.as_object().expect("an object"), &[]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(shown(&metadata).is_none());
    }
}
