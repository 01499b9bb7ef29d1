//! Settings of injection: the ConfigMap `istio-sidecar-injector` among the objects.

use std::sync::Arc;

use mesh_api::istio::AnyObject;

use super::{Diagnostic, Home, Loaded, Severity, object_name};
use crate::inject::Settings;

/// Its name, without a revision.
pub const CONFIG_MAP: &str = "istio-sidecar-injector";

/// The settings that were good last.
#[derive(Debug)]
pub struct InjectorSource {
    home: Home,
    /// What was read last, with what is wrong with it.
    read: Option<(Arc<AnyObject>, Vec<Diagnostic>)>,
    good: Option<Arc<Settings>>,
}

impl InjectorSource {
    /// The settings of one control plane.
    #[must_use]
    pub fn new(home: Home) -> Self {
        InjectorSource {
            home,
            read: None,
            good: None,
        }
    }

    /// Puts the settings in force beside the objects; none where there never were any that are good. What is wrong with them
    /// is added to the findings.
    pub fn load(&mut self, loaded: &mut Loaded) {
        match self.home.config_map(loaded, CONFIG_MAP) {
            None => {
                self.read = None;
                if self.good.is_some() {
                    let gone = self.finding("", "is gone; the last good settings stay in force", Severity::Error);
                    loaded.diagnostics.push(gone);
                }
            }
            Some(object) => {
                let known = self.read.as_ref().is_some_and(|(o, _)| Arc::ptr_eq(o, object));
                if !known {
                    let object = object.clone();
                    let findings = self.read(&object);
                    self.read = Some((object, findings));
                }
            }
        }
        let findings = self.read.iter().flat_map(|(_, findings)| findings);
        loaded.diagnostics.extend(findings.cloned());
        loaded.injector.clone_from(&self.good);
    }

    fn read(&mut self, object: &AnyObject) -> Vec<Diagnostic> {
        let AnyObject::ConfigMap(map) = object else {
            return Vec::new();
        };
        let data = map.object.data.as_ref();
        let text = |key: &str| data.and_then(|d| d.get(key)).map_or("", String::as_str);
        match Settings::parse(text("config"), text("values")) {
            Ok(settings) => {
                let findings = settings.warnings.iter();
                let findings = findings.map(|w| self.told(w, "", Severity::Warning)).collect();
                self.good = Some(Arc::new(settings));
                findings
            }
            Err(errors) => {
                let suffix = if self.good.is_some() {
                    "; the last good settings stay in force"
                } else {
                    "; no Pod can be injected until it is mended"
                };
                errors.iter().map(|e| self.told(e, suffix, Severity::Error)).collect()
            }
        }
    }

    /// Of a text that begins with the key and, as a rule, the path of a field in it.
    fn told(&self, text: &str, suffix: &str, severity: Severity) -> Diagnostic {
        let (key, rest) = text.split_once(": ").unwrap_or(("", text));
        let (field, message) = match rest.split_once(": ") {
            Some((path, message)) if !path.contains(' ') => (format!("data.{key}.{path}"), message),
            _ => (format!("data.{key}"), rest),
        };
        self.finding(&field, &format!("{message}{suffix}"), severity)
    }

    fn finding(&self, field: &str, message: &str, severity: Severity) -> Diagnostic {
        Diagnostic {
            file: std::path::PathBuf::new(),
            line: 0,
            object: object_name("ConfigMap", &self.home.namespace, &self.home.named(CONFIG_MAP)),
            field: field.to_owned(),
            message: message.to_owned(),
            severity,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::istio::parse;
    use serde_json::json;

    use super::*;

    fn loaded(config: &str, values: &str) -> Loaded {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio-sidecar-injector-canary", "namespace": "mesh"},
            "data": {"config": config, "values": values}});
        Loaded {
            objects: vec![Arc::new(parse("v1", "ConfigMap", map).expect("a ConfigMap"))],
            ..Loaded::default()
        }
    }

    fn lines(loaded: &Loaded) -> Vec<String> {
        loaded.diagnostics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn settings_stay_as_they_were_good_last_and_findings_name_the_field() {
        let mut source = InjectorSource::new(Home {
            namespace: "mesh".to_owned(),
            revision: "canary".to_owned(),
        });
        let mut load = |mut loaded: Loaded| {
            source.load(&mut loaded);
            (
                loaded.injector.as_ref().map(|s| s.values.global.hub.clone()),
                lines(&loaded),
            )
        };
        let broken = loaded("policy: perhaps", "");
        let (hub, found) = load(broken);
        assert_eq!((hub, found.len()), (None, 1));
        assert!(
            found[0].starts_with("ConfigMap mesh/istio-sidecar-injector-canary: data.config.policy: "),
            "{found:?}"
        );
        assert!(found[0].contains("no Pod can be injected"), "{found:?}");
        let good = loaded("", r#"{"global": {"hub": "h", "nativeNftables": true}}"#);
        let (hub, found) = load(good.clone());
        assert_eq!((hub.as_deref(), found.len()), (Some("h"), 1));
        assert!(found[0].contains(": data.values.global.nativeNftables: "), "{found:?}");
        assert_eq!(load(good).1, found, "said as long as it is so");
        let (hub, found) = load(loaded("[", r#"{"global": {"hub": "other"}}"#));
        assert_eq!(hub.as_deref(), Some("h"));
        assert!(
            found[0].contains(": data.config: is no YAML") && found[0].ends_with("stay in force"),
            "{found:?}"
        );
        let (hub, found) = load(Loaded::default());
        assert_eq!(hub.as_deref(), Some("h"));
        assert!(found[0].contains("is gone"), "{found:?}");
    }
}
