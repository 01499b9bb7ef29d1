//! Mesh-wide settings: from a file, or from the ConfigMap `istio` among the objects.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_api::istio::{AnyObject, FieldError};
use mesh_api::mesh_config::{CertificateData, MeshConfig};

use super::directory::{Lines, lines_of};
use super::{Diagnostic, Home, Loaded, Severity, object_name};
use crate::compile;

const CONFIG_MAP: &str = "istio";
const KEY: &str = "mesh";

/// Where the settings come from, with those that were good last.
#[derive(Debug)]
pub struct MeshSource {
    file: Option<PathBuf>,
    /// Of the ConfigMap.
    home: Home,
    /// Wins over that of the settings.
    trust_domain: Option<String>,
    /// Of the environment.
    exclude_unsafe_503: bool,
    good: Option<Arc<MeshConfig>>,
    /// Roots that the CA was started with.
    roots: Option<Vec<CertificateData>>,
}

impl MeshSource {
    /// Settings from `file`, or from the ConfigMap if there is none.
    pub fn new(file: Option<PathBuf>, trust_domain: Option<String>) -> Self {
        MeshSource {
            file,
            home: Home::default(),
            trust_domain,
            exclude_unsafe_503: false,
            good: None,
            roots: None,
        }
    }

    /// With the ConfigMap of this control plane.
    #[must_use]
    pub fn at(mut self, home: Home) -> Self {
        self.home = home;
        self
    }

    /// With or without retries of 503 where nobody says anything of retries.
    #[must_use]
    pub fn excluding_unsafe_503(mut self, exclude: bool) -> Self {
        self.exclude_unsafe_503 = exclude;
        self
    }

    /// The settings in force. What is wrong with them is added to the findings; then the last good ones stay, or the
    /// defaults where there were none.
    pub fn load(&mut self, loaded: &mut Loaded) -> Arc<MeshConfig> {
        let read = match &self.file {
            Some(file) => match std::fs::read_to_string(file) {
                Ok(text) => Some((text, Place::File(file.clone()))),
                Err(error) => {
                    let place = Place::File(file.clone());
                    loaded.diagnostics.push(place.finding(
                        loaded,
                        &Lines::default(),
                        "",
                        &format!("cannot be read: {error}"),
                        Severity::Error,
                    ));
                    return self.kept();
                }
            },
            None => self.config_map(loaded).map(|text| (text, self.place())),
        };
        // No settings at all are the defaults, also when there were some before.
        let (text, place) = read.unwrap_or_else(|| (String::new(), self.place()));
        let (lines, config) = match lines_of(&text) {
            Ok(lines) => (lines, MeshConfig::from_yaml(&text)),
            Err((line, message)) => {
                let finding = place.finding_at(loaded, line, "", &message, Severity::Error);
                loaded.diagnostics.push(finding);
                return self.kept();
            }
        };
        match config {
            Ok(mut config) => {
                let warnings: Vec<FieldError> = config.validate().into_iter().filter(|e| !e.is_error()).collect();
                place.report(loaded, &lines, &warnings, Severity::Warning);
                for warning in compile::unsupported_mesh(&config) {
                    if warnings.iter().all(|w| !w.path.starts_with(&warning.field)) {
                        let finding =
                            place.finding(loaded, &lines, &warning.field, &warning.message, Severity::Warning);
                        loaded.diagnostics.push(finding);
                    }
                }
                self.check_roots(&config, &place, &lines, loaded);
                config.exclude_unsafe_503 = self.exclude_unsafe_503;
                if let Some(name) = &self.trust_domain {
                    name.clone_into(&mut config.trust_domain);
                }
                if let Some(good) = self.good.as_mut().filter(|g| g.trust_domain != config.trust_domain) {
                    let text = format!("changing it from {} takes a restart of mesh-control", good.trust_domain);
                    let finding = place.finding(loaded, &lines, "trustDomain", &text, Severity::Error);
                    loaded.diagnostics.push(finding);
                    good.trust_domain.clone_into(&mut config.trust_domain);
                }
                match &self.good {
                    Some(good) if **good == config => {}
                    _ => self.good = Some(Arc::new(config)),
                }
            }
            Err(errors) => place.report(loaded, &lines, &errors, Severity::Error),
        }
        self.kept()
    }

    fn check_roots(&mut self, config: &MeshConfig, place: &Place, lines: &Lines, loaded: &mut Loaded) {
        let mut warn = |field: &str, text: &str| {
            let finding = place.finding(loaded, lines, field, text, Severity::Warning);
            loaded.diagnostics.push(finding);
        };
        for (index, certificate) in config.ca_certificates.iter().enumerate() {
            if certificate.spiffe_bundle_url.is_some() {
                let field = format!("caCertificates[{index}].spiffeBundleUrl");
                warn(&field, "bundles are not fetched yet; write the roots as pem");
            }
        }
        let roots = self.roots.get_or_insert_with(|| config.ca_certificates.clone());
        if *roots != config.ca_certificates {
            warn(
                "caCertificates",
                "the change takes effect with a restart of mesh-control",
            );
        }
    }

    fn config_map(&self, loaded: &Loaded) -> Option<String> {
        match self.home.config_map(loaded, CONFIG_MAP)?.as_ref() {
            AnyObject::ConfigMap(map) => map.object.data.as_ref()?.get(KEY).cloned(),
            _ => None,
        }
    }

    fn place(&self) -> Place {
        let name = self.home.named(CONFIG_MAP);
        Place::ConfigMap(object_name("ConfigMap", &self.home.namespace, &name))
    }

    fn kept(&mut self) -> Arc<MeshConfig> {
        let trust_domain = &self.trust_domain;
        let exclude_unsafe_503 = self.exclude_unsafe_503;
        let default = || {
            let mut config = MeshConfig {
                exclude_unsafe_503,
                ..MeshConfig::default()
            };
            if let Some(name) = trust_domain {
                name.clone_into(&mut config.trust_domain);
            }
            Arc::new(config)
        };
        self.good.get_or_insert_with(default).clone()
    }
}

enum Place {
    File(PathBuf),
    /// What it is called in findings.
    ConfigMap(String),
}

impl Place {
    fn report(&self, loaded: &mut Loaded, lines: &Lines, errors: &[FieldError], severity: Severity) {
        for error in errors {
            let field = if error.path == "." { "" } else { &error.path };
            let finding = self.finding(loaded, lines, field, &error.message, severity);
            loaded.diagnostics.push(finding);
        }
    }

    fn finding(&self, loaded: &Loaded, lines: &Lines, field: &str, message: &str, severity: Severity) -> Diagnostic {
        self.finding_at(loaded, lines.line_of(field), field, message, severity)
    }

    fn finding_at(&self, loaded: &Loaded, line: u32, field: &str, message: &str, severity: Severity) -> Diagnostic {
        match self {
            Place::File(file) => Diagnostic {
                file: file.clone(),
                line,
                object: "MeshConfig".to_owned(),
                field: field.to_owned(),
                message: message.to_owned(),
                severity,
            },
            Place::ConfigMap(object) => {
                let mut finding = loaded.places.diagnostic(object, "data.mesh", message, severity);
                // The settings are a block of text below their key.
                finding.line += line;
                if !field.is_empty() {
                    finding.field = format!("data.mesh.{field}");
                }
                finding
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::directory::Directory;

    fn lines(loaded: &Loaded) -> Vec<String> {
        let name = |d: &Diagnostic| {
            d.file
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        loaded
            .diagnostics
            .iter()
            .map(|d| format!("{}:{}: {}: {}", name(d), d.line, d.object, d.field))
            .collect()
    }

    #[test]
    fn the_config_map_counts_and_bad_settings_leave_the_last_good_ones() {
        let dir = tempfile::tempdir().expect("dir");
        let mut directory = Directory::new(dir.path());
        let mut source = MeshSource::new(None, None);
        let mut load = |mesh: &str| {
            let text = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n{mesh}"
            );
            std::fs::write(dir.path().join("m.yaml"), text).expect("written");
            let mut loaded = directory.load();
            let config = source.load(&mut loaded);
            (config, lines(&loaded))
        };
        let (_, found) = load("    proxyHttpPort: 15007\n");
        assert_eq!(
            found,
            ["m.yaml:6: ConfigMap istio-system/istio: data.mesh.proxyHttpPort"],
            "not in force yet"
        );
        let (config, found) = load("    connectTimeout: 3s\n    enableAutoMtls: false\n");
        assert_eq!(
            (config.connect_timeout.0.as_secs(), config.enable_auto_mtls, found),
            (3, false, vec![])
        );
        for (bad, line) in [
            (
                "    connectTimeout: 4s\n    enableAutoMtsl: false\n",
                "m.yaml:7: ConfigMap istio-system/istio: data.mesh.enableAutoMtsl",
            ),
            (
                "    connectTimeout: 4s\n    trustDomain: other\n",
                "m.yaml:7: ConfigMap istio-system/istio: data.mesh.trustDomain",
            ),
        ] {
            let (config, found) = load(bad);
            assert_eq!(found, [line]);
            assert_eq!(config.trust_domain, "cluster.local");
        }
        let (config, found) = load("    connectTimeout: [\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(config.connect_timeout.0.as_secs(), 4, "the last good settings");
    }

    #[test]
    fn what_the_environment_says_holds_with_settings_and_without() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("mesh.yaml");
        let mut source = MeshSource::new(Some(file.clone()), None).excluding_unsafe_503(true);
        assert!(
            source.load(&mut Loaded::default()).exclude_unsafe_503,
            "there is no file"
        );
        std::fs::write(&file, "connectTimeout: 3s\n").expect("written");
        let config = source.load(&mut Loaded::default());
        assert!(config.exclude_unsafe_503 && config.connect_timeout.0.as_secs() == 3);
    }

    #[test]
    fn a_file_counts_with_the_trust_domain_of_the_command_line() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("mesh.yaml");
        let mut source = MeshSource::new(Some(file.clone()), Some("td".to_owned()));
        let mut loaded = Loaded::default();
        assert_eq!(source.load(&mut loaded).trust_domain, "td");
        assert_eq!(lines(&loaded), ["mesh.yaml:0: MeshConfig: "]);
        std::fs::write(&file, "# mesh\ntrustDomain: other\nproxyListenPort: 1\n").expect("written");
        let mut loaded = Loaded::default();
        let config = source.load(&mut loaded);
        assert_eq!((config.trust_domain.as_str(), config.proxy_listen_port), ("td", 1));
        assert_eq!(lines(&loaded), [""; 0]);
    }
}
