//! The ingress gateway, as the study notes make it reachable.

use anyhow::{Context as _, Result};

use crate::kube::run::Turn;

/// Its Service.
pub(super) const SERVICE: &str = "istio-ingressgateway";

/// Where it listens on its node.
pub(super) struct Ingress {
    pub(super) node: String,
    pub(super) http: u64,
    pub(super) https: u64,
}

impl Ingress {
    /// The Service becomes a NodePort with 30000 for HTTP. Every scenario that asks the gateway does so first: the ports
    /// stay, whichever of them comes first.
    pub(super) fn open(turn: &Turn<'_>) -> Result<Ingress> {
        let system = turn.system();
        let ports = r#"{"spec": {"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30000}]}}"#;
        let policy = r#"{"spec":{"externalTrafficPolicy": "Local"}}"#;
        for patch in [ports, policy] {
            system.run(&["patch", "svc", SERVICE, "-p", patch])?;
        }
        let pods = system.get(&["pods", "-l", "istio=ingressgateway"])?;
        let node = pods["items"][0]["status"]["hostIP"]
            .as_str()
            .context("the gateway's pod has no node")?;
        let service = system.get(&["service", SERVICE])?;
        let port = |number: u64| {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let mut ports = ports.filter(|p| p["port"].as_u64() == Some(number));
            let port = ports.next().and_then(|p| p["nodePort"].as_u64());
            port.with_context(|| format!("the gateway's Service has no NodePort for {number}: {service}"))
        };
        Ok(Ingress {
            node: node.to_owned(),
            http: port(80)?,
            https: port(443)?,
        })
    }

    /// `http://NODE:PORT`.
    pub(super) fn url(&self) -> String {
        format!("http://{}:{}", self.node, self.http)
    }

    /// What `curl --resolve` wants, so that a name means the gateway.
    pub(super) fn resolve(&self, host: &str) -> String {
        format!("{host}:{}:{}", self.https, self.node)
    }
}
