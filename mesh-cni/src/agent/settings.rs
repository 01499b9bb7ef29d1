//! Settings of the node agent: the variables that the chart sets.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the agent does and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder of network configurations, as this process sees it (`MOUNTED_CNI_NET_DIR`).
    pub net_dir: PathBuf,
    /// Folder of plugins, as this process sees it (`MOUNTED_CNI_BIN_DIR`).
    pub bin_dir: PathBuf,
    /// Folder that node and agent see under the same name, for the plugin's credentials.
    pub run_dir: PathBuf,
    /// File to add the plugin to; `None` for the first in the folder (`CNI_CONF_NAME`).
    pub conf_name: Option<String>,
    /// Add the plugin to the network's own configuration; else a file of its own (`CHAINED_CNI_PLUGIN`).
    pub chained: bool,
    /// `EXCLUDED_NAMESPACES`.
    pub excluded_namespaces: Vec<String>,
    /// Namespace of the agent (`POD_NAMESPACE`).
    pub namespace: String,
    /// Node (`NODE_NAME`).
    pub node: String,
    /// `MESH_LOG`.
    pub log_level: String,
    /// The API server, as nodes and pods reach it: `https://HOST:PORT`.
    pub api_server: String,
    /// Folder of this pod's token and roots.
    pub service_account: PathBuf,
    /// The node's `/proc`.
    pub proc_dir: PathBuf,
    /// Pods that started without capture; `None` to leave them.
    pub repair: Option<Repair>,
    /// Taint of nodes whose agent is not ready (`TAINT_KEY`); `None` for none.
    pub taint: Option<String>,
}

/// What becomes of a pod that failed its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The init container that checks.
    pub init_container: String,
    /// The way.
    pub action: Action,
}

/// Ways to mend a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the rules into the pod that is there; its check passes when the kubelet runs it again.
    Rules,
    /// Delete it, so that its controller makes another one.
    Delete,
    /// Label it for others to see.
    Label {
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
}

impl Settings {
    /// Reads the variables.
    ///
    /// # Errors
    /// Each one that cannot be used.
    pub fn read(vars: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let get = |name: &str| vars.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
        let or = |name: &str, default: &str| get(name).unwrap_or(default).to_owned();
        let mut on = |name: &str, default: bool| match get(name) {
            None => default,
            Some("true") => true,
            Some("false") => false,
            Some(other) => {
                errors.push(format!("{name}: expected true or false, found {other:?}"));
                default
            }
        };
        let chained = on("CHAINED_CNI_PLUGIN", true);
        let repairing = on("REPAIR_ENABLED", true);
        let ways = [
            (on("REPAIR_REPAIR_PODS", true), Action::Rules),
            (on("REPAIR_DELETE_PODS", false), Action::Delete),
            (
                on("REPAIR_LABEL_PODS", false),
                Action::Label {
                    key: or("REPAIR_BROKEN_POD_LABEL_KEY", "cni.istio.io/uninitialized"),
                    value: or("REPAIR_BROKEN_POD_LABEL_VALUE", "true"),
                },
            ),
        ];
        let action = ways.into_iter().find_map(|(on, action)| on.then_some(action));
        let tainting = on("TAINT_ENABLED", false);
        let conf_name = get("CNI_CONF_NAME").map(str::to_owned);
        if conf_name.as_ref().is_some_and(|name| name.contains('/')) {
            errors.push("CNI_CONF_NAME: expected the name of a file, without its folder".to_owned());
        }
        let Some(node) = get("NODE_NAME") else {
            errors.push("NODE_NAME is not set".to_owned());
            return Err(errors);
        };
        let host = or("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc");
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = or("KUBERNETES_SERVICE_PORT", "443");
        let list = |text: &str| {
            text.split(',')
                .map(|n| n.trim().to_owned())
                .filter(|n| !n.is_empty())
                .collect()
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Settings {
            net_dir: or("MOUNTED_CNI_NET_DIR", "/host/etc/cni/net.d").into(),
            bin_dir: or("MOUNTED_CNI_BIN_DIR", "/host/opt/cni/bin").into(),
            run_dir: or("CNI_AGENT_RUN_DIR", "/var/run/istio-cni").into(),
            conf_name,
            chained,
            excluded_namespaces: list(&or("EXCLUDED_NAMESPACES", "kube-system")),
            namespace: or("POD_NAMESPACE", "istio-system"),
            node: node.to_owned(),
            log_level: or("MESH_LOG", "info"),
            api_server: format!("https://{host}:{port}"),
            service_account: or("SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount").into(),
            proc_dir: or("HOST_PROC_DIR", "/host/proc").into(),
            repair: action.filter(|_| repairing).map(|action| Repair {
                init_container: or("REPAIR_INIT_CONTAINER_NAME", "istio-validation"),
                action,
            }),
            taint: tainting.then(|| or("TAINT_KEY", "cni.istio.io/not-ready")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let all = vars.iter().chain(&[("NODE_NAME", "n1")]);
        Settings::read(&all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_charts_variables_are_in_force() {
        let found = read(&[
            ("CHAINED_CNI_PLUGIN", "false"),
            ("EXCLUDED_NAMESPACES", "kube-system, other"),
            ("REPAIR_REPAIR_PODS", "false"),
            ("REPAIR_LABEL_PODS", "true"),
            ("REPAIR_BROKEN_POD_LABEL_KEY", "a/b"),
            ("TAINT_ENABLED", "true"),
            ("KUBERNETES_SERVICE_HOST", "fd00::1"),
            ("KUBERNETES_SERVICE_PORT", "6443"),
        ])
        .expect("complete");
        assert!(!found.chained);
        assert_eq!(found.excluded_namespaces, ["kube-system", "other"]);
        assert_eq!(found.api_server, "https://[fd00::1]:6443");
        assert_eq!(found.taint.as_deref(), Some("cni.istio.io/not-ready"));
        let (key, value) = ("a/b".to_owned(), "true".to_owned());
        assert_eq!(found.repair.expect("enabled").action, Action::Label { key, value });
        assert_eq!(read(&[("REPAIR_ENABLED", "false")]).expect("complete").repair, None);
        assert_eq!(
            read(&[]).expect("complete").repair.expect("enabled").action,
            Action::Rules
        );
        let errors = read(&[("CHAINED_CNI_PLUGIN", "maybe"), ("CNI_CONF_NAME", "../x")]).expect_err("refused");
        assert_eq!(errors.len(), 2, "{errors:?}");
    }
}
