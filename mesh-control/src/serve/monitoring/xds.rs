//! The pages for tools that ask over discovery, as istioctl's `proxy-status`, `version` and `internal-debug` do.

use http::StatusCode;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::admin::v3::UpdateFailureState;
use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use mesh_api::envoy::pb::envoy::service::status::v3::{ClientConfig, ConfigStatus};
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use mesh_api::envoy::{Any, ProtoValue, Struct, pack};
use prost::Message as _;
use serde_json::Value;
use tonic::Status;

use super::pages::{Page, Pages, short_id};
use super::viewer::Viewer;
use super::{dump, syncz};
use crate::serve::ads::debug::{Asker, Tools};
use crate::serve::ads::hub::Connection;

/// A page by its name, such as `syncz` or `config_dump?proxyID=web-1.shop`.
const PAGE: &str = "istio.io/debug";
/// An `envoy.service.status.v3.ClientConfig` of each proxy.
const SYNCZ: &str = "istio.io/debug/syncz";
/// The sections of an `envoy.admin.v3.ConfigDump` of one proxy.
const CONFIG_DUMP: &str = "istio.io/debug/config_dump";

impl Tools for Pages {
    fn answer(&self, asker: &Asker, type_url: &str, names: &[String]) -> Result<Vec<(String, Any)>, Status> {
        let viewer = Viewer::of(asker.caller.as_ref(), asker.peer, &self.home).map_err(Status::unauthenticated)?;
        match (type_url, names) {
            (SYNCZ, _) => {
                let all = self.connections(&viewer);
                Ok(all.iter().map(|c| (short_id(c), pack(&client_config(c)))).collect())
            }
            (CONFIG_DUMP, [name]) => match self.connection(name, &viewer) {
                Ok(connection) => sections(self.model.json(), &connection).map_err(Status::internal),
                // Said in a resource, as istioctl expects it: it asks the next replica then.
                Err(refusal) => Ok(vec![text(name, refusal)]),
            },
            (PAGE, [name]) => {
                let (page, query) = name.split_once('?').unwrap_or((name, ""));
                let page: Page = self.get(&format!("/debug/{page}"), query, &viewer);
                if page.status == StatusCode::FORBIDDEN {
                    return Err(Status::permission_denied(page.body.trim()));
                }
                Ok(vec![text(name, page.body)])
            }
            (CONFIG_DUMP | PAGE, _) => Err(Status::invalid_argument(format!(
                "type {type_url} is asked for with one name: a proxy (POD.NAMESPACE), or a page such as syncz"
            ))),
            _ => Err(Status::invalid_argument(format!(
                "there is no type {type_url}; tools may ask for {SYNCZ}, {CONFIG_DUMP} and {PAGE}"
            ))),
        }
    }
}

fn text(name: &str, body: String) -> (String, Any) {
    let body = Any {
        type_url: PAGE.to_owned(),
        value: body.into_bytes(),
    };
    (name.to_owned(), body)
}

fn client_config(connection: &Connection) -> ClientConfig {
    let status = connection.status.lock();
    let metadata = [
        ("CLUSTER_ID", syncz::cluster(&connection.proxy)),
        ("NAMESPACE", connection.proxy.id.namespace.as_str()),
        ("ISTIO_VERSION", syncz::version(&connection.proxy)),
    ];
    let string = |text: &str| ProtoValue {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = metadata.map(|(key, value)| (key.to_owned(), string(value)));
    let configs = syncz::TYPES.iter().filter(|(_, word)| !word.is_empty());
    ClientConfig {
        node: Some(Node {
            // istioctl's column NAME.
            id: short_id(connection),
            metadata: Some(Struct {
                fields: fields.into_iter().collect(),
            }),
            ..Node::default()
        }),
        generic_xds_configs: configs
            .map(|(type_url, _)| GenericXdsConfig {
                type_url: (*type_url).to_owned(),
                config_status: config_status(syncz::state(&status, type_url).0).into(),
                error_state: status.errors.get(*type_url).map(|error| UpdateFailureState {
                    details: error.clone(),
                    ..UpdateFailureState::default()
                }),
                ..GenericXdsConfig::default()
            })
            .collect(),
        ..ClientConfig::default()
    }
}

fn config_status(state: &str) -> ConfigStatus {
    match state {
        "SYNCED" => ConfigStatus::Synced,
        "STALE" => ConfigStatus::Stale,
        "ERROR" => ConfigStatus::Error,
        _ => ConfigStatus::NotSent,
    }
}

/// The sections of the page `config_dump` as messages.
fn sections(json: &Json, connection: &Connection) -> Result<Vec<(String, Any)>, String> {
    let mut page = dump::page(json, connection);
    let Value::Array(sections) = page["configs"].take() else {
        return Ok(Vec::new());
    };
    let one = |mut section: Value| {
        let type_url = section["@type"].as_str().unwrap_or_default().to_owned();
        section.as_object_mut().and_then(|fields| fields.remove("@type"));
        let message = json.dynamic_from_value(&type_url, section);
        let value = message.map_err(|e| format!("{type_url}: {e}"))?.encode_to_vec();
        Ok((type_url.clone(), Any { type_url, value }))
    };
    sections.into_iter().map(one).collect()
}
