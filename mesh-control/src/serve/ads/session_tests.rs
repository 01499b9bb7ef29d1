use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::envoy::Any;
use mesh_api::envoy::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use super::resources::{Resource, Resources};
use super::session::{Ask, Push, Session};

fn resources(table: &[(&str, &[(&str, &str)])]) -> Arc<Resources> {
    let mut out = Resources::default();
    for (type_url, entries) in table {
        for (name, version) in *entries {
            let body = Any {
                type_url: (*type_url).to_owned(),
                value: version.as_bytes().to_vec(),
            };
            out.of_mut(type_url)
                .insert((*name).into(), Resource::new(body, version));
        }
    }
    Arc::new(out)
}

/// `cds +a=1 +b=2 -c`.
fn show(push: &Push) -> String {
    let mut out = super::resources::short_name(&push.type_url).to_owned();
    for (name, resource) in &push.upserts {
        out += &format!(" +{name}={}", resource.version);
    }
    for name in &push.removed {
        out += &format!(" -{name}");
    }
    out
}

/// A proxy that takes everything, except versions that begin with `bad`, and asks for the endpoints of new clusters.
struct Proxy {
    session: Session,
    now: Instant,
    /// Everything that was sent, in order.
    log: Vec<String>,
    held: BTreeMap<(String, String), String>,
    endpoints: BTreeSet<String>,
    follow_endpoints: bool,
}

impl Proxy {
    fn connect(resources: Arc<Resources>) -> Self {
        let now = Instant::now();
        Proxy {
            session: Session::new(resources, now),
            now,
            log: Vec::new(),
            held: BTreeMap::new(),
            endpoints: BTreeSet::new(),
            follow_endpoints: true,
        }
    }

    fn subscribe(&mut self, type_url: &str, names: &[&str]) -> Vec<String> {
        let ask = Ask {
            type_url: type_url.to_owned(),
            subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
            ..Ask::default()
        };
        self.ask(ask)
    }

    fn ask(&mut self, ask: Ask) -> Vec<String> {
        let pushes = self.session.ask(ask, self.now);
        self.take(pushes)
    }

    fn update(&mut self, resources: Arc<Resources>) -> Vec<String> {
        let pushes = self.session.update(resources, self.now);
        self.take(pushes)
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        let pushes = self.session.tick(self.now);
        self.take(pushes)
    }

    fn take(&mut self, pushes: Vec<Push>) -> Vec<String> {
        let start = self.log.len();
        let mut queue: std::collections::VecDeque<Push> = pushes.into();
        while let Some(push) = queue.pop_front() {
            self.log.push(show(&push));
            let bad = push.upserts.iter().any(|(_, r)| r.version.starts_with("bad"));
            let mut new = Vec::new();
            if !bad {
                for (name, resource) in &push.upserts {
                    self.held
                        .insert((push.type_url.clone(), name.to_string()), resource.version.to_string());
                    let with_endpoints = push.type_url == CLUSTER && name.starts_with("eds");
                    if with_endpoints && self.follow_endpoints && self.endpoints.insert(name.to_string()) {
                        new.push(name.to_string());
                    }
                }
                for name in &push.removed {
                    self.held.remove(&(push.type_url.clone(), name.to_string()));
                }
            }
            let answer = Ask {
                type_url: push.type_url.clone(),
                nonce: Some(push.nonce),
                error: bad.then(|| "no good".to_owned()),
                ..Ask::default()
            };
            queue.extend(self.session.ask(answer, self.now));
            if !new.is_empty() {
                let ask = Ask {
                    type_url: ENDPOINT.to_owned(),
                    subscribe: new,
                    ..Ask::default()
                };
                queue.extend(self.session.ask(ask, self.now));
            }
        }
        self.log[start..].to_vec()
    }
}

#[test]
fn only_what_changed_is_sent() {
    let mut proxy = Proxy::connect(resources(&[(CLUSTER, &[("a", "1"), ("b", "1"), ("c", "1")])]));
    assert_eq!(proxy.subscribe(CLUSTER, &[]), ["cds +a=1 +b=1 +c=1"]);
    assert_eq!(
        proxy.update(resources(&[(CLUSTER, &[("a", "1"), ("b", "1"), ("c", "1")])])),
        [""; 0]
    );
    assert_eq!(
        proxy.update(resources(&[(CLUSTER, &[("a", "1"), ("b", "2"), ("d", "1")])])),
        ["cds +b=2 +d=1"]
    );
    // Removal waits until it is clear that no route names the cluster.
    assert_eq!(proxy.pass(Duration::from_secs(1)), ["cds -c"]);
    assert_eq!(proxy.session.deadline(proxy.now), None);
    assert!(proxy.session.settled(proxy.now));
}

#[test]
fn clusters_and_endpoints_come_before_routes_and_go_after_them() {
    let old = resources(&[
        (CLUSTER, &[("eds-old", "1")]),
        (ENDPOINT, &[("eds-old", "1")]),
        (LISTENER, &[("l", "1"), ("gone", "1")]),
        (ROUTE, &[("80", "1")]),
    ]);
    let new = resources(&[
        (CLUSTER, &[("eds-new", "1")]),
        (ENDPOINT, &[("eds-new", "1")]),
        (LISTENER, &[("l", "2")]),
        (ROUTE, &[("80", "2")]),
    ]);
    let mut proxy = Proxy::connect(old);
    proxy.subscribe(CLUSTER, &[]);
    proxy.subscribe(LISTENER, &[]);
    proxy.subscribe(ROUTE, &["80"]);
    let log = proxy.update(new);
    assert_eq!(
        log,
        [
            "cds +eds-new=1",
            "eds +eds-new=1",
            "lds +l=2",
            "rds +80=2",
            "lds -gone",
            "eds -eds-old",
            "cds -eds-old"
        ]
    );
}

#[test]
fn routes_wait_for_endpoints_but_not_for_ever() {
    let mut proxy = Proxy::connect(resources(&[(ROUTE, &[("80", "1")])]));
    proxy.follow_endpoints = false;
    proxy.subscribe(CLUSTER, &[]);
    proxy.subscribe(ROUTE, &["80"]);
    let new = resources(&[
        (CLUSTER, &[("eds-a", "1")]),
        (ENDPOINT, &[("eds-a", "1")]),
        (ROUTE, &[("80", "2")]),
    ]);
    assert_eq!(proxy.update(new), ["cds +eds-a=1"]);
    assert!(!proxy.session.settled(proxy.now));
    let wait = proxy.session.deadline(proxy.now).expect("a limit");
    assert_eq!(proxy.pass(wait - proxy.now), [""; 0], "the start's grace comes first");
    let wait = proxy.session.deadline(proxy.now).expect("a limit");
    assert_eq!(proxy.pass(wait - proxy.now), ["rds +80=2"]);
}

#[test]
fn a_proxy_has_taken_all_only_with_what_its_listeners_name() {
    let mut proxy = Proxy::connect(resources(&[(LISTENER, &[("l", "1")]), (ROUTE, &[("80", "1")])]));
    proxy.subscribe(LISTENER, &[]);
    assert!(!proxy.session.settled(proxy.now), "the routes are not asked for yet");
    proxy.subscribe(ROUTE, &["80"]);
    assert!(proxy.session.settled(proxy.now));
}

#[test]
fn a_changed_cluster_brings_its_endpoints_again() {
    let state = |version| resources(&[(CLUSTER, &[("eds-a", version)]), (ENDPOINT, &[("eds-a", "1")])]);
    let mut proxy = Proxy::connect(state("1"));
    proxy.subscribe(CLUSTER, &[]);
    assert_eq!(proxy.update(state("2")), ["cds +eds-a=2", "eds +eds-a=1"]);
    assert_eq!(proxy.update(state("2")), [""; 0]);
}

#[test]
fn one_bad_resource_keeps_nothing_else_back() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut table: Vec<(&str, &str)> = names.iter().map(|n| (*n, "1")).collect();
    let mut proxy = Proxy::connect(resources(&[(CLUSTER, &table)]));
    proxy.subscribe(CLUSTER, &[]);

    table
        .iter_mut()
        .for_each(|(n, v)| *v = if *n == "d" { "bad" } else { "2" });
    proxy.update(resources(&[(CLUSTER, &table)]));
    for name in names {
        let version = proxy
            .held
            .get(&(CLUSTER.to_owned(), name.to_owned()))
            .map(String::as_str);
        assert_eq!(version, Some(if name == "d" { "1" } else { "2" }), "{name}");
    }
    let refused: Vec<_> = proxy
        .session
        .take_refusals()
        .into_iter()
        .filter(|r| !r.names.is_empty())
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].names.as_slice(), refused[0].error.as_str()),
        (["d".to_owned()].as_slice(), "no good")
    );

    assert_eq!(
        proxy.update(resources(&[(CLUSTER, &table)])),
        [""; 0],
        "the refused version is not sent again"
    );
    table[3].1 = "3";
    assert_eq!(proxy.update(resources(&[(CLUSTER, &table)])), ["cds +d=3"]);
}

#[test]
fn a_returning_proxy_gets_the_difference() {
    let mut proxy = Proxy::connect(resources(&[
        (CLUSTER, &[("same", "1"), ("changed", "2"), ("new", "1")]),
        (LISTENER, &[("l", "1")]),
        (ROUTE, &[("80", "2"), ("81", "1")]),
    ]));
    let back = |type_url: &str, names: &[&str], initial: &[(&str, &str)]| Ask {
        type_url: type_url.to_owned(),
        subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
        initial: initial
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        ..Ask::default()
    };
    let log = proxy.ask(back(CLUSTER, &["*"], &[("same", "1"), ("changed", "1"), ("gone", "1")]));
    assert_eq!(
        log,
        ["cds +changed=2 +new=1"],
        "what is gone is still named by the routes"
    );
    assert_eq!(
        proxy.ask(back(LISTENER, &[], &[("l", "1")])),
        ["lds"],
        "a first request is answered"
    );
    let log = proxy.ask(back(ROUTE, &["80", "81"], &[("80", "1"), ("81", "1")]));
    assert_eq!(log, ["rds +80=2", "cds -gone"]);
}

#[test]
fn names_asked_for_are_answered_and_forgotten() {
    let mut proxy = Proxy::connect(resources(&[(ROUTE, &[("80", "1"), ("81", "1")])]));
    assert_eq!(proxy.subscribe(ROUTE, &["80", "none"]), ["rds +80=1 -none"]);
    assert_eq!(
        proxy.update(resources(&[(ROUTE, &[("80", "1"), ("81", "2"), ("none", "1")])])),
        ["rds +none=1"]
    );
    let leave = Ask {
        type_url: ROUTE.to_owned(),
        unsubscribe: vec!["80".to_owned()],
        ..Ask::default()
    };
    assert_eq!(proxy.ask(leave), [""; 0]);
    assert_eq!(
        proxy.update(resources(&[(ROUTE, &[("80", "5"), ("none", "1")])])),
        [""; 0]
    );
    assert_eq!(proxy.subscribe(ROUTE, &["80"]), ["rds +80=5"]);
}

#[test]
fn an_unanswered_response_holds_back_newer_ones_of_its_type_for_a_while() {
    let now = Instant::now();
    let mut session = Session::new(resources(&[(CLUSTER, &[("a", "1")])]), now);
    let ask = Ask {
        type_url: CLUSTER.to_owned(),
        ..Ask::default()
    };
    assert_eq!(session.ask(ask, now).len(), 1);
    assert!(session.update(resources(&[(CLUSTER, &[("a", "2")])]), now).is_empty());
    let late = now + Duration::from_secs(5);
    let pushes = session.tick(late);
    assert_eq!(pushes.iter().map(show).collect::<Vec<_>>(), ["cds +a=2"]);
}

/// The first request of a type, and the nonce of its answer.
fn opened(session: &mut Session, type_url: &str, now: Instant) -> u64 {
    let ask = Ask {
        type_url: type_url.to_owned(),
        ..Ask::default()
    };
    session.ask(ask, now).first().expect("an answer").nonce
}

#[test]
fn an_answer_settles_the_responses_before_it_too() {
    let now = Instant::now();
    let mut session = Session::new(resources(&[(CLUSTER, &[("a", "1")])]), now);
    opened(&mut session, CLUSTER, now);
    // Late by then, so the next version goes out all the same.
    let later = now + Duration::from_secs(6);
    let second = session.update(resources(&[(CLUSTER, &[("a", "2")])]), later);
    let nonce = second.first().expect("a push").nonce;
    let ack = Ask {
        type_url: CLUSTER.to_owned(),
        nonce: Some(nonce),
        ..Ask::default()
    };
    session.ask(ack, later);
    assert!(session.settled(now), "nothing is waited for, whatever the time");
}

#[test]
fn what_is_unsubscribed_by_name_and_wanted_by_wildcard_is_sent_again() {
    let now = Instant::now();
    let mut proxy = Proxy::connect(resources(&[(CLUSTER, &[("a", "1"), ("b", "1")])]));
    proxy.now = now;
    assert_eq!(proxy.subscribe(CLUSTER, &["*", "a"]), ["cds +a=1 +b=1"]);
    let ask = Ask {
        type_url: CLUSTER.to_owned(),
        unsubscribe: vec!["a".to_owned()],
        ..Ask::default()
    };
    assert_eq!(proxy.ask(ask), ["cds +a=1"]);
    let ask = Ask {
        type_url: CLUSTER.to_owned(),
        unsubscribe: vec!["*".to_owned()],
        ..Ask::default()
    };
    assert_eq!(proxy.ask(ask), [""; 0]);
    assert_eq!(proxy.update(resources(&[(CLUSTER, &[("b", "2")])])), [""; 0]);
}
