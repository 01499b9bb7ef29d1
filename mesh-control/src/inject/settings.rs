//! The injector's settings: the ConfigMap `istio-sidecar-injector`, key `config`.

use std::collections::BTreeMap;

use mesh_api::k8s::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use super::selector;
use super::values::Values;

/// Built-in templates.
pub const SIDECAR: &str = "sidecar";
/// As [`SIDECAR`].
pub const GATEWAY: &str = "gateway";

/// Everything that injection is told by its ConfigMap.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is done with Pods that do not say.
    pub policy: Policy,
    /// Templates of Pods that name none.
    pub default_templates: Vec<String>,
    /// Templates beside the built-in ones, or in their place.
    pub templates: BTreeMap<String, Template>,
    /// Names for several templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Pods that are injected whatever the policy is.
    pub always: Vec<LabelSelector>,
    /// Pods that are never injected; wins over `always`.
    pub never: Vec<LabelSelector>,
    /// Annotations that injected Pods get.
    pub annotations: BTreeMap<String, String>,
    /// Values of the chart.
    pub values: Values,
    /// What is set and has no effect: one text each, which begins with the field's path.
    pub warnings: Vec<String>,
}

/// What is done with Pods that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Injected.
    #[default]
    Enabled,
    /// Left alone.
    Disabled,
}

/// A template of the user.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// Fields that are laid over the Pod.
    Fields(Value),
    /// Written in Go's template language, which is not run here.
    Go,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    policy: Policy,
    default_templates: Option<Vec<String>>,
    templates: Option<BTreeMap<String, Value>>,
    aliases: Option<BTreeMap<String, Vec<String>>>,
    always_inject_selector: Option<Vec<LabelSelector>>,
    never_inject_selector: Option<Vec<LabelSelector>>,
    injected_annotations: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            policy: Policy::Enabled,
            default_templates: None,
            templates: None,
            aliases: None,
            always_inject_selector: None,
            never_inject_selector: None,
            injected_annotations: None,
            unknown: BTreeMap::new(),
        }
    }
}

impl Default for Settings {
    /// Those of the chart without any value set.
    fn default() -> Self {
        Settings {
            policy: Policy::Enabled,
            default_templates: vec![SIDECAR.to_owned()],
            templates: BTreeMap::new(),
            aliases: BTreeMap::new(),
            always: Vec::new(),
            never: Vec::new(),
            annotations: BTreeMap::new(),
            values: Values::of_the_chart(),
            warnings: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads both keys of the ConfigMap: `config` (YAML) and `values` (JSON or YAML).
    ///
    /// # Errors
    /// One text for each thing that cannot be read, which begins with the key and the field's path.
    pub fn parse(config: &str, values: &str) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let config: Config = read("config", config).unwrap_or_else(|e| {
            errors.push(e);
            Config::default()
        });
        let values: Values = read("values", values).unwrap_or_else(|e| {
            errors.push(e);
            Values::default()
        });
        let mut warnings: Vec<String> = config
            .unknown
            .keys()
            .map(|field| format!("config: {field}: is not known and has no effect"))
            .collect();
        warnings.extend(values.idle().map(|text| format!("values: {text}")));
        let mut templates = BTreeMap::new();
        for (name, template) in config.templates.unwrap_or_default() {
            match template_of(&template) {
                Ok(Template::Go) if matches!(name.as_str(), SIDECAR | GATEWAY) => {
                    warnings.push(format!(
                        "config: templates.{name}: is written in Go's template language, which is not run; the built-in one is used"
                    ));
                }
                Ok(read) => {
                    if read == Template::Go {
                        warnings.push(format!(
                            "config: templates.{name}: is written in Go's template language, which is not run; Pods that ask for it are refused. Write plain YAML"
                        ));
                    }
                    templates.insert(name, read);
                }
                Err(e) => errors.push(format!("config: templates.{name}: {e}")),
            }
        }
        let (always, never) = (
            config.always_inject_selector.unwrap_or_default(),
            config.never_inject_selector.unwrap_or_default(),
        );
        for (field, list) in [("alwaysInjectSelector", &always), ("neverInjectSelector", &never)] {
            for (index, problem) in list
                .iter()
                .enumerate()
                .filter_map(|(i, s)| Some((i, selector::problem(s)?)))
            {
                warnings.push(format!("config: {field}[{index}]: {problem}; it selects nothing"));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let default_templates = config.default_templates.filter(|list| !list.is_empty());
        Ok(Settings {
            policy: config.policy,
            default_templates: default_templates.unwrap_or_else(|| vec![SIDECAR.to_owned()]),
            templates,
            aliases: config.aliases.unwrap_or_default(),
            always,
            never,
            annotations: config.injected_annotations.unwrap_or_default(),
            values,
            warnings,
        })
    }

    /// Names of templates that a Pod can ask for.
    pub(super) fn known(&self) -> Vec<&str> {
        let own = self.templates.keys().map(String::as_str);
        let mut all: Vec<&str> = [GATEWAY, SIDECAR].into_iter().chain(own).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn template_of(value: &Value) -> Result<Template, String> {
    let fields = match value {
        Value::String(text) if text.contains("{{") => return Ok(Template::Go),
        Value::String(text) => yaml(text)?,
        other => other.clone(),
    };
    match fields {
        Value::Object(_) => Ok(Template::Fields(fields)),
        Value::Null => Ok(Template::Fields(Value::Object(serde_json::Map::new()))),
        _ => Err("must be a Pod's fields: metadata and spec".to_owned()),
    }
}

fn read<T: for<'de> Deserialize<'de>>(key: &str, text: &str) -> Result<T, String> {
    let mut value: Value = if text.trim().is_empty() {
        Value::Null
    } else {
        yaml(text).map_err(|e| format!("{key}: {e}"))?
    };
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    // `field:` without a value is a field that is not set.
    without_nulls(&mut value);
    serde_path_to_error::deserialize(value).map_err(|e| match e.path().to_string().as_str() {
        "." | "" => format!("{key}: {}", e.inner()),
        path => format!("{key}: {path}: {}", e.inner()),
    })
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// One document; `on` and `yes` are words here, as for the objects of a folder.
pub(super) fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| format!("is no YAML: {}", e.to_string().lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_written_is_the_default() {
        let settings = Settings::parse("", "{}").expect("settings");
        assert_eq!(settings.policy, Policy::Enabled);
        assert_eq!(settings.default_templates, ["sidecar"]);
        assert_eq!(settings.known(), ["gateway", "sidecar"]);
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let config = "policy: disabled\ntemplate: x\ntemplates:\n  sidecar: 'spec: {{ .Values }}'\n  mine: |\n    metadata: {labels: {a: b}}\n  theirs: '{{ x }}'\nneverInjectSelector: [{matchExpressions: [{key: a, operator: Is}]}]\n";
        let values = r#"{"global": {"sts": {"servicePort": 15463}, "tag": 1.5, "nativeNftables": true}}"#;
        let settings = Settings::parse(config, values).expect("settings");
        assert_eq!(settings.policy, Policy::Disabled);
        assert_eq!(settings.values.global.tag, "1.5");
        assert_eq!(settings.known(), ["gateway", "mine", "sidecar", "theirs"]);
        let starts: Vec<&str> = settings
            .warnings
            .iter()
            .map(|w| w.split(": ").nth(1).unwrap_or_default())
            .collect();
        assert_eq!(
            starts,
            [
                "template",
                "global.sts.servicePort",
                "global.nativeNftables",
                "templates.sidecar",
                "templates.theirs",
                "neverInjectSelector[0]"
            ]
        );
    }

    #[test]
    fn errors_name_the_field() {
        for (config, values, expected) in [
            ("policy: on", "", "config: policy: "),
            ("policy: [", "", "config: is no YAML"),
            ("templates: {a: [1]}", "", "config: templates.a: must be"),
            (
                "",
                r#"{"global": {"proxy": {"privileged": "no"}}}"#,
                "values: global.proxy.privileged: ",
            ),
        ] {
            let errors = Settings::parse(config, values).expect_err("refused");
            assert!(errors[0].starts_with(expected), "{errors:?}");
        }
    }
}
