//! The incremental protocol: one subscription a type, changes in both directions.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_api::envoy::pb::google::rpc::Status;

use super::update::{name_of, take};
use crate::snapshot::build::{Incoming, Update, Wants};
use crate::snapshot::config::Config;
use crate::snapshot::resources::Resources;

use super::client::{Dialect, INVALID_ARGUMENT, by_name, wildcards};
use super::target::Settings;

/// One stream's state.
#[derive(Debug)]
pub(super) struct Delta {
    /// Sent with the first message, then gone.
    node: Option<Node>,
    /// Names subscribed to, by type; wildcards are not in here.
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Delta {
    /// A new stream with what to send first.
    pub(super) fn open(
        settings: &Settings,
        resources: &Resources,
        wants: &Wants,
    ) -> (Self, Vec<DeltaDiscoveryRequest>) {
        let mut stream = Delta {
            node: Some(settings.node.clone()),
            subscribed: BTreeMap::new(),
        };
        let mut out = Vec::new();
        for type_url in wildcards(settings) {
            let held = held(resources, type_url, |_| true);
            out.push(stream.request(
                type_url,
                DeltaDiscoveryRequest {
                    initial_resource_versions: held,
                    ..DeltaDiscoveryRequest::default()
                },
            ));
        }
        out.extend(stream.follow(resources, wants).0);
        (stream, out)
    }

    fn request(&mut self, type_url: &str, request: DeltaDiscoveryRequest) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: self.node.take(),
            type_url: type_url.to_owned(),
            ..request
        }
    }
}

impl Dialect for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn follow(&mut self, resources: &Resources, wants: &Wants) -> (Vec<DeltaDiscoveryRequest>, Vec<Update>) {
        let mut out = Vec::new();
        let mut gone = Vec::new();
        for (type_url, wanted) in by_name(wants) {
            let first = !self.subscribed.contains_key(type_url);
            let before = self.subscribed.entry(type_url).or_default();
            let more: Vec<String> = wanted.difference(before).cloned().collect();
            let less: Vec<String> = before.difference(wanted).cloned().collect();
            if more.is_empty() && less.is_empty() {
                if first {
                    self.subscribed.remove(type_url);
                }
                continue;
            }
            before.clone_from(wanted);
            // Only the first request of a type may say what is held already.
            let held = if first {
                held(resources, type_url, |name| wanted.contains(name))
            } else {
                Default::default()
            };
            out.push(self.request(
                type_url,
                DeltaDiscoveryRequest {
                    resource_names_subscribe: more,
                    resource_names_unsubscribe: less.clone(),
                    initial_resource_versions: held,
                    ..DeltaDiscoveryRequest::default()
                },
            ));
            if !less.is_empty() {
                gone.push(Update {
                    type_url: type_url.to_owned(),
                    remove: less,
                    ..Update::default()
                });
            }
        }
        (out, gone)
    }

    fn answer(&mut self, response: DeltaDiscoveryResponse, config: &Config) -> DeltaDiscoveryRequest {
        let update = Update {
            type_url: response.type_url.clone(),
            set: response
                .resources
                .into_iter()
                .map(|r| {
                    let bytes = r.resource.map(|any| any.value).unwrap_or_default();
                    Incoming {
                        name: if r.name.is_empty() { name_of(&bytes) } else { r.name },
                        version: r.version,
                        bytes,
                    }
                })
                .collect(),
            remove: response.removed_resources,
            complete: false,
        };
        let error_detail = take(config, update).err().map(|message| Status {
            code: INVALID_ARGUMENT,
            message,
            details: Vec::new(),
        });
        self.request(
            &response.type_url,
            DeltaDiscoveryRequest {
                response_nonce: response.nonce,
                error_detail,
                ..DeltaDiscoveryRequest::default()
            },
        )
    }
}

/// Versions of what is held, so that only the difference is sent.
fn held(
    resources: &Resources,
    type_url: &str,
    wanted: impl Fn(&str) -> bool,
) -> std::collections::HashMap<String, String> {
    resources
        .all(type_url)
        .into_iter()
        .filter(|(name, r)| r.bytes.is_some() && !r.version.is_empty() && wanted(name))
        .map(|(name, r)| (name, r.version))
        .collect()
}
