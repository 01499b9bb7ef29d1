//! What a proxy holds beside what the control plane has for it.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use similar::TextDiff;

use crate::cluster::target::Target;
use crate::cluster::{Cluster, ClusterOptions};
use crate::control::Replica;
use crate::dump::Dump;
use crate::envoy_json::camel_case;
use crate::proxy::Place;

/// Lines around a difference.
const CONTEXT: usize = 7;

/// A kind of resource: word, section, list of what came from the control plane, field of the message, its type.
struct Kind {
    word: &'static str,
    section: &'static str,
    list: &'static str,
    field: &'static str,
    type_name: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        word: "Clusters",
        section: "ClustersConfigDump",
        list: "dynamic_active_clusters",
        field: "cluster",
        type_name: "envoy.config.cluster.v3.Cluster",
    },
    Kind {
        word: "Listeners",
        section: "ListenersConfigDump",
        list: "dynamic_listeners",
        field: "listener",
        type_name: "envoy.config.listener.v3.Listener",
    },
    Kind {
        word: "Routes",
        section: "RoutesConfigDump",
        list: "dynamic_route_configs",
        field: "route_config",
        type_name: "envoy.config.route.v3.RouteConfiguration",
    },
];

pub(super) async fn run(
    target: &Target,
    place: &Place,
    replicas: &[Replica],
    options: &ClusterOptions,
) -> Result<String> {
    let (pod, proxy) = match place.given() {
        Some(proxy) => (target.named(options)?, proxy),
        None => {
            let cluster = Cluster::connect(options).await.context(
                "where is the proxy? (of a mesh without Kubernetes: give --proxy ADDRESS, or a saved dump with --file)",
            )?;
            let pod = target.pod(&cluster).await?;
            (pod.clone(), place.of_pod(cluster, pod))
        }
    };
    let path = format!("/debug/config_dump?proxyID={pod}");
    let mut wanted = None;
    for replica in replicas {
        let reply = replica.page(&path).await?;
        // The proxy may be connected to another replica.
        if reply.status != http::StatusCode::NOT_FOUND {
            let value = reply.json().with_context(|| replica.name())?;
            if !value["configs"].is_array() {
                bail!(
                    "{} answers no configuration dump as Envoy has it: it is older than meshctl; upgrade it",
                    replica.name()
                );
            }
            wanted = Some(Dump::of(value));
            break;
        }
    }
    let Some(wanted) = wanted else {
        bail!("no proxy of {pod} is connected to the control plane; `meshctl proxy-status` lists those that are");
    };
    let held = Dump::of_proxy(&proxy).await?;
    Ok(differences(&wanted, &held))
}

/// A line for each kind that is equal, and what differs for the others.
pub(super) fn differences(wanted: &Dump, held: &Dump) -> String {
    let mut out = String::new();
    for kind in &KINDS {
        let (wanted, held_text) = (lines(wanted, kind), lines(held, kind));
        let word = kind.word;
        if wanted == held_text {
            let loaded = loaded_at(held, kind);
            out.push_str(&match loaded {
                Some(at) if word == "Routes" => format!("{word} Match (RDS last loaded at {at})\n"),
                _ => format!("{word} Match\n"),
            });
            continue;
        }
        let diff = TextDiff::from_lines(&wanted, &held_text);
        let mut unified = diff.unified_diff();
        unified
            .context_radius(CONTEXT)
            .header(&format!("Istiod {word}"), &format!("Envoy {word}"));
        out.push_str(&unified.to_string());
    }
    out
}

fn elements<'a>(dump: &'a Dump, kind: &Kind) -> Vec<&'a Value> {
    let list = kind.list;
    let all = dump.elements(kind.section).filter(move |(name, _)| *name == list);
    all.map(|(_, element)| {
        if element["active_state"].is_object() {
            &element["active_state"]
        } else {
            element
        }
    })
    .collect()
}

/// All messages of a kind as text, by name.
fn lines(dump: &Dump, kind: &Kind) -> String {
    let mut all: Vec<&Value> = elements(dump, kind).into_iter().map(|e| &e[kind.field]).collect();
    all.sort_by_key(|m| m["name"].as_str().unwrap_or_default());
    all.into_iter()
        .map(|message| format!("{:#}\n", camel_case(kind.type_name, message)))
        .collect()
}

fn loaded_at(dump: &Dump, kind: &Kind) -> Option<String> {
    let times = elements(dump, kind)
        .into_iter()
        .filter_map(|e| e["last_updated"].as_str());
    times.max().map(str::to_owned)
}
