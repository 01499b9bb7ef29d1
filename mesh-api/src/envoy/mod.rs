//! Envoy's v3 API: messages (from `envoy-types`), their JSON form ([`json`]), canonical bytes ([`canonical`]), the
//! names of their fields ([`fields`]), those of them that mesh-proxy implements ([`supported`]), format strings ([`format`]),
//! patches ([`patch`]), and free-form values ([`value`]).

pub mod canonical;
pub mod fields;
pub mod format;
pub mod json;
#[cfg(feature = "istio")]
pub mod patch;
pub mod supported;
pub mod value;

pub use envoy_types::pb;
pub use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration, Struct, Value as ProtoValue};

/// `xds.type.v3.TypedStruct`: a configuration whose message type the reader may not know.
#[allow(clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
mod typed_struct {
    include!(concat!(env!("OUT_DIR"), "/xds.r#type.v3.rs"));
}
pub use typed_struct::TypedStruct;

use prost::{Message, Name};
use std::time::Duration;

/// Type URLs of the resources that travel over ADS.
pub mod type_url {
    /// Clusters (CDS).
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// Endpoints (EDS).
    pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// Listeners (LDS).
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// Routes (RDS).
    pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// Secrets (SDS).
    pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    /// Istio's name table (NDS).
    pub const NAME_TABLE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";
}

/// Packs a message into an [`Any`]. Where bytes are compared or hashed, use [`canonical::pack`].
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// Unpacks an [`Any`].
///
/// # Errors
/// When the type URL names another message or the bytes are no such message.
pub fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M, UnpackError> {
    let expected = M::type_url();
    if any.type_url != expected {
        return Err(UnpackError::Type {
            expected,
            found: any.type_url.clone(),
        });
    }
    M::decode(any.value.as_slice()).map_err(|source| UnpackError::Bytes {
        type_url: expected,
        source,
    })
}

/// The name of the type that an `Any` stands for: of the struct inside, when it is a `TypedStruct`.
pub fn any_type(value: &Any) -> String {
    let name = value.type_url.rsplit('/').next().unwrap_or_default();
    if matches!(name, "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct")
        && let Ok(inner) = TypedStruct::decode(value.value.as_slice())
    {
        return inner.type_url.rsplit('/').next().unwrap_or_default().to_owned();
    }
    name.to_owned()
}

/// Why an [`Any`] could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The `Any` holds another type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// Type URL that the reader wants.
        expected: String,
        /// Type URL in the `Any`.
        found: String,
    },
    /// The bytes do not decode.
    #[error("malformed {type_url}: {source}")]
    Bytes {
        /// Type URL of the message.
        type_url: String,
        /// What prost says.
        source: prost::DecodeError,
    },
}

/// A protobuf duration.
pub fn duration(d: Duration) -> ProtoDuration {
    ProtoDuration {
        seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(d.subsec_nanos()).unwrap_or(0),
    }
}

/// A protobuf duration as the standard library's; negative ones become zero, as Envoy treats them.
pub fn std_duration(d: &ProtoDuration) -> Duration {
    Duration::new(
        u64::try_from(d.seconds).unwrap_or(0),
        u32::try_from(d.nanos).unwrap_or(0),
    )
}
