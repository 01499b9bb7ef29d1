//! Laws that hold for any input, tried on inputs that nobody wrote by hand.

#[path = "properties/arbitrary.rs"]
mod arbitrary;
#[path = "properties/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mesh_api::envoy::pb::envoy::config::route::v3::route::Action;
use mesh_api::envoy::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use mesh_api::istio::{self, Kind};
use mesh_control::compile::compile;
use mesh_control::source::directory::Directory;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use arbitrary::{about_a, any_spec, any_text, mutated_objects};
use world::{View, World, object, sent, view_of_b};

/// The same inputs in each run, so that nobody's change fails by chance. `PROPTEST_CASES=10000 PROPTEST_RNG_SEED=random` looks further.
fn config(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let elsewhere = |name: &str| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if elsewhere("PROPTEST_CASES") {
            asked.cases
        } else {
            cases
        },
        rng_seed: if elsewhere("PROPTEST_RNG_SEED") {
            asked.rng_seed
        } else {
            RngSeed::Fixed(20_251_121)
        },
        // What fails is printed whole, and becomes a test of its own.
        failure_persistence: None,
        ..asked
    }
}

proptest! {
    #![proptest_config(config(128))]

    /// Nothing that is said about one host changes what a proxy is sent for another.
    #[test]
    fn objects_about_one_host_leave_another_alone(added in prop::collection::vec(about_a(), 1..4)) {
        static BEFORE: LazyLock<Vec<View>> = LazyLock::new(|| {
            let store = World::with(&[]);
            World::proxies().iter().map(|proxy| view_of_b(compile(&store, proxy))).collect()
        });
        let after = World::with(&added);
        let known = World::documents(&added).len();
        prop_assert_eq!(after.objects().len(), known, "some were refused: {}", Value::from(added));
        for (proxy, before) in World::proxies().iter().zip(BEFORE.iter()) {
            prop_assert!(before.is_whole(), "{}: not all of what leads to b is looked at", proxy.id);
            let differs = before.difference(&view_of_b(compile(&after, proxy)));
            prop_assert!(differs.is_empty(), "{}: {differs:?} by {}", proxy.id, Value::from(added));
        }
    }

    /// The order in which objects come does not show.
    #[test]
    fn any_order_compiles_to_the_same(
        (added, order) in prop::collection::vec(about_a(), 1..6)
            .prop_flat_map(|added| (Just(added.clone()), Just(World::documents(&added)).prop_shuffle()))
    ) {
        let (sorted, shuffled) = (World::with(&added), World::of(&order));
        for proxy in World::proxies() {
            prop_assert!(sent(compile(&sorted, &proxy)) == sent(compile(&shuffled, &proxy)), "{}", Value::Array(order));
        }
    }

    /// What a route gives to its destinations is what the object says, and nothing is lost on the way.
    #[test]
    fn weights_add_up(weights in prop::collection::vec(0_u32..=100, 2..5)) {
        prop_assume!(weights.iter().any(|w| *w > 0));
        let hosts = ["a", "b", "c", "d"];
        let route: Vec<Value> = weights
            .iter()
            .zip(hosts)
            .map(|(weight, host)| json!({"destination": {"host": host, "port": {"number": 80}}, "weight": weight}))
            .collect();
        let document = object(Kind::VirtualService, "split", &json!({"hosts": ["a"], "http": [{"route": route}]}));
        let store = World::with(&[document]);
        let client = World::proxies().remove(0);
        let compiled = compile(&store, &client);
        let table = compiled.routes["80"].message().expect("a table");
        let host = table.virtual_hosts.iter().find(|h| h.name == "a.shop.svc.cluster.local:80");
        let routes = &host.expect("the host").routes;
        let Some(Action::Route(action)) = &routes[0].action else {
            panic!("no route: {routes:?}");
        };
        let wanted: BTreeMap<String, u32> = weights
            .iter()
            .zip(hosts)
            .filter(|(weight, _)| **weight > 0)
            .map(|(weight, host)| (format!("outbound|80||{host}.shop.svc.cluster.local"), *weight))
            .collect();
        let got: BTreeMap<String, u32> = match action.cluster_specifier.as_ref().expect("a destination") {
            ClusterSpecifier::Cluster(one) => BTreeMap::from([(one.clone(), *wanted.values().next().expect("one"))]),
            ClusterSpecifier::WeightedClusters(many) => {
                many.clusters.iter().map(|c| (c.name.clone(), c.weight.as_ref().map_or(0, |w| w.value))).collect()
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(got.values().sum::<u32>(), wanted.values().sum::<u32>());
        prop_assert_eq!(got, wanted);
    }
}

proptest! {
    #![proptest_config(config(256))]

    /// Any specification at all is read, or refused with the place of what is wrong.
    #[test]
    fn any_specification_is_read_or_refused_by_field((kind, spec) in any_spec()) {
        let document = object(kind, "any", &spec);
        if let Err(errors) = istio::parse(&kind.api_version(), kind.as_str(), document) {
            prop_assert!(!errors.is_empty());
            prop_assert!(errors.iter().all(|e| !e.path.is_empty() && !e.message.is_empty()), "{errors:?}");
        }
    }

    /// What is read is compiled, however odd.
    #[test]
    fn whatever_is_read_is_compiled(changed in mutated_objects()) {
        let store = World::with(&changed);
        for proxy in World::proxies() {
            compile(&store, &proxy);
        }
    }
}

proptest! {
    #![proptest_config(config(128))]

    /// Any file at all is taken, or its faults are named.
    #[test]
    fn any_text_is_read_or_reported(text in any_text()) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("any.yaml"), &text).expect("a file");
        let loaded = Directory::new(folder.path()).load();
        let store = mesh_control::store::Store::build(loaded.objects, std::sync::Arc::default());
        for proxy in World::proxies() {
            compile(&store, &proxy);
        }
    }
}
