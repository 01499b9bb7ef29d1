//! Which statistics are shown (`stats_config.stats_matcher`).

use mesh_api::envoy::pb::envoy::config::metrics::v3::StatsConfig;
use mesh_api::envoy::pb::envoy::config::metrics::v3::stats_matcher::StatsMatcher as Matcher;
use mesh_api::envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use regex::Regex;

/// A list of what is shown; without any rule everything is.
#[derive(Debug, Default)]
pub struct Inclusion {
    /// `exact`.
    pub names: Vec<String>,
    /// `prefix`.
    pub prefixes: Vec<String>,
    /// `suffix`.
    pub suffixes: Vec<String>,
    /// `contains`.
    pub parts: Vec<String>,
    /// `safe_regex`, on the whole name.
    pub patterns: Vec<Regex>,
    /// `exclusion_list`: what the rules name is hidden, all else is shown.
    pub inverted: bool,
    /// `reject_all`.
    pub nothing: bool,
}

impl Inclusion {
    /// What a sidecar of Istio shows when nothing else is asked for: a pod calls hundreds of services, and a dozen
    /// numbers for each of them is more than most Prometheus servers want.
    pub fn istio_default() -> Self {
        let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        Inclusion {
            prefixes: owned(&[
                "reporter=",
                "cluster_manager",
                "listener_manager",
                "server",
                "cluster.xds-grpc",
                "wasm",
                "component",
                "istio",
            ]),
            suffixes: owned(&[
                "rbac.allowed",
                "rbac.denied",
                "shadow_allowed",
                "shadow_denied",
                "downstream_cx_active",
            ]),
            patterns: Regex::new(r"^vhost\..*\.route\..*$").into_iter().collect(),
            ..Inclusion::default()
        }
    }

    /// What a bootstrap says; `None` when it says nothing.
    ///
    /// # Errors
    /// The path of what is not implemented or malformed.
    pub fn from_config(config: &StatsConfig) -> Result<Option<Self>, String> {
        let Some(matcher) = config.stats_matcher.as_ref().and_then(|m| m.stats_matcher.as_ref()) else {
            return Ok(None);
        };
        let (list, field, inverted) = match matcher {
            Matcher::RejectAll(nothing) => {
                return Ok(Some(Inclusion {
                    nothing: *nothing,
                    ..Inclusion::default()
                }));
            }
            Matcher::InclusionList(list) => (list, "inclusion_list", false),
            Matcher::ExclusionList(list) => (list, "exclusion_list", true),
        };
        let mut all = Inclusion {
            inverted,
            ..Inclusion::default()
        };
        for (i, pattern) in list.patterns.iter().enumerate() {
            let fail = |why: &str| format!("stats_config.stats_matcher.{field}.patterns[{i}]: {why}");
            if pattern.ignore_case {
                return Err(fail("ignore_case is not implemented here"));
            }
            match &pattern.match_pattern {
                Some(MatchPattern::Exact(text)) => all.names.push(text.clone()),
                Some(MatchPattern::Prefix(text)) => all.prefixes.push(text.clone()),
                Some(MatchPattern::Suffix(text)) => all.suffixes.push(text.clone()),
                Some(MatchPattern::Contains(text)) => all.parts.push(text.clone()),
                Some(MatchPattern::SafeRegex(matcher)) => {
                    let anchored = format!("^(?:{})$", matcher.regex);
                    let pattern = Regex::new(&anchored).map_err(|error| fail(&error.to_string()))?;
                    all.patterns.push(pattern);
                }
                _ => {
                    return Err(fail(
                        "only exact, prefix, suffix, contains and safe_regex are implemented",
                    ));
                }
            }
        }
        Ok(Some(all))
    }

    /// Whether a statistic of this name is shown.
    pub fn shows(&self, name: &str) -> bool {
        let fits = self.names.iter().any(|n| n == name)
            || self.prefixes.iter().any(|p| name.starts_with(p.as_str()))
            || self.suffixes.iter().any(|s| name.ends_with(s.as_str()))
            || self.parts.iter().any(|p| name.contains(p.as_str()))
            || self.patterns.iter().any(|r| r.is_match(name));
        let no_rule = self.names.is_empty()
            && self.prefixes.is_empty()
            && self.suffixes.is_empty()
            && self.parts.is_empty()
            && self.patterns.is_empty();
        !self.nothing && (no_rule || fits != self.inverted)
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::envoy::pb::envoy::config::metrics::v3::StatsMatcher;
    use mesh_api::envoy::pb::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher};

    use super::*;

    #[test]
    fn istio_shows_little() {
        let all = Inclusion::default();
        let istio = Inclusion::istio_default();
        for (name, shown) in [
            ("cluster.xds-grpc.upstream_rq_total", true),
            ("cluster.outbound|80||a.b;.upstream_rq_total", false),
            ("listener.0.0.0.0_15006.downstream_cx_active", true),
            ("listener.0.0.0.0_15006.downstream_cx_total", false),
            ("server.live", true),
            ("vhost.a.route.b.upstream_rq_total", true),
        ] {
            assert!(all.shows(name));
            assert_eq!(istio.shows(name), shown, "{name}");
        }
    }

    #[test]
    fn a_bootstrap_may_choose() {
        let config = |matcher| StatsConfig {
            stats_matcher: Some(StatsMatcher {
                stats_matcher: Some(matcher),
            }),
            ..StatsConfig::default()
        };
        let pattern = |match_pattern| StringMatcher {
            match_pattern: Some(match_pattern),
            ..StringMatcher::default()
        };
        let list = || ListStringMatcher {
            patterns: vec![
                pattern(MatchPattern::Prefix("cluster.".to_owned())),
                pattern(MatchPattern::Contains("_rq_".to_owned())),
            ],
        };
        let read = |config: &StatsConfig| {
            Inclusion::from_config(config)
                .expect("well formed")
                .expect("it says something")
        };
        let only = read(&config(Matcher::InclusionList(list())));
        let without = read(&config(Matcher::ExclusionList(list())));
        let nothing = read(&config(Matcher::RejectAll(true)));
        for (name, listed) in [
            ("cluster.a.x", true),
            ("http.a.downstream_rq_total", true),
            ("server.live", false),
        ] {
            assert_eq!((only.shows(name), without.shows(name)), (listed, !listed), "{name}");
            assert!(!nothing.shows(name));
        }
        assert!(Inclusion::from_config(&StatsConfig::default()).is_ok_and(|i| i.is_none()));
        let mut odd = list();
        odd.patterns[1].ignore_case = true;
        let error = Inclusion::from_config(&config(Matcher::InclusionList(odd))).expect_err("not implemented");
        assert!(error.contains("inclusion_list.patterns[1]"), "{error}");
    }
}
