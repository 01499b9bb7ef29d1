//! Statistics, Istio's metrics, peer metadata, access logs.
//!
//! - [`stats`]: counters, gauges and histograms under Envoy's names; [`prometheus`]: how they are written out.
//! - [`request`], [`tcp`]: the records that the data path fills, and what is made of them when it is done.
//! - [`istio`]: Istio's standard metrics. [`peer`]: who is on the other side.
//! - [`access_log`]: formats, and the thread that writes.

pub mod access_log;
pub mod flags;
pub mod istio;
pub mod peer;
pub mod prometheus;
pub mod request;
pub mod stats;
pub mod tcp;
mod worker;

pub use flags::ResponseFlags;
pub use request::{RequestContext, RequestRecord};
pub use tcp::{TcpContext, TcpRecord};
pub use worker::WorkerTelemetry;

#[cfg(test)]
mod testing;
