//! From messages to the model that requests are served from.

use divan::Bencher;
use mesh_proxy::bootstrap;
use mesh_proxy::shared::{Node, Shared};
use mesh_proxy::snapshot::build::{Builder, Incoming, Update};
use mesh_proxy::snapshot::resources::Source;
use prost::Message as _;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// All that a control plane pushes first.
#[divan::bench(args = [50, 1000], sample_count = 20, sample_size = 1)]
fn first(bencher: Bencher<'_, '_>, clusters: usize) {
    let update = update(clusters, 2);
    bencher
        .with_inputs(|| (Builder::new(Shared::new(Node::default())), update.clone()))
        .bench_local_values(|(mut builder, update)| (builder.apply(update, Source::Dynamic).snapshot, builder));
}

/// One cluster of many changes.
#[divan::bench(args = [50, 1000], sample_count = 50, sample_size = 1)]
fn one_of(bencher: Bencher<'_, '_>, clusters: usize) {
    let mut builder = Builder::new(Shared::new(Node::default()));
    builder.apply(update(clusters, 2), Source::Dynamic);
    // By turns with two endpoints and with three, so that there is always a change.
    let mut turns = [update(1, 3), update(1, 2)].into_iter().cycle();
    bencher
        .with_inputs(|| turns.next().expect("an endless row"))
        .bench_local_values(|update| builder.apply(update, Source::Dynamic).snapshot.is_some());
}

fn update(clusters: usize, endpoints: usize) -> Update {
    let text = crate::clusters(clusters, endpoints, "ROUND_ROBIN");
    let all = bootstrap::parse(&text).expect("a bootstrap").static_resources;
    let set = all.into_iter().flat_map(|r| r.clusters).map(|cluster| Incoming {
        name: cluster.name.clone(),
        version: "1".to_owned(),
        bytes: cluster.encode_to_vec(),
    });
    Update {
        type_url: CLUSTER.to_owned(),
        set: set.collect(),
        ..Update::default()
    }
}
