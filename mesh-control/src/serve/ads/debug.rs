//! Streams of tools: istioctl asks for statuses and pages over discovery, by types that begin with `istio.io/debug`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mesh_api::envoy::Any;
use sha2::{Digest as _, Sha256};
use tonic::Status;
use tracing::debug;

use super::grpc::Requests;
use super::resources::{Name, Resource};
use super::server::Out;
use super::session::{Push, Session};
use super::wire::Wire;
use crate::serve::ca::caller::Caller;

/// Types of this kind are for tools; no proxy asks for them.
const DEBUG: &str = "istio.io/debug";

/// Who asks.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Who it has proven to be.
    pub caller: Option<Caller>,
    /// Where it is.
    pub peer: Option<SocketAddr>,
}

/// Answers the questions of tools.
pub trait Tools: Send + Sync + 'static {
    /// What is known of `names` under a type of ours, each part with its name.
    ///
    /// # Errors
    /// With the reason, for the tool to show, when the type is unknown or the asker may not know.
    fn answer(&self, asker: &Asker, type_url: &str, names: &[String]) -> Result<Vec<(String, Any)>, Status>;
}

pub(super) fn is_for_tools(type_url: &str) -> bool {
    let rest = type_url.strip_prefix(DEBUG);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers each request once, until the tool goes. Tools send no node that counts: they hold nothing, and are not listed.
pub(super) async fn stream<W: Wire>(
    tools: &Arc<dyn Tools>,
    asker: &Asker,
    first: W::Request,
    mut requests: Requests<W::Request>,
    out: &Out,
) -> Result<(), Status> {
    let session = Session::new(Arc::default(), Instant::now());
    let (mut request, mut nonce) = (first, 0);
    loop {
        let ask = W::ask(request, &session);
        // What answers a response asks for nothing.
        if ask.nonce.is_none() {
            debug!(type_url = ask.type_url, names = ask.subscribe.join(", "), "a tool asks");
            let parts = tools.answer(asker, &ask.type_url, &ask.subscribe)?;
            nonce += 1;
            let push = Push {
                upserts: parts.into_iter().map(resource).collect(),
                type_url: ask.type_url,
                nonce,
                removed: Vec::new(),
            };
            if out.send(Ok(W::whole(push))).await.is_err() {
                return Ok(());
            }
        }
        request = tokio::select! {
            next = requests.message() => match next {
                Ok(Some(next)) => next,
                // Tools leave by closing the connection.
                Ok(None) | Err(_) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        };
    }
}

fn resource((name, body): (String, Any)) -> (Name, Resource) {
    let hash = Sha256::digest(&body.value);
    let version: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
    (name.into(), Resource::new(body, &version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_tools_are_told_from_those_of_proxies() {
        for (type_url, expected) in [
            ("istio.io/debug", true),
            ("istio.io/debug/syncz", true),
            ("istio.io/debugger", false),
            (mesh_api::envoy::type_url::CLUSTER, false),
        ] {
            assert_eq!(is_for_tools(type_url), expected, "{type_url}");
        }
    }
}
