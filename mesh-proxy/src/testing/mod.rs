//! What tests of several modules need: configurations in few words, certificates, a running proxy on loopback.

mod certs;
mod model;
mod proxy;

pub(crate) use certs::*;
pub(crate) use model::*;
pub(crate) use proxy::*;
