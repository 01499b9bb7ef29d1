//! Steps of the request path by themselves: `cargo bench -p mesh-proxy`, and a word behind it for some of them.
//!
//! Times of two runs compare on a quiet machine only; `cargo xtask bench instructions --against REV` compares anywhere.

mod headers;
mod pick;
mod route;
mod snapshot;

use std::fmt::Write as _;
use std::time::Duration;

use mesh_proxy::bootstrap;
use mesh_proxy::shared::{Node, Shared};
use mesh_proxy::snapshot::Snapshot;
use mesh_proxy::snapshot::build::Builder;

fn main() {
    divan::main();
}

/// What a bootstrap's text becomes, with the builder that made it.
fn load(text: &str) -> (Builder, Snapshot) {
    let mut bootstrap = bootstrap::parse(text).expect("a bootstrap");
    let mut builder = Builder::new(Shared::new(Node::default())).with_patience(Duration::ZERO);
    let (snapshot, refused) = bootstrap::load_static(&mut bootstrap, &mut builder);
    assert!(refused.is_empty(), "{refused:?}");
    (builder, snapshot.expect("static resources"))
}

/// Clusters in YAML, each with so many endpoints.
fn clusters(count: usize, endpoints: usize, policy: &str) -> String {
    let mut text = "static_resources:\n  clusters:\n".to_owned();
    for n in 0..count {
        let all: Vec<String> = (0..endpoints)
            .map(|e| {
                let ip = format!("10.0.{}.{}", e / 250, e % 250 + 1);
                format!("{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: 80}}}}}}}}")
            })
            .collect();
        let _ = writeln!(
            text,
            "  - {{name: c-{n}, connect_timeout: 1s, type: STATIC, lb_policy: {policy}, load_assignment: {{cluster_name: c-{n}, \
             endpoints: [{{lb_endpoints: [{}]}}]}}}}",
            all.join(", ")
        );
    }
    text
}
