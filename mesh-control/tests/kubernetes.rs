//! The control plane on an API server: watches, what it writes, and what it answers.

#[path = "kubernetes/api_server.rs"]
mod api_server;
mod common;
#[path = "kubernetes/watching.rs"]
mod watching;
#[path = "kubernetes/webhooks.rs"]
mod webhooks;
#[path = "kubernetes/writing.rs"]
mod writing;
