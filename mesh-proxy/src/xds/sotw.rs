//! The state-of-the-world protocol: each response of clusters and listeners holds all of them.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use mesh_api::envoy::pb::google::rpc::Status;
use mesh_api::envoy::type_url;

use super::client::{Dialect, INVALID_ARGUMENT, by_name, wildcards};
use super::target::Settings;
use super::update::{name_of, take};
use crate::snapshot::build::{Incoming, Update, Wants};
use crate::snapshot::config::Config;
use crate::snapshot::resources::Resources;

/// One stream's state.
#[derive(Debug)]
pub(super) struct StateOfTheWorld {
    node: Option<Node>,
    types: BTreeMap<String, PerType>,
}

#[derive(Debug, Default)]
struct PerType {
    version: String,
    nonce: String,
    names: BTreeSet<String>,
}

impl StateOfTheWorld {
    /// A new stream with what to send first.
    pub(super) fn open(settings: &Settings, resources: &Resources, wants: &Wants) -> (Self, Vec<DiscoveryRequest>) {
        let mut stream = StateOfTheWorld {
            node: Some(settings.node.clone()),
            types: BTreeMap::new(),
        };
        let mut out: Vec<_> = wildcards(settings)
            .into_iter()
            .map(|type_url| stream.request(type_url, None))
            .collect();
        out.extend(stream.follow(resources, wants).0);
        (stream, out)
    }

    fn request(&mut self, type_url: &str, refusal: Option<String>) -> DiscoveryRequest {
        let state = self.types.entry(type_url.to_owned()).or_default();
        DiscoveryRequest {
            version_info: state.version.clone(),
            node: self.node.take(),
            resource_names: state.names.iter().cloned().collect(),
            type_url: type_url.to_owned(),
            response_nonce: state.nonce.clone(),
            error_detail: refusal.map(|message| Status {
                code: INVALID_ARGUMENT,
                message,
                details: Vec::new(),
            }),
            ..DiscoveryRequest::default()
        }
    }
}

impl Dialect for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn follow(&mut self, _: &Resources, wants: &Wants) -> (Vec<DiscoveryRequest>, Vec<Update>) {
        let mut out = Vec::new();
        let mut gone = Vec::new();
        for (type_url, wanted) in by_name(wants) {
            let state = self.types.entry(type_url.to_owned()).or_default();
            if state.names == *wanted {
                continue;
            }
            let less: Vec<String> = state.names.difference(wanted).cloned().collect();
            state.names.clone_from(wanted);
            if !less.is_empty() {
                gone.push(Update {
                    type_url: type_url.to_owned(),
                    remove: less,
                    ..Update::default()
                });
            }
            // No names would ask for all: what is not wanted is simply not followed any more.
            if !wanted.is_empty() {
                out.push(self.request(type_url, None));
            }
        }
        (out, gone)
    }

    fn answer(&mut self, response: DiscoveryResponse, config: &Config) -> DiscoveryRequest {
        let update = Update {
            type_url: response.type_url.clone(),
            set: response
                .resources
                .into_iter()
                .enumerate()
                .map(|(i, any)| Incoming {
                    name: match response.type_url.as_str() {
                        // It has no name in itself, and there is one.
                        type_url::NAME_TABLE => format!("table-{i}"),
                        _ => name_of(&any.value),
                    },
                    version: response.version_info.clone(),
                    bytes: any.value,
                })
                .collect(),
            remove: Vec::new(),
            complete: matches!(response.type_url.as_str(), type_url::CLUSTER | type_url::LISTENER),
        };
        let taken = take(config, update);
        let state = self.types.entry(response.type_url.clone()).or_default();
        state.nonce = response.nonce;
        if taken.is_ok() {
            state.version = response.version_info;
        }
        self.request(&response.type_url, taken.err())
    }
}
