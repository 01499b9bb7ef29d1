//! What a conversion may ask for beside the message, and what it found out the object depends on.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_api::envoy::pb::envoy::config::core::v3 as core;

use super::invalid::{Invalid, Result};
use super::secret::Secrets;

/// What an object depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deps {
    /// Secrets by name, each once. Few, and the same in thousands of clusters: the names are shared.
    pub(super) secrets: Vec<Arc<str>>,
    /// Those of them that come over ADS.
    pub(super) ads_secrets: Vec<Arc<str>>,
    /// Route tables by name.
    pub(super) routes: BTreeSet<String>,
    /// Clusters that routes name.
    pub(super) clusters: BTreeSet<String>,
    /// Name of the endpoints (EDS).
    pub(super) endpoints: Option<String>,
}

/// Given to conversions.
pub(super) struct Context<'a> {
    pub(super) secrets: &'a mut Secrets,
    pub(super) deps: Deps,
}

impl<'a> Context<'a> {
    pub(super) fn new(secrets: &'a mut Secrets) -> Self {
        Context {
            secrets,
            deps: Deps::default(),
        }
    }

    /// Only ADS is implemented as a source of dynamic resources.
    pub(super) fn needs_ads(&self, source: Option<&core::ConfigSource>) -> Result<()> {
        use core::config_source::ConfigSourceSpecifier;
        match source.and_then(|s| s.config_source_specifier.as_ref()) {
            Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
            Some(_) => Err(Invalid::new("only ads is implemented")),
            None => Err(Invalid::new("a source is required (ads)")),
        }
    }

    /// Notes a secret; gives its name as it is shared.
    pub(super) fn needs_secret(&mut self, name: &str, over_ads: bool) -> Arc<str> {
        let name = self.secrets.shared_name(name);
        let lists = [(true, &mut self.deps.secrets), (over_ads, &mut self.deps.ads_secrets)];
        for (_, list) in lists.into_iter().filter(|(on, _)| *on) {
            if !list.contains(&name) {
                list.push(name.clone());
            }
        }
        name
    }

    pub(super) fn needs_routes(&mut self, name: &str) -> Arc<str> {
        self.deps.routes.insert(name.to_owned());
        name.into()
    }
}
