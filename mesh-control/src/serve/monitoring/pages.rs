//! The pages by their paths.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::viewer::Viewer;
use super::{dump, objects, registry, syncz};
use crate::serve::ads::hub::Connection;
use crate::serve::model::Model;

/// What the pages show.
#[derive(Clone)]
pub(in crate::serve) struct Pages {
    pub(in crate::serve) model: Model,
    /// Namespace of the control plane: who is of it sees everything.
    pub(in crate::serve) home: Arc<str>,
}

/// A page.
pub(super) struct Page {
    pub(super) status: StatusCode,
    /// Its content type.
    pub(super) kind: &'static str,
    pub(super) body: String,
}

const LIST: &str = "\
/metrics                          Prometheus metrics
/ready                            200 when proxies are served
/version                          version of the control plane
/debug/syncz                      connected proxies, and what they have taken
/debug/config_dump?proxyID=POD.NS what that proxy should hold, in the form of Envoy's page of that name
/debug/ndsz?proxyID=POD.NS        names that the DNS server of that proxy answers
/debug/registryz                  services
/debug/endpointz                  endpoints of each port of each service
/debug/configz                    objects in force, and where they stand
/debug/sourcez                    files read, by SHA-256, and the snapshot that holds them
/debug/findingsz                  what is wrong with objects, a line each
";

/// What istioctl looks for to ask the next replica.
const ELSEWHERE: &str = "Proxy not connected to this Pilot instance. It may be connected to another instance.";

impl Page {
    pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Page {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    fn json(value: &Value) -> Self {
        Page {
            status: StatusCode::OK,
            kind: "application/json",
            body: serde_json::to_string_pretty(value).unwrap_or_default(),
        }
    }
}

impl Pages {
    /// The page at a path, as far as the viewer may see it.
    pub(super) fn get(&self, path: &str, query: &str, viewer: &Viewer) -> Page {
        match (path, viewer) {
            ("/ready" | "/healthz", _) => Page::text(StatusCode::OK, "ready\n"),
            ("/version", _) => Page::text(StatusCode::OK, concat!(env!("CARGO_PKG_VERSION"), "\n")),
            ("/" | "/debug" | "/debug/" | "/debug/list", _) => Page::text(StatusCode::OK, LIST),
            ("/debug/syncz", _) => {
                let namespace = asked(query, "namespace");
                let mut connections = self.connections(viewer);
                connections.retain(|c| namespace.as_ref().is_none_or(|n| c.proxy.id.namespace == *n));
                Page::json(&syncz::page(&connections))
            }
            ("/debug/config_dump", _) => self.of_proxy(query, viewer, |c| dump::page(self.model.json(), c)),
            ("/debug/ndsz", _) => self.of_proxy(query, viewer, dump::names),
            (_, Viewer::Namespace(namespace)) => Page::text(
                StatusCode::FORBIDDEN,
                format!(
                    "callers of namespace {namespace} are shown syncz, config_dump and ndsz of its own proxies; everything \
                     is shown to service accounts of {}\n",
                    self.home
                ),
            ),
            ("/debug/registryz", _) => Page::json(&registry::services(&self.model.present().store)),
            ("/debug/endpointz", _) => Page::json(&registry::endpoints(&self.model.present().store)),
            ("/debug/configz", _) => Page::json(&objects::page(&self.model)),
            ("/debug/sourcez", _) => Page::json(&objects::files(&self.model)),
            ("/debug/findingsz", _) => {
                let present = self.model.present();
                let all = present.findings();
                Page::text(StatusCode::OK, all.iter().map(|f| format!("{f}\n")).collect::<String>())
            }
            _ => Page::text(
                StatusCode::NOT_FOUND,
                format!("there is no such page; there are:\n{LIST}"),
            ),
        }
    }

    /// Connected proxies that the viewer may see.
    pub(super) fn connections(&self, viewer: &Viewer) -> Vec<Arc<Connection>> {
        let mut all = self.model.hub().connections();
        all.retain(|c| viewer.may_see(&c.proxy.id.namespace));
        all
    }

    /// A proxy by `POD.NAMESPACE` or by its whole node id.
    ///
    /// # Errors
    /// Says which there are.
    pub(super) fn connection(&self, wanted: &str, viewer: &Viewer) -> Result<Arc<Connection>, String> {
        let connections = self.connections(viewer);
        let is_it = |c: &&Arc<Connection>| short_id(c) == wanted || c.proxy.id.to_string() == wanted;
        connections.iter().find(is_it).cloned().ok_or_else(|| {
            let known: Vec<String> = connections.iter().map(|c| short_id(c)).collect();
            let known = known.join(", ");
            format!("{ELSEWHERE}\nThere is no proxy {wanted:?} here; ?proxyID= one of: {known}\n")
        })
    }

    fn of_proxy(&self, query: &str, viewer: &Viewer, show: impl Fn(&Connection) -> Value) -> Page {
        let wanted = asked(query, "proxyID").unwrap_or_default();
        match self.connection(&wanted, viewer) {
            Ok(connection) => Page::json(&show(&connection)),
            Err(refusal) => Page::text(StatusCode::NOT_FOUND, refusal),
        }
    }
}

/// `POD.NAMESPACE`.
pub(super) fn short_id(connection: &Connection) -> String {
    let id = &connection.proxy.id;
    format!("{}.{}", id.pod, id.namespace)
}

/// The value of `key` in the query, unescaped.
fn asked(query: &str, key: &str) -> Option<String> {
    let mut values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.find(|(name, _)| *name == key).map(|(_, value)| unescape(value))
}

/// `%7E` and the like: node ids hold characters that some clients escape.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
