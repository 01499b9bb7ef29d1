//! ProxyConfig: how the proxies of workloads are run.

use std::collections::BTreeMap;

use super::{WorkloadSelector, message::message};

message! {
    /// Settings of the proxies of a namespace, or of the workloads that are selected.
    pub struct ProxyConfig {
        /// Workloads; all of the namespace if absent.
        pub selector: Option<WorkloadSelector>,
        /// Worker threads; 0 for one a core.
        pub concurrency: Option<i32>,
        /// Further environment of the proxy.
        pub environment_variables: BTreeMap<String, String>,
        /// Image of the proxy.
        pub image: Option<ProxyImage>,
    }

    /// Image of the proxy.
    pub struct ProxyImage {
        /// `default`, `debug` or `distroless`.
        pub image_type: String,
    }
}
