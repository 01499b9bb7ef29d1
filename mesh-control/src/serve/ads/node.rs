//! Who the proxy says it is, checked against who it has proven to be.

use mesh_api::envoy::ProtoValue;
use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use tonic::Status;

use crate::compile::Proxy;
use crate::serve::ca::caller::Caller;

const SERVICE_ACCOUNT: &str = "SERVICE_ACCOUNT";

/// The proxy of a node message, if the caller may speak for it: its namespace, and its service account if it names one,
/// must be the proven ones.
///
/// # Errors
/// `INVALID_ARGUMENT` for a malformed node id, `PERMISSION_DENIED` when the identity is another's.
pub(super) fn proxy(node: Option<&Node>, caller: Option<&Caller>) -> Result<Proxy, Status> {
    let node = node.ok_or_else(|| Status::invalid_argument("the first request of a stream must say its node"))?;
    let mut proxy = Proxy::from_node(node).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let Some(caller) = caller else { return Ok(proxy) };
    if caller.id.namespace != proxy.id.namespace {
        return Err(Status::permission_denied(format!(
            "node {} is of namespace {}, but the caller is proven to be {}",
            node.id, proxy.id.namespace, caller.id
        )));
    }
    match proxy.meta(SERVICE_ACCOUNT) {
        Some(name) if name != caller.id.service_account => Err(Status::permission_denied(format!(
            "node {} says service account {name}, but the caller is proven to be {}",
            node.id, caller.id
        ))),
        Some(_) => Ok(proxy),
        None => {
            let name = ProtoValue {
                kind: Some(Kind::StringValue(caller.id.service_account.clone())),
            };
            proxy.metadata.fields.insert(SERVICE_ACCOUNT.to_owned(), name);
            Ok(proxy)
        }
    }
}
