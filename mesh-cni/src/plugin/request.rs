//! A call of the plugin: variables of the environment, and the configuration on standard input.

use serde::Deserialize;
use serde_json::{Value, json};

/// Versions of the specification that are understood: those whose results have a list of interfaces, or nothing of ours in
/// any case, since what other plugins said is passed on as it came.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// `CNI_*`.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_NETNS`.
    pub netns: Option<String>,
    /// `CNI_ARGS`.
    pub args: String,
}

impl Environment {
    /// Of this process; `None` if it was not started as a plugin.
    pub fn from_process() -> Option<Self> {
        let var = |name: &str| std::env::var(name).ok();
        Some(Environment {
            command: var("CNI_COMMAND")?,
            netns: var("CNI_NETNS").filter(|v| !v.is_empty()),
            args: var("CNI_ARGS").unwrap_or_default(),
        })
    }
}

/// Why a call fails, in the form of the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginError {
    /// Version of the caller's configuration; empty where it could not be read.
    pub version: String,
    /// 1-99 as the specification has them, 100 of our own.
    pub code: u32,
    /// What is wrong.
    pub message: String,
}

impl PluginError {
    fn new(code: u32, message: String) -> Self {
        PluginError {
            version: String::new(),
            code,
            message,
        }
    }

    pub(super) fn environment(message: String) -> Self {
        Self::new(4, message)
    }

    /// The runtime may try again.
    pub(super) fn later(message: String) -> Self {
        Self::new(11, message)
    }

    pub(super) fn failed(message: String) -> Self {
        Self::new(100, message)
    }
}

/// The configuration, as the node agent writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Conf {
    /// Version of the specification.
    #[serde(rename = "cniVersion", default)]
    pub version: String,
    /// How much is logged.
    #[serde(default)]
    pub log_level: Option<String>,
    /// Whom to ask for pods.
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// What the plugins before this one made.
    #[serde(rename = "prevResult", default)]
    pub previous: Option<Value>,
}

/// Whom to ask for pods, and for which not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kubernetes {
    /// File.
    pub kubeconfig: String,
    /// Pods in these are never captured.
    pub exclude_namespaces: Vec<String>,
    /// Namespace of the node agent.
    pub cni_namespace: String,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Configuration.
    pub conf: Conf,
    /// Network namespace of the pod.
    pub netns: Option<String>,
    /// Namespace and name of the pod; `None` for containers of others than Kubernetes.
    pub pod: Option<(String, String)>,
}

impl Request {
    /// Reads a call.
    ///
    /// # Errors
    /// When the configuration cannot be read, or is for a version that is not known.
    pub fn read(environment: &Environment, stdin: &str) -> Result<Self, PluginError> {
        let conf: Conf = serde_json::from_str(stdin)
            .map_err(|e| PluginError::new(6, format!("the configuration on standard input cannot be read: {e}")))?;
        if !VERSIONS.contains(&conf.version.as_str()) {
            return Err(PluginError {
                version: conf.version.clone(),
                ..PluginError::new(
                    1,
                    format!("cniVersion {:?} is not supported; {VERSIONS:?} are", conf.version),
                )
            });
        }
        let arg = |name: &str| {
            let pairs = environment.args.split(';').filter_map(|pair| pair.split_once('='));
            let value = pairs
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
                .next_back();
            value.filter(|v| !v.is_empty()).map(str::to_owned)
        };
        Ok(Request {
            conf,
            netns: environment.netns.clone(),
            pod: arg("K8S_POD_NAMESPACE").zip(arg("K8S_POD_NAME")),
        })
    }

    /// What the plugins before this one made, which stays as it is.
    pub fn result(&self) -> String {
        match &self.conf.previous {
            Some(previous) => previous.to_string(),
            None => json!({"cniVersion": self.conf.version}).to_string(),
        }
    }
}
