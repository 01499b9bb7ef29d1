//! The two forms of the protocol, delta and state of the world, in terms of [`Session`].

use std::collections::BTreeSet;
use std::sync::LazyLock;

use mesh_api::envoy::pb::envoy::config::core::v3::{ControlPlane, Node};
use mesh_api::envoy::pb::envoy::service::discovery::v3 as xds;
use prost::Message;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::grpc::Outgoing;
use super::resources::{Name, Resource, wildcard_by_default};
use super::session::{Ask, Push, Session};

/// One form of the protocol.
pub(super) trait Wire: Send + 'static {
    /// What it is called in logs and by tools.
    const NAME: &'static str;
    /// The last part of the method's path.
    const METHOD: &'static str;
    /// The proxy's message.
    type Request: Message + Default + 'static;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_url(request: &Self::Request) -> &str;
    fn ask(request: Self::Request, session: &Session) -> Ask;
    /// `None` when this form has no words for it; then it counts as answered.
    fn response(push: Push, session: &Session) -> Option<Outgoing>;
    /// A response of exactly these resources, be they none.
    fn whole(push: Push) -> Outgoing;
}

pub(super) enum Delta {}
pub(super) enum StateOfTheWorld {}

impl Wire for Delta {
    const NAME: &'static str = "delta";
    const METHOD: &'static str = "DeltaAggregatedResources";
    type Request = xds::DeltaDiscoveryRequest;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn ask(request: Self::Request, _: &Session) -> Ask {
        Ask {
            nonce: nonce(&request.response_nonce),
            error: request.error_detail.map(|e| e.message),
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            initial: request.initial_resource_versions.into_iter().collect(),
            type_url: request.type_url,
        }
    }

    fn response(push: Push, _: &Session) -> Option<Outgoing> {
        Some(Self::whole(push))
    }

    fn whole(push: Push) -> Outgoing {
        let rest = xds::DeltaDiscoveryResponse {
            system_version_info: version(&push.upserts),
            type_url: push.type_url,
            removed_resources: push.removed.iter().map(|n| n.to_string()).collect(),
            nonce: push.nonce.to_string(),
            control_plane: control_plane(),
            ..Default::default()
        };
        Outgoing {
            rest: rest.encode_to_vec(),
            resources: push.upserts,
            named: true,
        }
    }
}

impl Wire for StateOfTheWorld {
    const NAME: &'static str = "state of the world";
    const METHOD: &'static str = "StreamAggregatedResources";
    type Request = xds::DiscoveryRequest;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn ask(request: Self::Request, session: &Session) -> Ask {
        let nonce = nonce(&request.response_nonce);
        let none = BTreeSet::new();
        let before = session.names(&request.type_url).unwrap_or(&none);
        let everything = request.resource_names.iter().any(|n| n == "*");
        let names: BTreeSet<String> = request.resource_names.into_iter().filter(|n| n != "*").collect();
        // An answer to an older response says nothing about names: the proxy repeats them all in its next one. Before the
        // first response any nonce is that of an earlier stream, and the request is the first one of this.
        let last = session.last_nonce(&request.type_url);
        let stale = last != 0 && nonce.is_some_and(|n| n != last);
        let (subscribe, unsubscribe) = if stale {
            metrics::counter!("pilot_xds_expired_nonce").increment(1);
            (Vec::new(), Vec::new())
        } else {
            let old = before.iter().filter(|n| !names.contains(&***n)).map(|n| n.to_string());
            let old = old.collect();
            let new = names.into_iter().filter(|n| !before.contains(&**n));
            (new.chain(everything.then(|| "*".to_owned())).collect(), old)
        };
        Ask {
            nonce,
            error: request.error_detail.map(|e| e.message),
            subscribe,
            unsubscribe,
            initial: Default::default(),
            type_url: request.type_url,
        }
    }

    fn response(mut push: Push, session: &Session) -> Option<Outgoing> {
        // Clusters and listeners always come whole (what is missing is deleted); of the others, only what changed.
        if wildcard_by_default(&push.type_url) {
            push.upserts = session.held(&push.type_url);
        } else if push.upserts.is_empty() {
            return None;
        }
        Some(Self::whole(push))
    }

    fn whole(push: Push) -> Outgoing {
        let rest = xds::DiscoveryResponse {
            version_info: version(&push.upserts),
            type_url: push.type_url,
            nonce: push.nonce.to_string(),
            control_plane: control_plane(),
            ..Default::default()
        };
        Outgoing {
            rest: rest.encode_to_vec(),
            resources: push.upserts,
            named: false,
        }
    }
}

fn nonce(text: &str) -> Option<u64> {
    // What is no number was not ours; 0 never is either.
    (!text.is_empty()).then(|| text.parse().unwrap_or(0))
}

/// Who answers, in the form that istioctl reads: it takes the column ISTIOD and the control plane's version from here.
fn control_plane() -> Option<ControlPlane> {
    static IDENTIFIER: LazyLock<String> = LazyLock::new(|| {
        let replica = std::env::var("POD_NAME").unwrap_or_else(|_| "mesh-control".to_owned());
        json!({"Component": "istiod", "ID": replica, "Info": {"version": env!("CARGO_PKG_VERSION")}}).to_string()
    });
    Some(ControlPlane {
        identifier: IDENTIFIER.clone(),
    })
}

/// One version for several resources.
fn version(resources: &[(Name, Resource)]) -> String {
    let mut hash = Sha256::new();
    for (name, resource) in resources {
        for part in [name.as_bytes(), resource.version.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use mesh_api::envoy::type_url::{ENDPOINT, ROUTE};

    use super::*;

    fn request(type_url: &str, names: &[&str], nonce: &str) -> xds::DiscoveryRequest {
        xds::DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_nonce_of_an_earlier_stream_does_not_hide_the_first_request() {
        let session = Session::new(Arc::default(), Instant::now());
        let ask = StateOfTheWorld::ask(request(ROUTE, &["80"], "17"), &session);
        assert_eq!(ask.subscribe, ["80"]);
    }

    #[test]
    fn an_answer_to_an_older_response_changes_no_names() {
        let now = Instant::now();
        let mut session = Session::new(Arc::default(), now);
        let ask = StateOfTheWorld::ask(request(ROUTE, &["80"], ""), &session);
        let sent = session.ask(ask, now).first().expect("an answer").nonce;
        let stale = StateOfTheWorld::ask(request(ROUTE, &[], &(sent + 1).to_string()), &session);
        assert_eq!(stale.unsubscribe, [""; 0]);
        let present = StateOfTheWorld::ask(request(ROUTE, &[], &sent.to_string()), &session);
        assert_eq!(present.unsubscribe, ["80"]);
    }

    #[test]
    fn a_star_asks_for_everything_of_any_type() {
        let session = Session::new(Arc::default(), Instant::now());
        let ask = StateOfTheWorld::ask(request(ENDPOINT, &["*", "a"], ""), &session);
        assert_eq!(ask.subscribe, ["a", "*"]);
    }
}
