//! Which pods are to be captured, and how: what the injector wrote into the Pod, read as istio-cni does.

use std::collections::BTreeMap;

use serde::Deserialize;

const PROXY: &str = "istio-proxy";
const INIT: &str = "istio-init";
const VALIDATION: &str = "istio-validation";
const STATUS: &str = "sidecar.istio.io/status";
const INJECT: &str = "sidecar.istio.io/inject";
const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";

/// The user that the proxy runs as where the Pod names none, and with TPROXY.
const USER: u32 = 1337;
/// Ports of the proxy's own pages, never captured.
const OWN_PORTS: [u16; 3] = [15020, 15021, 15090];

/// The part of a Pod that decides.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: String,
    args: Vec<String>,
    env: Vec<Variable>,
    security_context: Option<SecurityContext>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SecurityContext {
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
}

/// What becomes of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing, and why.
    Skip(&'static str),
    /// Rules are written with these flags of `mesh-init`.
    Capture(Vec<String>),
}

impl Pod {
    /// Decides. Every value goes behind its flag as one word, so that no annotation can bring a flag of its own.
    pub fn decide(&self) -> Decision {
        let all = || self.spec.containers.iter().chain(&self.spec.init_containers);
        let Some(proxy) = all().find(|c| c.name == PROXY) else {
            return Decision::Skip("it has no container istio-proxy");
        };
        let annotation = |name: &str| self.metadata.annotations.get(name).map(|v| v.trim());
        let variable = |name: &str| {
            let found = proxy.env.iter().find(|v| v.name == name);
            found.and_then(|v| v.value.as_deref()).unwrap_or_default()
        };
        let inject = self
            .metadata
            .labels
            .get(INJECT)
            .map(String::as_str)
            .or(annotation(INJECT));
        let role = proxy
            .args
            .iter()
            .position(|a| a == "proxy")
            .and_then(|at| proxy.args.get(at + 1));
        let mode = annotation(INTERCEPTION_MODE)
            .filter(|m| !m.is_empty())
            .unwrap_or("REDIRECT");
        let skip = [
            (self.spec.host_network, "it is in the node's network"),
            (all().any(|c| c.name == INIT), "its container istio-init does it"),
            (inject == Some("false"), "sidecar.istio.io/inject is false"),
            (annotation(STATUS).is_none(), "it was not injected"),
            (role.is_some_and(|r| r != "sidecar"), "its proxy is no sidecar"),
            (!variable("DISABLE_ENVOY").is_empty(), "it has no proxy (DISABLE_ENVOY)"),
            (mode == "NONE", "its interception mode is NONE"),
        ];
        if let Some((_, why)) = skip.into_iter().find(|(is, _)| *is) {
            return Decision::Skip(why);
        }
        let traffic = |name: &str, default: &str| {
            let found = annotation(&format!("traffic.sidecar.istio.io/{name}"));
            found.unwrap_or(default).to_owned()
        };
        let mut excluded = OWN_PORTS.map(|p| p.to_string()).to_vec();
        excluded.extend(Some(traffic("excludeInboundPorts", "")).filter(|ports| !ports.is_empty()));
        let (uid, gid) = owner(proxy, mode);
        let ports = self.listener_ports();
        let mut out: Vec<String> = [
            ("--envoy-port", ports.0.to_string()),
            ("--inbound-capture-port", ports.1.to_string()),
            ("--proxy-uid", uid.to_string()),
            ("--proxy-gid", gid.to_string()),
            ("--istio-inbound-interception-mode", mode.to_owned()),
            ("--istio-inbound-ports", traffic("includeInboundPorts", "*")),
            ("--istio-local-exclude-ports", excluded.join(",")),
            ("--istio-service-cidr", traffic("includeOutboundIPRanges", "*")),
            ("--istio-service-exclude-cidr", traffic("excludeOutboundIPRanges", "")),
            ("--istio-outbound-ports", traffic("includeOutboundPorts", "")),
            (
                "--istio-local-outbound-ports-exclude",
                traffic("excludeOutboundPorts", ""),
            ),
            ("--istio-exclude-interfaces", traffic("excludeInterfaces", "")),
            (
                "--kube-virt-interfaces",
                annotation("istio.io/reroute-virtual-interfaces")
                    .map_or_else(|| traffic("kubevirtInterfaces", ""), str::to_owned),
            ),
        ]
        .into_iter()
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect();
        for (name, flags) in [
            // The pod's resolv.conf is not to be seen from the node.
            ("ISTIO_META_DNS_CAPTURE", &["--redirect-dns", "--capture-all-dns"][..]),
            ("INVALID_DROP", &["--drop-invalid"]),
            ("ISTIO_DUAL_STACK", &["--dual-stack"]),
        ] {
            if variable(name).eq_ignore_ascii_case("true") {
                out.extend(flags.iter().map(|f| (*f).to_owned()));
            }
        }
        Decision::Capture(out)
    }

    /// Ports of the proxy's two listeners: the mesh's settings, which stand in the arguments of the check.
    fn listener_ports(&self) -> (u16, u16) {
        let validation = self.spec.init_containers.iter().find(|c| c.name == VALIDATION);
        let port = |flag: &str, default: u16| {
            let args = validation.map_or(&[][..], |c| &c.args);
            let at = args.iter().position(|a| a == flag);
            let value = at.and_then(|at| args.get(at + 1)).and_then(|v| v.parse().ok());
            value.unwrap_or(default)
        };
        (port("-p", 15001), port("-z", 15006))
    }
}

/// User and group of the proxy. Root's packets cannot be told from the application's; with TPROXY the proxy is root, and
/// told by its group.
fn owner(proxy: &Container, mode: &str) -> (u32, u32) {
    let id = |id: Option<i64>| {
        id.and_then(|id| u32::try_from(id).ok())
            .filter(|id| *id != 0)
            .unwrap_or(USER)
    };
    let context = proxy.security_context.clone().unwrap_or_default();
    if mode == "TPROXY" {
        return (USER, USER);
    }
    let uid = id(context.run_as_user);
    (uid, id(context.run_as_group.or(context.run_as_user)))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::{Cli, Surroundings};
    use crate::config::{Interception, Owner, Ports};

    type Change = fn(&mut Value);

    fn injected(change: impl FnOnce(&mut Value)) -> Decision {
        let mut pod = json!({
            "metadata": {
                "labels": {"app": "web"},
                "annotations": {
                    "sidecar.istio.io/status": "{}",
                    "sidecar.istio.io/interceptionMode": "REDIRECT",
                    "traffic.sidecar.istio.io/includeInboundPorts": "*",
                    "traffic.sidecar.istio.io/excludeInboundPorts": "22,15020",
                    "traffic.sidecar.istio.io/includeOutboundIPRanges": "*",
                },
            },
            "spec": {
                "initContainers": [{"name": "istio-validation", "args": ["-p", "15001", "-z", "15006"]}],
                "containers": [
                    {"name": "web"},
                    {
                        "name": "istio-proxy", "args": ["proxy", "sidecar"],
                        "env": [{"name": "POD_NAME", "valueFrom": {}}],
                        "securityContext": {"runAsUser": 1337, "runAsGroup": 1337},
                    },
                ],
            },
        });
        change(&mut pod);
        serde_json::from_value::<Pod>(pod).expect("a Pod").decide()
    }

    fn config(decision: &Decision) -> crate::Config {
        let Decision::Capture(flags) = decision else {
            panic!("{decision:?}")
        };
        let words = std::iter::once("mesh-init").chain(flags.iter().map(String::as_str));
        let cli = Cli::try_parse_from(words).expect("flags");
        cli.config(&Surroundings::default()).expect("valid")
    }

    #[test]
    fn an_injected_pod_is_captured_as_its_init_container_would_do_it() {
        let found = config(&injected(|_| {}));
        assert_eq!(found.owners, [Owner::Uid(1337), Owner::Gid(1337)]);
        assert_eq!(found.inbound_include, Ports::All);
        assert_eq!(found.inbound_exclude, [15020, 15021, 15090, 22, 15020]);
        let found = config(&injected(|pod| {
            let annotations = &mut pod["metadata"]["annotations"];
            annotations["sidecar.istio.io/interceptionMode"] = json!("TPROXY");
            annotations["traffic.sidecar.istio.io/includeInboundPorts"] = json!("");
            annotations["traffic.sidecar.istio.io/excludeOutboundPorts"] = json!("25, 465");
            pod["spec"]["containers"][1]["securityContext"] = json!({"runAsUser": 0, "runAsGroup": 1337});
            pod["spec"]["containers"][1]["env"] = json!([{"name": "ISTIO_META_DNS_CAPTURE", "value": "true"}]);
            pod["spec"]["initContainers"][0]["args"] = json!(["-p", "16001", "-z", "16006"]);
        }));
        assert_eq!(found.interception, Interception::Tproxy);
        assert_eq!(found.owners, [Owner::Uid(1337), Owner::Gid(1337)]);
        assert_eq!((found.outbound_port, found.inbound_port), (16001, 16006));
        assert_eq!(found.inbound_include, Ports::List(Vec::new()));
        assert_eq!(found.outbound_exclude_ports, [25, 465]);
        assert_eq!(found.dns, crate::config::DnsCapture::All);
        let own = config(&injected(|pod| {
            pod["spec"]["containers"][1]["securityContext"] = json!({"runAsUser": 2000});
            // A native sidecar.
            let proxy = pod["spec"]["containers"][1].take();
            pod["spec"]["containers"] = json!([{"name": "web"}]);
            pod["spec"]["initContainers"] = json!([proxy]);
        }));
        assert_eq!(own.owners, [Owner::Uid(2000), Owner::Gid(2000)]);
    }

    #[test]
    fn pods_that_need_nothing_are_left_alone() {
        let cases: [(&str, Change); 8] = [
            ("no container", |p| {
                p["spec"]["containers"] = json!([{"name": "web"}]);
            }),
            ("istio-init", |p| {
                p["spec"]["initContainers"][0]["name"] = json!("istio-init");
            }),
            ("is false", |p| {
                p["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
            }),
            ("is false", |p| {
                p["metadata"]["annotations"]["sidecar.istio.io/inject"] = json!("false");
            }),
            ("not injected", |p| {
                p["metadata"]["annotations"] = json!({});
            }),
            ("no sidecar", |p| {
                p["spec"]["containers"][1]["args"] = json!(["proxy", "router"]);
            }),
            ("is NONE", |p| {
                p["metadata"]["annotations"]["sidecar.istio.io/interceptionMode"] = json!("NONE");
            }),
            ("node's network", |p| {
                p["spec"]["hostNetwork"] = json!(true);
            }),
        ];
        for (expected, change) in cases {
            let Decision::Skip(why) = injected(change) else {
                panic!("{expected}")
            };
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn annotations_bring_no_flags() {
        let decision = injected(|pod| {
            pod["metadata"]["annotations"]["traffic.sidecar.istio.io/includeOutboundIPRanges"] =
                json!("--network-namespace=/proc/1/ns/net");
        });
        let Decision::Capture(flags) = decision else {
            panic!("{decision:?}")
        };
        let words = std::iter::once("mesh-init").chain(flags.iter().map(String::as_str));
        let cli = Cli::try_parse_from(words).expect("one word each");
        assert_eq!(cli.network_namespace, None);
        assert!(cli.config(&Surroundings::default()).is_err(), "it is no range");
    }
}
