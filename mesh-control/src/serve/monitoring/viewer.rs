//! Who may look at debug pages, over HTTP or discovery: they name every service and proxy of the mesh.

use std::net::SocketAddr;

use crate::serve::ca::caller::Caller;

/// What somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Viewer {
    /// All of it.
    Everything,
    /// Proxies of this namespace.
    Namespace(String),
}

impl Viewer {
    /// Callers of the control plane's own namespace see everything, others what is theirs. Whoever asks from this machine
    /// (which a port-forward does) needs no proof: the API server has let him in.
    ///
    /// # Errors
    /// When it is a stranger.
    pub(super) fn of(caller: Option<&Caller>, peer: Option<SocketAddr>, home: &str) -> Result<Self, String> {
        if peer.is_some_and(|p| p.ip().to_canonical().is_loopback()) {
            return Ok(Viewer::Everything);
        }
        match caller {
            Some(caller) if caller.id.namespace == home => Ok(Viewer::Everything),
            Some(caller) => Ok(Viewer::Namespace(caller.id.namespace.clone())),
            None => Err(format!(
                "debug pages are shown on the machine itself (by port-forward), or to who brings the token of a service \
                 account for audience istio-ca (authorization: Bearer TOKEN); one of namespace {home} sees everything"
            )),
        }
    }

    pub(super) fn may_see(&self, namespace: &str) -> bool {
        match self {
            Viewer::Everything => true,
            Viewer::Namespace(own) => own == namespace,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::names::SpiffeId;

    use super::*;

    #[test]
    fn strangers_see_nothing_and_namespaces_their_own() {
        let caller = |namespace: &str| Caller {
            id: SpiffeId {
                trust_domain: "cluster.local".to_owned(),
                namespace: namespace.to_owned(),
                service_account: "default".to_owned(),
            },
            proof: "token",
        };
        let (near, far) = ("[::ffff:127.0.0.1]:1", "192.0.2.1:1");
        for (caller, peer, expected) in [
            (None, near, Some(Viewer::Everything)),
            (Some(caller("shop")), near, Some(Viewer::Everything)),
            (Some(caller("istio-system")), far, Some(Viewer::Everything)),
            (Some(caller("shop")), far, Some(Viewer::Namespace("shop".to_owned()))),
            (None, far, None),
        ] {
            let peer = Some(peer.parse().expect("an address"));
            assert_eq!(Viewer::of(caller.as_ref(), peer, "istio-system").ok(), expected);
        }
        let shop = Viewer::Namespace("shop".to_owned());
        assert!(shop.may_see("shop") && !shop.may_see("bank") && Viewer::Everything.may_see("bank"));
    }
}
