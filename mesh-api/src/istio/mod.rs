//! Istio's objects: their types, reading with errors that name the field, and the rules that they obey.
//!
//! The structs are the `spec` of each kind, field by field as Istio's YAML has them. A field is `Option` where
//! "set to zero" and "not set" differ; elsewhere an empty string, list or map and the number zero mean "not set", as in
//! protobuf. All versions of a kind have one shape.

mod common;
mod destination_rule;
mod duration;
mod envoy_filter;
pub(crate) mod error;
mod gateway;
mod kind;
#[cfg(test)]
mod lab_tests;
pub(crate) mod message;
mod meta;
mod object;
mod parse;
#[cfg(test)]
mod parse_tests;
mod proxy_config;
mod security;
mod service_entry;
mod shape;
mod sidecar;
mod syntax;
mod telemetry;
mod validate;
mod virtual_service;

pub use common::*;
pub use destination_rule::*;
pub use duration::{Duration, DurationError};
pub use envoy_filter::*;
pub use error::{FieldError, Severity};
pub use gateway::*;
pub use kind::{Column, Kind, KindError, KindInfo};
pub use meta::{Object, ObjectMeta};
pub use object::{AnyObject, Kubernetes, Spec};
pub use parse::parse;
pub use proxy_config::*;
pub use security::*;
pub use service_entry::*;
pub use shape::deserialize;
pub use sidecar::*;
pub use telemetry::*;
pub use virtual_service::*;
