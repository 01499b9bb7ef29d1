//! One type's part of a stream: what is asked for, held, refused and on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::resources::{Name, OfType, Resource};

/// A proxy that has not answered for this long is sent newer configuration all the same.
const ACK_LIMIT: Duration = Duration::from_secs(5);
/// Responses without an answer that are remembered; a proxy that answers none of them costs no more than this.
const MOST_IN_FLIGHT: usize = 8;

/// What the proxy holds under one name.
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

    /// `None` when this stream does not know the bytes.
    pub(super) fn resource(&self) -> Option<&Resource> {
        match self {
            Held::Sent(resource) => Some(resource),
            Held::Told(_) => None,
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
    pub(super) held: BTreeMap<Name, Held>,
    pub(super) rejected: BTreeMap<Name, Arc<str>>,
    /// Names that may have to be sent or removed. All others are held as they should be, so that a change costs what it
    /// changes, and not what the proxy holds.
    unsure: BTreeSet<Name>,
    /// To be sent again although unchanged.
    forced: BTreeSet<Name>,
    /// Whether everything that there is was asked for; `None` when nobody has looked since that may have changed.
    pub(super) all_asked: Option<bool>,
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

    /// These names have changed, or their subscription has.
    pub(super) fn look_at(&mut self, names: impl IntoIterator<Item = Name>) {
        self.unsure.extend(names);
    }

    /// Anything may have changed.
    pub(super) fn look_at_all(&mut self, wanted: OfType<'_>) {
        self.unsure.extend(wanted.keys().cloned());
        self.unsure.extend(self.held.keys().cloned());
    }

    /// To be sent although unchanged.
    pub(super) fn force(&mut self, name: Name) {
        self.unsure.insert(name.clone());
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
        let mut due = Vec::new();
        for name in std::mem::take(&mut self.unsure) {
            if self.wants(&name) && self.differs(&name, wanted) {
                due.push(name);
            } else if self.is_gone(&name, wanted) {
                self.unsure.insert(name);
            }
        }
        self.forced.clear();
        due
    }

    /// As [`Watch::due`], without taking anything.
    pub(super) fn has_due(&self, wanted: OfType<'_>) -> bool {
        self.owes_answer || self.unsure.iter().any(|n| self.wants(n) && self.differs(n, wanted))
    }

    /// Whether the proxy lacks the wanted version and has not refused it.
    fn differs(&self, name: &str, wanted: OfType<'_>) -> bool {
        let Some(resource) = wanted.get(name) else { return false };
        if self.rejected.get(name) == Some(&resource.version) {
            return false;
        }
        self.forced.contains(name) || self.held.get(name).is_none_or(|h| *h.version() != *resource.version)
    }

    /// Names that the proxy holds and that are gone.
    pub(super) fn gone(&self, wanted: OfType<'_>) -> Vec<Name> {
        self.unsure
            .iter()
            .filter(|n| self.is_gone(n, wanted))
            .cloned()
            .collect()
    }

    fn is_gone(&self, name: &str, wanted: OfType<'_>) -> bool {
        self.held.contains_key(name) && !wanted.contains_key(name)
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
        let first = self.held.is_empty();
        for name in names {
            let Some((name, resource)) = wanted.entry(&name) else {
                continue;
            };
            self.rejected.remove(name);
            let before = if first {
                None
            } else {
                self.held.insert(name.clone(), Held::Sent(resource.clone()))
            };
            sent.push((name.clone(), resource.version.clone(), before));
            upserts.push((name.clone(), resource.clone()));
        }
        if first {
            // Built in one go a map takes half the room of one that grew.
            let one = |(name, resource): &(Name, Resource)| (name.clone(), Held::Sent(resource.clone()));
            self.held = upserts.iter().map(one).collect();
        }
        for name in removed {
            self.held.remove(name);
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
    pub(super) fn answered(&mut self, nonce: u64, accepted: bool) -> Outcome {
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
            if self.held.get(&name).is_some_and(|h| *h.version() == *version) {
                match before {
                    Some(before) => self.held.insert(name.clone(), before),
                    None => self.held.remove(&name),
                };
                self.unsure.insert(name.clone());
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

    pub(super) fn unsubscribe(&mut self, name: &str) {
        self.all_asked = None;
        if name == "*" {
            self.wildcard = false;
            self.held.retain(|held, _| self.names.contains(held));
            self.rejected.retain(|held, _| self.names.contains(held));
        } else if self.names.remove(name) && self.wildcard {
            // The proxy has forgotten it, and wants it all the same.
            self.force(name.into());
        } else if !self.wildcard {
            self.held.remove(name);
            self.rejected.remove(name);
        }
    }
}
