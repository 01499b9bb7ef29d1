//! Injection, compared with files that a reader can check.
//!
//! `tests/inject/CASE.yaml` is a text for `kube-inject`; its first lines may say `# native: true`, `# values: JSON`, `# config: JSON`
//! and `# mesh: JSON`. `CASE.out.yaml` begins with what people are told. The labs' manifests are cases too, with their output in
//! `tests/inject/labs`. `UPDATE_GOLDEN=1` writes all output anew.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_api::k8s::PodSpec;
use mesh_api::mesh_config::MeshConfig;
use mesh_control::inject::document::inject_documents;
use mesh_control::inject::values::Values;
use mesh_control::inject::{Injector, Settings};
use serde_json::Value;

struct Case {
    input: PathBuf,
    output: PathBuf,
    text: String,
    settings: Settings,
    mesh: MeshConfig,
    native: bool,
}

impl Case {
    fn read(input: PathBuf, output: PathBuf) -> Self {
        let text = fs::read_to_string(&input).expect("the case");
        let said = |name: &str| {
            let mut lines = text.lines().take_while(|line| line.starts_with('#'));
            lines
                .find_map(|line| line.strip_prefix(&format!("# {name}: ")))
                .unwrap_or_default()
        };
        let mut settings = Settings::parse(said("config"), said("values")).expect("settings");
        assert!(
            settings.warnings.len() <= 1,
            "{}: {:?}",
            input.display(),
            settings.warnings
        );
        if said("values").is_empty() {
            settings.values = Values::of_the_chart();
        }
        // The version of this program is no part of what is tested.
        if settings.values.global.tag == Values::default().global.tag {
            settings.values.global.tag = "TAG".to_owned();
        }
        Case {
            mesh: MeshConfig::from_yaml(said("mesh")).expect("settings of the mesh"),
            native: said("native") == "true",
            settings,
            input,
            output,
            text,
        }
    }

    fn inject(&self, text: &str) -> Result<(String, Vec<String>), String> {
        let injector = Injector {
            settings: &self.settings,
            mesh: &self.mesh,
            proxy_configs: &[],
            native_sidecars: self.native,
        };
        inject_documents(&injector, "", text).map(|done| (done.text, done.messages))
    }

    fn expected(&self) -> String {
        match self.inject(&self.text) {
            Ok((text, messages)) => {
                let said: String = messages.iter().map(|m| format!("# SAID {m}\n")).collect();
                said + &text
            }
            Err(error) => format!("# REFUSED {error}\n"),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject")
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let wanted = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.ends_with(".yaml") && !name.ends_with(".out.yaml")
    };
    let mut files: Vec<PathBuf> = paths.filter(wanted).collect();
    files.sort();
    files
}

fn cases() -> Vec<Case> {
    let own = yaml_files(&folder());
    assert!(own.len() >= 40, "{} cases", own.len());
    let mut all: Vec<Case> = own
        .into_iter()
        .map(|input| {
            let output = input.with_extension("out.yaml");
            Case::read(input, output)
        })
        .collect();
    let labs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/labs");
    for chapter in ["services", "ch3", "ch6"] {
        for input in yaml_files(&labs.join(chapter)) {
            if fs::read_to_string(&input).expect("a lab").contains("kind: Deployment") {
                let name = input.file_name().expect("a name");
                let output = folder().join("labs").join(name).with_extension("out.yaml");
                all.push(Case::read(input, output));
            }
        }
    }
    all
}

#[test]
fn output_is_as_written_down() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let text = case.expected();
        let before = fs::read_to_string(&case.output).unwrap_or_default();
        if before == text {
            continue;
        }
        if update {
            fs::create_dir_all(case.output.parent().expect("a folder")).expect("a folder");
            fs::write(&case.output, &text).expect("written");
            continue;
        }
        let line = before
            .lines()
            .zip(text.lines())
            .position(|(a, b)| a != b)
            .unwrap_or_default();
        let found = text.lines().nth(line).unwrap_or_default();
        wrong.push(format!("{}: line {}: found {found:?}", case.output.display(), line + 1));
    }
    assert!(
        wrong.is_empty(),
        "these differ; look at the change and run UPDATE_GOLDEN=1 cargo test -p mesh-control --test inject:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn output_is_injected_no_further() {
    for case in cases() {
        let Ok((once, _)) = case.inject(&case.text) else {
            continue;
        };
        let (twice, _) = case.inject(&once).expect("injected again");
        let read = |text: &str| serde_saphyr::from_multiple::<Value>(text).expect("YAML");
        assert!(read(&once) == read(&twice), "{}", case.input.display());
    }
}

/// All specs of Pods in an object.
fn specs<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "spec" && value.get("containers").is_some() {
                    out.push(value);
                }
                specs(value, out);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| specs(v, out)),
        _ => {}
    }
}

#[test]
fn output_is_what_kubernetes_takes() {
    for case in cases() {
        let Ok((text, _)) = case.inject(&case.text) else {
            continue;
        };
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        let mut found = Vec::new();
        documents.iter().for_each(|d| specs(d, &mut found));
        assert!(!found.is_empty(), "{}", case.input.display());
        for spec in found {
            let spec: PodSpec = serde_json::from_value(spec.clone()).expect("a spec");
            let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|v| v.name.as_str()).collect();
            let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
            for container in all() {
                for mount in container.volume_mounts.iter().flatten() {
                    assert!(
                        volumes.contains(&mount.name.as_str()),
                        "{}: {}",
                        case.input.display(),
                        mount.name
                    );
                }
                for var in container.env.iter().flatten() {
                    let places = var.value.is_some() && var.value_from.is_some();
                    assert!(!places, "{}: {}: two values", case.input.display(), var.name);
                }
            }
            let mut names: Vec<&str> = all().map(|c| c.name.as_str()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(
                names.len(),
                count,
                "{}: two containers of one name",
                case.input.display()
            );
        }
    }
}
