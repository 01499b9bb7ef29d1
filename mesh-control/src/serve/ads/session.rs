//! One stream's state: a pure state machine, without sockets and with the time handed in.
//!
//! Order of a change (make before break): clusters, endpoints; when the proxy has taken them, listeners and routes; when
//! it has taken those, removals the other way round. Secrets and the name table stand by themselves. What a proxy asks for
//! by name is answered at once, whatever is on its way.
//!
//! A refused response is split until the bad resource stands alone, so that it keeps back nothing else; the refused version
//! is not sent again until it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::envoy::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use super::resources::{Name, Resource, Resources, wildcard_by_default};
use super::watch::{Outcome, Watch};

/// Listeners and routes wait at most this long for the proxy to take new clusters with their endpoints.
const HOLD_LIMIT: Duration = Duration::from_secs(2);
/// A proxy that comes back asks for its types one after the other; clusters are not removed before it asked for routes.
const START_GRACE: Duration = Duration::from_secs(1);

/// What a proxy says in one request.
#[derive(Debug, Default, Clone)]
pub struct Ask {
    /// Type of resource.
    pub type_url: String,
    /// Response that this answers; `None` in a request that answers none.
    pub nonce: Option<u64>,
    /// Why the response was refused.
    pub error: Option<String>,
    /// Names asked for (`*`: everything).
    pub subscribe: Vec<String>,
    /// Names no longer wanted.
    pub unsubscribe: Vec<String>,
    /// What the proxy holds from an earlier stream, with versions.
    pub initial: BTreeMap<String, String>,
}

/// One response.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// Type of resource.
    pub type_url: String,
    /// To be echoed by the proxy.
    pub nonce: u64,
    /// New and changed resources.
    pub upserts: Vec<(Name, Resource)>,
    /// Names that are gone (or that were asked for and are not there).
    pub removed: Vec<Name>,
}

/// A refusal, for logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Type of resource.
    pub type_url: String,
    /// What the proxy says.
    pub error: String,
    /// The resources refused; empty while the search for the bad one goes on.
    pub names: Vec<String>,
}

/// The state.
#[derive(Debug)]
pub struct Session {
    resources: Arc<Resources>,
    watches: BTreeMap<String, Watch>,
    next_nonce: u64,
    started: Instant,
    /// New clusters whose endpoints the proxy has yet to ask for.
    awaited: BTreeSet<Name>,
    hold_until: Option<Instant>,
    refusals: Vec<Refusal>,
}

impl Session {
    /// A new stream of a proxy that should hold `resources`.
    pub fn new(resources: Arc<Resources>, now: Instant) -> Self {
        Session {
            resources,
            watches: BTreeMap::new(),
            next_nonce: 0,
            started: now,
            awaited: BTreeSet::new(),
            hold_until: None,
            refusals: Vec::new(),
        }
    }

    /// What the proxy should hold.
    pub fn resources(&self) -> &Arc<Resources> {
        &self.resources
    }

    /// Refusals since the last call.
    pub fn take_refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refusals)
    }

    /// The proxy should hold these from now on.
    pub fn update(&mut self, resources: Arc<Resources>, now: Instant) -> Vec<Push> {
        for (type_url, watch) in &mut self.watches {
            let names = self.resources.differing(&resources, type_url);
            let (old, new) = (self.resources.of(type_url), resources.of(type_url));
            if names.iter().any(|n| old.contains_key(n) != new.contains_key(n)) {
                watch.names_changed();
            }
            watch.changes(names, old);
        }
        self.resources = resources;
        let endpoints = self.resources.of(ENDPOINT);
        self.awaited.retain(|n| endpoints.contains_key(n));
        self.pump(now)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Push> {
        self.pump(now)
    }

    /// When [`Session::tick`] is to be called if nothing else happens.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let late = self.watches.values().filter_map(Watch::deadline);
        let start = self.started + START_GRACE;
        late.chain(self.hold_until).chain([start]).filter(|d| *d > now).min()
    }

    /// Everything that the proxy should hold has been asked for, sent and answered.
    pub fn settled(&mut self, now: Instant) -> bool {
        let quiet = |t: &String| self.clear(t, now) && self.gone(t).is_empty();
        self.watches.keys().all(quiet) && self.asked(CLUSTER, ENDPOINT) && self.asked(LISTENER, ROUTE)
    }

    /// What resources of one type name of another is asked for only when they have been taken. A proxy that has refused
    /// one of them may never ask.
    fn asked(&mut self, by: &str, named: &str) -> bool {
        let held = self.resources.of(by);
        let Some(by) = self.watches.get(by).filter(|w| w.rejected.is_empty()) else {
            return true;
        };
        if by.is_empty(held) {
            return true;
        }
        let wanted = self.resources.of(named);
        let Some(watch) = self.watches.get_mut(named) else {
            return wanted.is_empty();
        };
        watch.asked(wanted) == wanted.len()
    }

    /// What the proxy holds of a type, by name, as far as this stream knows the bytes.
    pub fn held(&self, type_url: &str) -> Vec<(Name, Resource)> {
        let wanted = self.resources.of(type_url);
        let held = self.watches.get(type_url).into_iter().flat_map(|w| w.held(wanted));
        let mut held: Vec<_> = held.map(|(name, resource)| (name.clone(), resource.clone())).collect();
        // Three runs that are in order already: a stable sort only merges them.
        held.sort_by(|(a, _), (b, _)| a.cmp(b));
        held
    }

    /// Names (not by wildcard) that the proxy asked for.
    pub fn names(&self, type_url: &str) -> Option<&BTreeSet<Name>> {
        self.watches.get(type_url).map(|w| &w.names)
    }

    /// The last nonce sent for a type; 0 before the first.
    pub fn last_nonce(&self, type_url: &str) -> u64 {
        self.watches.get(type_url).map_or(0, |w| w.last_nonce)
    }

    /// Types asked for, each with the number of resources held and refused, and whether an answer is awaited.
    pub fn overview(&mut self, now: Instant) -> BTreeMap<String, (usize, Vec<String>, bool)> {
        let names = |w: &Watch| w.rejected.keys().map(|n| n.to_string()).collect();
        let resources = &self.resources;
        let one = |(t, w): (&String, &mut Watch)| (t.clone(), (w.count(resources.of(t)), names(w), !w.idle(now)));
        self.watches.iter_mut().map(one).collect()
    }

    /// A request of the proxy.
    pub fn ask(&mut self, ask: Ask, now: Instant) -> Vec<Push> {
        let type_url = ask.type_url;
        let first = !self.watches.contains_key(&type_url);
        let watch = self.watches.entry(type_url.clone()).or_default();
        if let Some(nonce) = ask.nonce {
            let outcome = watch.answered(nonce, ask.error.is_none(), self.resources.of(&type_url));
            self.note(&type_url, &outcome, ask.error);
        }
        let wanted = self.resources.of(&type_url);
        let watch = self.watches.entry(type_url.clone()).or_default();
        for name in &ask.unsubscribe {
            watch.unsubscribe(name, wanted);
        }
        let everything = ask.subscribe.iter().any(|n| n == "*")
            || (first && ask.subscribe.is_empty() && wildcard_by_default(&type_url));
        let fresh_wildcard = everything && watch.subscribe_all(wanted);
        let shared = |name: String| {
            wanted
                .entry(&name)
                .map_or_else(|| Name::from(&*name), |(name, _)| name.clone())
        };
        let named = ask.subscribe.into_iter().filter(|n| n != "*");
        let mut names: BTreeSet<Name> = named.map(shared).collect();
        watch.subscribe(&names, wanted);
        let mut comes_back = false;
        if first {
            for (name, version) in ask.initial {
                comes_back |= watch.told(shared(name), version);
            }
        }

        // Asked for by name: answered now, except what a returning proxy holds already; that goes in order, by `pump`.
        if fresh_wildcard && !comes_back {
            names.extend(wanted.keys().cloned());
        }
        watch.owes_answer |= fresh_wildcard;
        if comes_back {
            names.retain(|n| !watch.holds(n, wanted));
        }
        names.retain(|n| wanted.get(n).is_none_or(|r| watch.rejected.get(n) != Some(&r.version)));
        let (names, missing): (Vec<_>, Vec<_>) = names.into_iter().partition(|n| wanted.contains_key(n));
        if type_url == ENDPOINT {
            names.iter().for_each(|n| {
                self.awaited.remove(n);
            });
        }
        let mut out = Vec::new();
        if !names.is_empty() || !missing.is_empty() {
            self.send(&type_url, names, missing, now, &mut out);
        }
        out.extend(self.pump(now));
        out
    }

    fn note(&mut self, type_url: &str, outcome: &Outcome, error: Option<String>) {
        let names: Vec<String> = match outcome {
            Outcome::Refused(names) => names.iter().map(|(n, _)| n.to_string()).collect(),
            Outcome::Split(_) => Vec::new(),
            Outcome::Accepted | Outcome::Unknown => return,
        };
        if type_url == CLUSTER
            && let Outcome::Refused(refused) = outcome
        {
            refused.iter().for_each(|(n, _)| {
                self.awaited.remove(n);
            });
        }
        self.refusals.push(Refusal {
            type_url: type_url.to_owned(),
            error: error.unwrap_or_default(),
            names,
        });
    }

    /// Sends what may be sent now.
    fn pump(&mut self, now: Instant) -> Vec<Push> {
        let mut out = Vec::new();
        let ordered = [CLUSTER, ENDPOINT, LISTENER, ROUTE];
        let own: Vec<String> = self
            .watches
            .keys()
            .filter(|t| !ordered.contains(&t.as_str()))
            .cloned()
            .collect();
        for type_url in own {
            self.upsert(&type_url, now, &mut out);
            self.remove(&type_url, now, &mut out);
        }
        self.upsert(CLUSTER, now, &mut out);
        self.upsert(ENDPOINT, now, &mut out);
        if self.may_route(now) {
            self.upsert(LISTENER, now, &mut out);
            self.upsert(ROUTE, now, &mut out);
            if self.clear(LISTENER, now) && self.clear(ROUTE, now) {
                self.remove(ROUTE, now, &mut out);
                self.remove(LISTENER, now, &mut out);
            }
            let quiet = [LISTENER, ROUTE]
                .into_iter()
                .all(|t| self.clear(t, now) && self.gone(t).is_empty());
            let known = self.watches.contains_key(ROUTE) || now >= self.started + START_GRACE;
            if quiet && known {
                self.remove(ENDPOINT, now, &mut out);
                self.remove(CLUSTER, now, &mut out);
            }
        }
        out
    }

    /// Whether listeners and routes may be sent: the clusters that they name are there.
    fn may_route(&mut self, now: Instant) -> bool {
        let ready = self.clear(CLUSTER, now) && self.clear(ENDPOINT, now) && self.awaited.is_empty();
        if ready {
            self.hold_until = None;
            return true;
        }
        let until = *self.hold_until.get_or_insert(now + HOLD_LIMIT);
        if now >= until {
            self.awaited.clear();
            self.hold_until = None;
            return true;
        }
        false
    }

    /// Nothing of the type is on its way or to be sent (removals aside).
    fn clear(&self, type_url: &str, now: Instant) -> bool {
        self.watches
            .get(type_url)
            .is_none_or(|w| w.idle(now) && !w.has_due(self.resources.of(type_url)))
    }

    fn gone(&self, type_url: &str) -> Vec<Name> {
        let wanted = self.resources.of(type_url);
        self.watches.get(type_url).map(|w| w.gone(wanted)).unwrap_or_default()
    }

    fn upsert(&mut self, type_url: &str, now: Instant, out: &mut Vec<Push>) {
        let Some(watch) = self.watches.get_mut(type_url) else {
            return;
        };
        if !watch.idle(now) {
            return;
        }
        let owes = watch.owes_answer;
        let names = watch.due(self.resources.of(type_url));
        if owes || !names.is_empty() {
            self.send(type_url, names, Vec::new(), now, out);
        }
    }

    fn remove(&mut self, type_url: &str, now: Instant, out: &mut Vec<Push>) {
        let gone = self.gone(type_url);
        if !gone.is_empty() && self.watches.get(type_url).is_some_and(|w| w.idle(now)) {
            self.send(type_url, Vec::new(), gone, now, out);
        }
    }

    fn send(&mut self, type_url: &str, names: Vec<Name>, removed: Vec<Name>, now: Instant, out: &mut Vec<Push>) {
        if type_url == CLUSTER {
            self.before_clusters(&names);
        }
        self.next_nonce += 1;
        let watch = self.watches.entry(type_url.to_owned()).or_default();
        let upserts = watch.send(self.next_nonce, names, &removed, self.resources.of(type_url), now);
        out.push(Push {
            type_url: type_url.to_owned(),
            nonce: self.next_nonce,
            upserts,
            removed,
        });
    }

    /// A new cluster waits in the proxy until its endpoints come. So does a changed one in Envoy, which does not ask for
    /// them again: they are sent again.
    fn before_clusters(&mut self, names: &[Name]) {
        let endpoints = self.resources.of(ENDPOINT);
        for name in names.iter().filter(|n| endpoints.contains_key(n)) {
            let clusters = self.resources.of(CLUSTER);
            let held = self.watches.get(CLUSTER).is_some_and(|w| w.holds(name, clusters));
            match self.watches.get_mut(ENDPOINT) {
                Some(watch) if watch.wants(name) => {
                    if held {
                        watch.force(name.clone());
                    }
                }
                _ => {
                    self.awaited.insert(name.clone());
                }
            }
        }
    }
}
