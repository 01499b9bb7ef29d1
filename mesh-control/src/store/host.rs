//! Host names as Istio's objects write them: short names, wildcards, visibility.

use mesh_api::names;

/// Domain of the cluster, the end of every service's name.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Completes a short name with the namespace of the object that has it; other names stay as they are.
pub fn resolve(host: &str, namespace: &str) -> String {
    if host.is_empty() || host.contains('.') || host.contains('*') || host.parse::<std::net::IpAddr>().is_ok() {
        host.to_owned()
    } else {
        names::service_fqdn(host, namespace, CLUSTER_DOMAIN)
    }
}

/// Completes the name of a Gateway to `namespace/name`; `mesh` stays.
pub fn resolve_gateway(name: &str, namespace: &str) -> String {
    if name == names::MESH_GATEWAY || name.contains('/') {
        match name.strip_prefix("./") {
            Some(rest) => format!("{namespace}/{rest}"),
            None => name.to_owned(),
        }
    } else {
        format!("{namespace}/{name}")
    }
}

/// Whether a pattern (`*`, `*.example.org` or a name) covers a host, which may be a pattern itself.
pub fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.strip_prefix('*').unwrap_or(host).ends_with(suffix),
        None => pattern == host,
    }
}

/// Whether two patterns have a host in common.
pub fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// The more specific of two patterns that overlap.
pub fn narrower<'a>(a: &'a str, b: &'a str) -> &'a str {
    if covers(a, b) { b } else { a }
}

/// How specific a pattern is: names before wildcards, long wildcards before short ones.
pub fn specificity(pattern: &str) -> (bool, usize) {
    (!pattern.starts_with('*'), pattern.len())
}

/// Whether an object of one namespace with this `exportTo` is seen in another; `default` is the mesh's own setting.
pub fn visible(export_to: &[String], default: &[String], own: &str, viewer: &str) -> bool {
    let list = if export_to.is_empty() { default } else { export_to };
    list.is_empty()
        || list
            .iter()
            .any(|e| e == "*" || e == viewer || (e == "." && own == viewer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_names_are_completed() {
        assert_eq!(resolve("catalog", "shop"), "catalog.shop.svc.cluster.local");
        for same in ["a.b", "*", "*.example.org", "10.0.0.1", ""] {
            assert_eq!(resolve(same, "shop"), same);
        }
        assert_eq!(resolve_gateway("gw", "shop"), "shop/gw");
        assert_eq!(resolve_gateway("./gw", "shop"), "shop/gw");
        assert_eq!(resolve_gateway("mesh", "shop"), "mesh");
    }

    #[test]
    fn wildcards_cover_what_ends_like_them() {
        assert!(covers("*", "a.b"));
        assert!(covers("*.b", "a.b"));
        assert!(covers("*.b", "*.a.b"));
        assert!(!covers("*.a.b", "*.b"));
        assert!(!covers("*.b", "b"));
        assert_eq!(narrower("*.b", "a.b"), "a.b");
        assert!(specificity("a.b") > specificity("*.long.example.org"));
    }

    #[test]
    fn visibility_follows_export_to() {
        let own = [".".to_owned()];
        assert!(visible(&[], &[], "a", "b"));
        assert!(!visible(&own, &[], "a", "b"));
        assert!(visible(&own, &[], "a", "a"));
        assert!(!visible(&[], &own, "a", "b"));
        assert!(visible(&["b".to_owned()], &own, "a", "b"));
    }
}
