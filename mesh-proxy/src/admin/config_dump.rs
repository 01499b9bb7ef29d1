//! `/config_dump`: the messages behind the configuration in force, under the names of `envoy.admin.v3`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::type_url;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::State;
use super::clusters::load_assignment;
use super::json::pretty;
use super::server::{Call, JSON, Reply};
use crate::snapshot::resources::{Resource, Source};
use crate::snapshot::{Discovery, Secret, Snapshot};

const ADMIN: &str = "type.googleapis.com/envoy.admin.v3.";
const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
const ENVOY_TYPE: &str = "type.googleapis.com/";

/// What is asked for.
pub(super) struct Query {
    resource: Option<String>,
    mask: Vec<Vec<String>>,
    name: Option<Regex>,
    include_eds: bool,
}

impl Query {
    pub(super) fn read(call: &Call) -> Result<Self, String> {
        let given = |name| call.get(name).filter(|v| !v.is_empty());
        let name = match given("name_regex") {
            Some(text) => {
                let anchored = format!("^(?:{text})$");
                Some(Regex::new(&anchored).map_err(|e| format!("Error while parsing name_regex: {e}"))?)
            }
            None => None,
        };
        let path = |p: &str| p.split('.').map(str::to_owned).collect();
        let mask = given("mask").map(|m| m.split(',').map(path).collect());
        Ok(Query {
            resource: given("resource").map(str::to_owned),
            mask: mask.unwrap_or_default(),
            name,
            include_eds: call.has("include_eds"),
        })
    }
}

pub(super) fn page(query: &Query, state: &State) -> Reply {
    let dump = Dump {
        json: Json::new(),
        state,
        snapshot: &state.shared.snapshot.load_full(),
    };
    let mut sections = dump.sections(query.include_eds);
    if let Some(pattern) = &query.name {
        sections.iter_mut().for_each(|s| keep_names(s, pattern));
    }
    let mut configs = match &query.resource {
        None => sections,
        Some(field) => match one_field(sections, field) {
            Some(elements) => elements,
            None => {
                let text = format!("{field} not found in config dump\n");
                return Reply::text(StatusCode::NOT_FOUND, text);
            }
        },
    };
    if !query.mask.is_empty() {
        configs.iter_mut().for_each(|c| mask(c, &query.mask));
    }
    let mut all = json!({ "configs": configs });
    redact(&mut all);
    Reply::ok(JSON, pretty(&all))
}

struct Dump<'a> {
    json: Json,
    state: &'a State,
    snapshot: &'a Snapshot,
}

/// Fields of one kind of resource in its section.
struct Kind {
    section: &'static str,
    type_url: &'static str,
    /// Field that holds the message.
    message: &'static str,
    fixed: &'static str,
    active: &'static str,
    warming: &'static str,
}

const CLUSTERS: Kind = Kind {
    section: "ClustersConfigDump",
    type_url: type_url::CLUSTER,
    message: "cluster",
    fixed: "static_clusters",
    active: "dynamic_active_clusters",
    warming: "dynamic_warming_clusters",
};
const ENDPOINTS: Kind = Kind {
    section: "EndpointsConfigDump",
    type_url: type_url::ENDPOINT,
    message: "endpoint_config",
    fixed: "static_endpoint_configs",
    active: "dynamic_endpoint_configs",
    warming: "dynamic_endpoint_configs",
};
const LISTENERS: Kind = Kind {
    section: "ListenersConfigDump",
    type_url: type_url::LISTENER,
    message: "listener",
    fixed: "static_listeners",
    active: "dynamic_listeners",
    warming: "dynamic_listeners",
};
const ROUTES: Kind = Kind {
    section: "RoutesConfigDump",
    type_url: type_url::ROUTE,
    message: "route_config",
    fixed: "static_route_configs",
    active: "dynamic_route_configs",
    warming: "dynamic_route_configs",
};
const SECRETS: Kind = Kind {
    section: "SecretsConfigDump",
    type_url: type_url::SECRET,
    message: "secret",
    fixed: "static_secrets",
    active: "dynamic_active_secrets",
    warming: "dynamic_warming_secrets",
};

impl Dump<'_> {
    fn sections(&self, include_eds: bool) -> Vec<Value> {
        let mut all = vec![self.bootstrap(), self.section(&CLUSTERS, |_| {})];
        if include_eds {
            all.push(self.section(&ENDPOINTS, |fields| self.fixed_endpoints(fields)));
        }
        let listeners = self.section(&LISTENERS, |_| {});
        let inline = inline_routes(&listeners);
        all.push(listeners);
        all.push(json!({"@type": format!("{ADMIN}ScopedRoutesConfigDump")}));
        all.push(self.section(&ROUTES, |fields| {
            if !inline.is_empty() {
                fields.insert(ROUTES.fixed.to_owned(), inline.into());
            }
        }));
        all.push(self.section(&SECRETS, |fields| self.own_secrets(fields)));
        all
    }

    fn bootstrap(&self) -> Value {
        let bytes = self.state.shared.resources.bootstrap();
        let started = SystemTime::now() - self.state.shared.started.elapsed();
        let mut section = json!({"@type": format!("{ADMIN}BootstrapConfigDump")});
        if let Some(bytes) = bytes {
            section["bootstrap"] = match self.json.bytes_to_value(BOOTSTRAP, &bytes) {
                Ok(value) => value,
                Err(error) => json!({"error": error.to_string()}),
            };
        }
        section["last_updated"] = time(started);
        section
    }

    fn section(&self, kind: &Kind, more: impl FnOnce(&mut Map<String, Value>)) -> Value {
        let resources = self.state.shared.resources.all(kind.type_url);
        let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        let mut version = "";
        for (name, resource) in &resources {
            let (field, element) = self.element(kind, name, resource);
            version = version.max(&resource.version);
            lists.entry(field).or_default().push(element);
        }
        let mut fields = Map::new();
        fields.insert("@type".to_owned(), format!("{ADMIN}{}", kind.section).into());
        if matches!(kind.section, "ClustersConfigDump" | "ListenersConfigDump") && !version.is_empty() {
            fields.insert("version_info".to_owned(), version.into());
        }
        for field in [kind.fixed, kind.active, kind.warming] {
            if let Some(list) = lists.remove(field) {
                fields.insert(field.to_owned(), list.into());
            }
        }
        more(&mut fields);
        Value::Object(fields)
    }

    /// The list that a resource belongs to, and how it looks there.
    fn element(&self, kind: &Kind, name: &str, resource: &Resource) -> (&'static str, Value) {
        let named = matches!(kind.section, "ListenersConfigDump" | "SecretsConfigDump");
        let mut element = Map::new();
        if named {
            element.insert("name".to_owned(), name.into());
        }
        let mut state = Map::new();
        if resource.source != Source::Static {
            state.insert("version_info".to_owned(), resource.version.as_str().into());
        }
        if let Some(bytes) = &resource.bytes {
            state.insert(kind.message.to_owned(), self.message(kind.type_url, bytes));
        }
        state.insert("last_updated".to_owned(), time(resource.updated));
        let field = match (resource.source, resource.warming) {
            (Source::Static, _) => kind.fixed,
            (_, true) => kind.warming,
            (_, false) => kind.active,
        };
        if kind.section == "ListenersConfigDump" && resource.source != Source::Static {
            let state_name = if resource.warming {
                "warming_state"
            } else {
                "active_state"
            };
            if resource.bytes.is_some() {
                element.insert(state_name.to_owned(), state.into());
            }
        } else {
            if resource.source == Source::Static && kind.section == "ListenersConfigDump" {
                element.clear();
            }
            element.extend(state);
        }
        if let Some(refused) = &resource.rejected {
            let failure = json!({
                "failed_configuration": self.message(kind.type_url, &refused.bytes),
                "last_update_attempt": time(refused.at),
                "details": refused.message,
                "version_info": refused.version,
            });
            element.insert("error_state".to_owned(), failure);
        }
        if resource.source != Source::Static {
            let status = if resource.rejected.is_some() { "NACKED" } else { "ACKED" };
            element.insert("client_status".to_owned(), status.into());
        }
        (field, Value::Object(element))
    }

    /// An `Any` of the message. One that cannot be shown says why, and the rest of the dump stays.
    fn message(&self, type_url: &str, bytes: &[u8]) -> Value {
        let mut fields = Map::new();
        fields.insert("@type".to_owned(), type_url.into());
        match self.json.bytes_to_value(type_url, bytes) {
            Ok(Value::Object(object)) => fields.extend(object),
            Ok(other) => {
                fields.insert("value".to_owned(), other);
            }
            Err(error) => {
                fields.insert("error".to_owned(), error.to_string().into());
            }
        }
        Value::Object(fields)
    }

    /// Endpoints that did not come by EDS: of the cluster itself, or found by DNS.
    fn fixed_endpoints(&self, fields: &mut Map<String, Value>) {
        let mut clusters: Vec<_> = self.snapshot.clusters.values().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let own = clusters
            .into_iter()
            .filter(|c| c.discovery.lists_endpoints() && !matches!(c.discovery, Discovery::Eds(_)));
        let list: Vec<Value> = own
            .map(|cluster| {
                let mut assignment = Map::new();
                assignment.insert("@type".to_owned(), type_url::ENDPOINT.into());
                assignment.extend(load_assignment(cluster));
                json!({"endpoint_config": assignment})
            })
            .collect();
        if !list.is_empty() {
            fields.insert(ENDPOINTS.fixed.to_owned(), list.into());
        }
    }

    /// Secrets that the agent made itself, which came as no message.
    fn own_secrets(&self, fields: &mut Map<String, Value>) {
        let known = self.state.shared.resources.all(type_url::SECRET);
        let mut own: Vec<_> = self
            .snapshot
            .secrets
            .iter()
            .filter(|(name, _)| !known.contains_key(&***name))
            .collect();
        own.sort_by_key(|(name, _)| (*name).clone());
        let list = own.into_iter().map(|(name, secret)| {
            let pem = |ders: &[rustls_pki_types::CertificateDer<'_>]| {
                let text: String = ders.iter().map(|der| pem("CERTIFICATE", der)).collect();
                json!({"inline_bytes": STANDARD.encode(text)})
            };
            let mut message = json!({"@type": type_url::SECRET, "name": &**name});
            match secret {
                Secret::Identity(identity) => {
                    message["tls_certificate"] =
                        json!({"certificate_chain": pem(&identity.chain), "private_key": redacted()});
                }
                Secret::Trust(trust) => {
                    message["validation_context"] = json!({"trusted_ca": pem(&trust.roots)});
                }
            }
            json!({"name": &**name, "version_info": "agent", "secret": message, "client_status": "ACKED"})
        });
        let list: Vec<Value> = list.collect();
        if !list.is_empty() {
            let active = fields.entry(SECRETS.active).or_insert_with(|| json!([]));
            if let Value::Array(active) = active {
                active.extend(list);
            }
        }
    }
}

/// Route tables inside of listeners.
fn inline_routes(listeners: &Value) -> Vec<Value> {
    fn walk(value: &Value, updated: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(fields) => {
                for (key, child) in fields {
                    if key == "route_config" && child.is_object() {
                        let mut table = Map::new();
                        table.insert("@type".to_owned(), type_url::ROUTE.into());
                        table.extend(child.as_object().cloned().unwrap_or_default());
                        found.push(json!({"route_config": table, "last_updated": updated}));
                    } else {
                        walk(child, fields.get("last_updated").unwrap_or(updated), found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, updated, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (key, value) in listeners.as_object().into_iter().flatten() {
        if key.ends_with("_listeners") {
            walk(value, &Value::Null, &mut found);
        }
    }
    // The same table serves the plaintext and the TLS chain of a port; Envoy lists it for each, readers want it once.
    found.dedup();
    found
}

/// `?resource=`: the elements of one list, each with the type of its message.
fn one_field(sections: Vec<Value>, field: &str) -> Option<Vec<Value>> {
    let element_type = |section: &str| {
        let word = match field {
            "static_clusters" => "StaticCluster",
            "dynamic_active_clusters" | "dynamic_warming_clusters" => "DynamicCluster",
            "static_listeners" => "StaticListener",
            "dynamic_listeners" => "DynamicListener",
            "static_route_configs" => "StaticRouteConfig",
            "dynamic_route_configs" => "DynamicRouteConfig",
            "static_endpoint_configs" => "StaticEndpointConfig",
            "dynamic_endpoint_configs" => "DynamicEndpointConfig",
            "static_secrets" => "StaticSecret",
            "dynamic_active_secrets" | "dynamic_warming_secrets" => "DynamicSecret",
            _ => return None,
        };
        Some(format!("{section}.{word}"))
    };
    for section in sections {
        let Value::Object(mut fields) = section else { continue };
        let section_type = fields
            .get("@type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if field == "bootstrap" && section_type.ends_with("BootstrapConfigDump") {
            let mut element = Map::new();
            element.insert("@type".to_owned(), format!("{ENVOY_TYPE}{BOOTSTRAP}").into());
            if let Some(Value::Object(inner)) = fields.remove("bootstrap") {
                element.extend(inner);
            }
            return Some(vec![Value::Object(element)]);
        }
        if let Some(Value::Array(list)) = fields.remove(field) {
            let name = element_type(&section_type)?;
            let typed = list.into_iter().map(|element| {
                let mut fields = Map::new();
                fields.insert("@type".to_owned(), name.as_str().into());
                fields.extend(element.as_object().cloned().unwrap_or_default());
                Value::Object(fields)
            });
            return Some(typed.collect());
        }
    }
    // A list that exists and is empty is not "not found".
    let kinds = [CLUSTERS, ENDPOINTS, LISTENERS, ROUTES, SECRETS];
    let known = kinds.iter().any(|k| [k.fixed, k.active, k.warming].contains(&field));
    known.then(Vec::new)
}

/// `?name_regex=`: keeps the elements of lists whose message has such a name.
fn keep_names(section: &mut Value, pattern: &Regex) {
    let Value::Object(fields) = section else { return };
    for list in fields.values_mut().filter_map(Value::as_array_mut) {
        list.retain(|element| {
            let messages = element.as_object().into_iter().flatten().map(|(_, v)| v);
            let states = messages.clone().filter_map(Value::as_object).flatten().map(|(_, v)| v);
            let inner = messages.chain(states).filter_map(Value::as_object);
            let own = element.get("name").and_then(Value::as_str);
            let mut names = inner
                .filter_map(|m| m.get("name").or_else(|| m.get("cluster_name")))
                .filter_map(Value::as_str)
                .chain(own);
            names.any(|name| pattern.is_match(name))
        });
    }
}

/// `?mask=`: keeps only these paths, and types.
fn mask(value: &mut Value, paths: &[Vec<String>]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, child| {
                if key == "@type" {
                    return true;
                }
                let here = paths.iter().filter(|p| p.first().is_some_and(|first| first == key));
                let rest: Vec<Vec<String>> = here.map(|p| p[1..].to_vec()).collect();
                if rest.is_empty() {
                    return false;
                }
                if rest.iter().all(|p| !p.is_empty()) {
                    mask(child, &rest);
                }
                true
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, paths)),
        _ => {}
    }
}

/// Takes private things out, wherever they stand, as Envoy does: the field remains, its value does not.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, child) in fields.iter_mut() {
                match key.as_str() {
                    "private_key" | "password" if child.is_object() => *child = redacted(),
                    "session_ticket_keys" => *child = json!({"keys": [redacted()]}),
                    "generic_secret" => *child = json!({"secret": redacted()}),
                    _ => redact(child),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

fn redacted() -> Value {
    json!({"inline_bytes": STANDARD.encode("[redacted]")})
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn time(at: SystemTime) -> Value {
    jiff::Timestamp::try_from(at).map_or(Value::Null, |t| t.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string().into())
}
