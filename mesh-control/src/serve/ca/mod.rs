//! The certificate authority: proves who calls, and signs a certificate for exactly that identity.
//!
//! - [`authority`]: keys and certificates on disk, signing.
//! - [`token`]: signed tokens, the proof of callers where there is no Kubernetes.
//! - [`caller`]: from a request to a proven identity.
//! - [`service`][]: `istio.v1.auth.IstioCertificateService`.

pub mod authority;
pub mod caller;
pub(super) mod files;
pub mod service;
pub mod token;

#[cfg(test)]
mod tests;
