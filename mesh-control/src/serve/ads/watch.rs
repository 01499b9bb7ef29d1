//! One type's part of a stream: what is asked for, held, refused and on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::resources::{Name, OfType, Resource};

/// A proxy that has not answered for this long is sent newer configuration all the same.
const ACK_LIMIT: Duration = Duration::from_secs(5);
/// Responses without an answer that are remembered; a proxy that answers none of them costs no more than this.
const MOST_IN_FLIGHT: usize = 8;

/// What the proxy holds under one name, where that is not what it should hold.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// Sent on this stream.
    Sent(Resource),
    /// Brought along from an earlier stream, in this version.
    Told(Box<str>),
}

impl Held {
    fn version(&self) -> &str {
        match self {
            Held::Sent(resource) => &resource.version,
            Held::Told(version) => version,
        }
    }
}

/// A response on its way.
#[derive(Debug)]
pub(super) struct Sent {
    /// Name, version sent, and what was held before.
    upserts: Vec<(Name, Arc<str>, Option<Held>)>,
    at: Instant,
}

/// What became of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The proxy has it.
    Accepted,
    /// These names (with their versions) are refused and will not be sent again until they change.
    Refused(Vec<(Name, Arc<str>)>),
    /// Refused as a whole: its halves will be tried, so that one bad resource does not keep the others back.
    Split(Vec<Name>),
    /// No such response is on its way: an answer to an older one.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<Name>,
    /// What the proxy holds of names for which that is (or may be) not what it should hold; `None`: nothing. Every other name
    /// that it asked for it holds as it should. So a change costs what it changes, and a stream that has settled costs
    /// nothing for what its proxy holds.
    apart: BTreeMap<Name, Option<Held>>,
    pub(super) rejected: BTreeMap<Name, Arc<str>>,
    /// To be sent again although unchanged.
    forced: BTreeSet<Name>,
    /// How much of what there is was asked for; `None` when nobody has looked since that may have changed.
    asked: Option<usize>,
    /// A first request by wildcard is answered even when there is nothing to say.
    pub(super) owes_answer: bool,
    pub(super) last_nonce: u64,
    in_flight: BTreeMap<u64, Sent>,
    retry: VecDeque<Vec<Name>>,
}

impl Watch {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Nothing is on its way (or the proxy is late with its answer).
    pub(super) fn idle(&self, now: Instant) -> bool {
        self.in_flight.values().all(|s| now >= s.at + ACK_LIMIT)
    }

    /// When a late answer is no longer waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.in_flight.values().map(|s| s.at + ACK_LIMIT).max()
    }

    /// Version that the proxy holds. `wanted` is what it should hold.
    fn version<'a>(&'a self, name: &str, wanted: OfType<'a>) -> Option<&'a str> {
        match self.apart.get(name) {
            Some(held) => held.as_ref().map(Held::version),
            None => wanted.get(name).filter(|_| self.wants(name)).map(|r| &*r.version),
        }
    }

    /// Whether the proxy holds anything under this name.
    pub(super) fn holds(&self, name: &str, wanted: OfType<'_>) -> bool {
        self.version(name, wanted).is_some()
    }

    /// Everything that the proxy holds, as far as this stream knows the bytes.
    pub(super) fn held<'a>(&'a self, wanted: OfType<'a>) -> impl Iterator<Item = (&'a Name, &'a Resource)> {
        let settled = wanted
            .iter()
            .filter(|(name, _)| self.wants(name) && !self.apart.contains_key(*name));
        let apart = self.apart.iter().filter_map(|(name, held)| match held {
            Some(Held::Sent(resource)) => Some((name, resource)),
            Some(Held::Told(_)) | None => None,
        });
        settled.chain(apart)
    }

    /// How many resources the proxy holds. Asked for after each response, so it looks at few names only.
    pub(super) fn count(&mut self, wanted: OfType<'_>) -> usize {
        let apart = self.apart.keys();
        let unsettled = apart
            .filter(|name| self.wants(name) && wanted.contains_key(name))
            .count();
        let held = self.apart.values().flatten().count();
        (self.asked(wanted) + held).saturating_sub(unsettled)
    }

    /// How many of these the proxy asks for.
    pub(super) fn asked(&mut self, wanted: OfType<'_>) -> usize {
        let count = || {
            if self.wildcard {
                wanted.len()
            } else {
                self.names.iter().filter(|name| wanted.contains_key(name)).count()
            }
        };
        let asked = self.asked.unwrap_or_else(count);
        self.asked = Some(asked);
        asked
    }

    /// Other names are there than before.
    pub(super) fn names_changed(&mut self) {
        self.asked = None;
    }

    /// Whether the proxy holds nothing.
    pub(super) fn is_empty(&self, wanted: OfType<'_>) -> bool {
        self.apart.values().all(Option::is_none) && self.held(wanted).next().is_none()
    }

    /// These names will be wanted in another form, or not any more; `before` is what was wanted until now.
    pub(super) fn changes(&mut self, names: impl IntoIterator<Item = Name>, before: OfType<'_>) {
        for name in names {
            if self.wants(&name) && !self.apart.contains_key(&name) {
                let held = before.get(&name).cloned().map(Held::Sent);
                self.apart.insert(name, held);
            }
        }
    }

    /// The proxy asks for everything. Whether it had not done so before.
    pub(super) fn subscribe_all(&mut self, wanted: OfType<'_>) -> bool {
        if self.wildcard {
            return false;
        }
        let new = wanted.keys().filter(|name| !self.names.contains(*name));
        let new: Vec<_> = new.map(|name| (name.clone(), None)).collect();
        self.apart.extend(new);
        self.wildcard = true;
        self.asked = None;
        true
    }

    /// The proxy asks for these.
    pub(super) fn subscribe(&mut self, names: &BTreeSet<Name>, wanted: OfType<'_>) {
        if names.is_empty() {
            return;
        }
        self.asked = None;
        let new = names
            .iter()
            .filter(|name| !self.wants(name) && wanted.contains_key(name));
        let new: Vec<_> = new.map(|name| (name.clone(), None)).collect();
        self.apart.extend(new);
        if self.names.is_empty() {
            // As dense as it was built.
            self.names = names.clone();
        } else {
            self.names.extend(names.iter().cloned());
        }
    }

    /// The proxy has brought along this version. Whether it asks for the name at all.
    pub(super) fn told(&mut self, name: Name, version: String) -> bool {
        let wants = self.wants(&name);
        if wants {
            self.apart.insert(name, Some(Held::Told(version.into())));
        }
        wants
    }

    /// To be sent although unchanged.
    pub(super) fn force(&mut self, name: Name) {
        self.forced.insert(name);
    }

    /// Names that are to be sent now; they are taken as sent.
    pub(super) fn due(&mut self, wanted: OfType<'_>) -> Vec<Name> {
        while let Some(part) = self.retry.pop_front() {
            let part: Vec<Name> = part.into_iter().filter(|n| self.differs(n, wanted)).collect();
            if !part.is_empty() {
                return part;
            }
        }
        // What has become as it should be without our doing.
        let settled = |name: &Name, held: &Option<Held>| {
            held.as_ref().map(Held::version) == wanted.get(name).map(|resource| &*resource.version)
        };
        self.apart.retain(|name, held| !settled(name, held));
        let due = self.suspects().filter(|n| self.wants(n) && self.differs(n, wanted));
        let due: BTreeSet<Name> = due.cloned().collect();
        self.forced.clear();
        due.into_iter().collect()
    }

    /// All names that may have to be sent; some of them twice.
    fn suspects(&self) -> impl Iterator<Item = &Name> {
        self.apart.keys().chain(&self.forced)
    }

    /// As [`Watch::due`], without taking anything.
    pub(super) fn has_due(&self, wanted: OfType<'_>) -> bool {
        self.owes_answer || self.suspects().any(|n| self.wants(n) && self.differs(n, wanted))
    }

    /// Whether the proxy lacks the wanted version and has not refused it.
    fn differs(&self, name: &str, wanted: OfType<'_>) -> bool {
        let Some(resource) = wanted.get(name) else { return false };
        if self.rejected.get(name) == Some(&resource.version) {
            return false;
        }
        self.forced.contains(name) || self.version(name, wanted) != Some(&*resource.version)
    }

    /// Names that the proxy holds and that are gone.
    pub(super) fn gone(&self, wanted: OfType<'_>) -> Vec<Name> {
        let held = self.apart.iter().filter(|(_, held)| held.is_some());
        held.map(|(name, _)| name)
            .filter(|name| !wanted.contains_key(name))
            .cloned()
            .collect()
    }

    /// Notes what is sent; gives the resources.
    pub(super) fn send(
        &mut self,
        nonce: u64,
        names: Vec<Name>,
        removed: &[Name],
        wanted: OfType<'_>,
        now: Instant,
    ) -> Vec<(Name, Resource)> {
        let mut upserts = Vec::with_capacity(names.len());
        let mut sent = Vec::with_capacity(names.len());
        for name in names {
            let Some((name, resource)) = wanted.entry(&name) else {
                continue;
            };
            self.rejected.remove(name);
            let before = match self.apart.remove(name) {
                Some(held) => held,
                None => Some(Held::Sent(resource.clone())),
            };
            sent.push((name.clone(), resource.version.clone(), before));
            upserts.push((name.clone(), resource.clone()));
        }
        for name in removed {
            self.apart.remove(name);
            self.rejected.remove(name);
        }
        self.owes_answer = false;
        self.last_nonce = nonce;
        self.in_flight.insert(nonce, Sent { upserts: sent, at: now });
        while self.in_flight.len() > MOST_IN_FLIGHT {
            self.in_flight.pop_first();
        }
        upserts
    }

    /// The proxy's answer to a response. Answers come in the order of the responses, and a proxy may leave out all but the
    /// last one (Envoy does, after a pause): older responses are answered with it.
    pub(super) fn answered(&mut self, nonce: u64, accepted: bool, wanted: OfType<'_>) -> Outcome {
        let Some(sent) = self.in_flight.remove(&nonce) else {
            return Outcome::Unknown;
        };
        self.in_flight = self.in_flight.split_off(&nonce);
        if accepted {
            return Outcome::Accepted;
        }
        let mut names = Vec::new();
        for (name, version, before) in sent.upserts {
            // A newer version may be on its way already; then this one does not matter any more.
            if self.version(&name, wanted) == Some(&*version) {
                self.apart.insert(name.clone(), before);
                names.push((name, version));
            }
        }
        if names.len() > 1 {
            let names: Vec<Name> = names.into_iter().map(|(n, _)| n).collect();
            let (first, second) = names.split_at(names.len() / 2);
            self.retry.push_front(second.to_vec());
            self.retry.push_front(first.to_vec());
            return Outcome::Split(names);
        }
        self.rejected.extend(names.iter().cloned());
        Outcome::Refused(names)
    }

    /// The proxy no longer asks for this (`*`: for everything).
    pub(super) fn unsubscribe(&mut self, name: &str, wanted: OfType<'_>) {
        self.asked = None;
        if name == "*" {
            self.wildcard = false;
            self.apart.retain(|held, _| self.names.contains(held));
            self.rejected.retain(|held, _| self.names.contains(held));
        } else if self.names.remove(name) && self.wildcard {
            // The proxy has forgotten it, and wants it all the same.
            if let Some((name, _)) = wanted.entry(name) {
                self.apart.insert(name.clone(), None);
            }
        } else if !self.wildcard {
            self.apart.remove(name);
            self.rejected.remove(name);
        }
    }
}
