//! Reading and compiling a case.

#[path = "envoy.rs"]
pub(crate) mod envoy;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_api::envoy::ProtoValue;
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use mesh_api::istio::{self, AnyObject};
use mesh_api::names::NodeId;
use mesh_control::cli_compile;
use mesh_control::compile::{Compiled, Proxy, compile};
use mesh_control::store::{MeshConfig, Store};

/// One folder.
pub(crate) struct Case {
    pub(crate) folder: PathBuf,
    pub(crate) proxy: Proxy,
    pub(crate) objects: Vec<Arc<AnyObject>>,
    pub(crate) mesh: Arc<MeshConfig>,
}

impl Case {
    pub(crate) fn read(folder: &Path) -> Self {
        let path = folder.join("input.yaml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let said = |key: &str| -> Vec<String> {
            let mark = format!("# {key}: ");
            text.lines()
                .filter_map(|l| l.strip_prefix(&mark))
                .map(str::to_owned)
                .collect()
        };
        let pair = |line: &String| {
            let (key, value) = line.split_once('=').expect("KEY=VALUE");
            (key.to_owned(), value.to_owned())
        };
        let id = NodeId::parse(&said("node")[0]).expect("the case's node");
        let labels: BTreeMap<String, String> = said("label").iter().map(pair).collect();
        let mut proxy = Proxy::new(id, labels);
        for (key, value) in said("meta").iter().map(pair) {
            let value = ProtoValue {
                kind: Some(Kind::StringValue(value)),
            };
            proxy.metadata.fields.insert(key, value);
        }
        proxy.envoy = said("agent").iter().any(|agent| agent == "envoy");
        let mesh = said("mesh");
        Case {
            folder: folder.to_owned(),
            proxy,
            objects: documents(&text, &path),
            mesh: Arc::new(mesh_config(&mesh)),
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::build(self.objects.iter().cloned(), self.mesh.clone())
    }

    pub(crate) fn compiled(&self) -> Compiled {
        compile(&self.store(), &self.proxy)
    }

    /// The output of `mesh-control compile`, and its warnings.
    pub(crate) fn compile(&self) -> (String, String) {
        let (output, warnings) = cli_compile::run(&self.store(), &self.proxy, false).expect("compile");
        (output, warnings.iter().map(|w| format!("{w}\n")).collect())
    }
}

fn mesh_config(lines: &[String]) -> MeshConfig {
    let text: String = lines.iter().map(|l| l.replacen('=', ": ", 1) + "\n").collect();
    MeshConfig::from_yaml(&text).expect("the case's mesh configuration")
}

fn documents(text: &str, path: &Path) -> Vec<Arc<AnyObject>> {
    let mut objects = Vec::new();
    for document in text.split("\n---\n") {
        if document.lines().all(|l| l.trim().is_empty() || l.starts_with('#')) {
            continue;
        }
        let value: serde_json::Value =
            serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{}: {e}\n{document}", path.display()));
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let mut object = istio::parse(&field("apiVersion"), &field("kind"), value.clone())
            .unwrap_or_else(|e| panic!("{}: {e:?}\n{document}", path.display()));
        if object.namespace().is_empty() {
            object.set_namespace("default");
        }
        let errors: Vec<_> = object
            .validate()
            .into_iter()
            .filter(istio::FieldError::is_error)
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}\n{document}", path.display());
        objects.push(Arc::new(object));
    }
    objects
}
