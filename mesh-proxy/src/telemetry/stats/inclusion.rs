//! Which statistics are shown (`stats_config.stats_matcher`).

use regex::Regex;

/// A list of what is shown; without any rule everything is.
#[derive(Debug, Default)]
pub struct Inclusion {
    /// `prefix`.
    pub prefixes: Vec<String>,
    /// `suffix`.
    pub suffixes: Vec<String>,
    /// `safe_regex`, on the whole name.
    pub patterns: Vec<Regex>,
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
        }
    }

    /// Whether a statistic of this name is shown.
    pub fn shows(&self, name: &str) -> bool {
        let no_rule = self.prefixes.is_empty() && self.suffixes.is_empty() && self.patterns.is_empty();
        no_rule
            || self.prefixes.iter().any(|p| name.starts_with(p.as_str()))
            || self.suffixes.iter().any(|s| name.ends_with(s.as_str()))
            || self.patterns.iter().any(|r| r.is_match(name))
    }
}

#[cfg(test)]
mod tests {
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
}
