//! A proxy's configuration dump (`/config_dump?include_eds`), taken apart.

use serde_json::Value;

use crate::proxy::Proxy;

/// Everything that a proxy holds, endpoints too.
pub(crate) const PAGE: &str = "/config_dump?include_eds";

/// A configuration dump.
pub(crate) struct Dump(Value);

impl Dump {
    /// Asks a proxy.
    pub(crate) async fn of_proxy(proxy: &Proxy) -> anyhow::Result<Dump> {
        let value = proxy.page(PAGE).await?;
        if !value["configs"].is_array() {
            anyhow::bail!("{}: this is no configuration dump (it has no configs)", proxy.name());
        }
        Ok(Dump(value))
    }

    /// Of an answer that was got otherwise.
    pub(crate) fn of(value: Value) -> Dump {
        Dump(value)
    }

    /// All of it, as it came.
    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// The sections of a type, such as `ClustersConfigDump`.
    pub(crate) fn sections<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let suffix = format!(".{name}");
        let sections = self.0["configs"].as_array().into_iter().flatten();
        sections.filter(move |s| s["@type"].as_str().is_some_and(|t| t.ends_with(&suffix)))
    }

    /// The resources of one section, static and dynamic: the values under `inner` (or under `active_state` and `inner`).
    pub(crate) fn resources<'a>(&'a self, section: &str, inner: &'a str) -> Vec<&'a Value> {
        self.elements(section)
            .map(|(_, item)| {
                if item["active_state"].is_object() {
                    &item["active_state"]
                } else {
                    item
                }
            })
            .map(|item| &item[inner])
            .filter(|resource| resource.is_object())
            .collect()
    }

    /// The elements of a section's lists, each with the name of its list.
    pub(crate) fn elements<'a>(&'a self, section: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let fields = self.sections(section).filter_map(Value::as_object).flatten();
        fields.flat_map(|(list, items)| {
            let items = items.as_array().into_iter().flatten();
            items.map(move |item| (list.as_str(), item))
        })
    }
}
