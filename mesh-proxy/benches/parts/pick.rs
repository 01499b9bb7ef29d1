//! Choice of an endpoint: should cost the same with ten and with a thousand.

use divan::Bencher;
use mesh_proxy::shared::{Node, Shared};
use mesh_proxy::upstream::{PickContext, pick};
use mesh_proxy::worker::Worker;

const ENDPOINTS: [usize; 2] = [10, 1000];

#[divan::bench(args = ENDPOINTS)]
fn round_robin(bencher: Bencher<'_, '_>, endpoints: usize) {
    by(bencher, "ROUND_ROBIN", endpoints);
}

#[divan::bench(args = ENDPOINTS)]
fn least_request(bencher: Bencher<'_, '_>, endpoints: usize) {
    by(bencher, "LEAST_REQUEST", endpoints);
}

#[divan::bench(args = ENDPOINTS)]
fn random(bencher: Bencher<'_, '_>, endpoints: usize) {
    by(bencher, "RANDOM", endpoints);
}

fn by(bencher: Bencher<'_, '_>, policy: &str, endpoints: usize) {
    let (_, snapshot) = crate::load(&crate::clusters(1, endpoints, policy));
    let cluster = &snapshot.clusters["c-0"];
    let worker = Worker::new(0, Shared::new(Node::default()));
    bencher.bench_local(|| pick(cluster, &worker, PickContext::default()));
}
