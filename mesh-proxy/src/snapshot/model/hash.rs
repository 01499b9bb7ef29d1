//! Tables for consistent hashing: a ring (`RING_HASH`) or Maglev's (`MAGLEV`). Made of the same keys and by the same hash as
//! Envoy's, so that both choose the same endpoint for the same request.

use std::net::SocketAddr;

use twox_hash::XxHash64;

/// What kind of table, with Envoy's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashRule {
    /// `RING_HASH`: the least and the most entries.
    Ring {
        /// `minimum_ring_size`, default 1024.
        minimum: u64,
        /// `maximum_ring_size`, default 8 Mi.
        maximum: u64,
    },
    /// `MAGLEV`: `table_size`, a prime, default 65537.
    Maglev(u32),
}

/// A table over positions of endpoints.
#[derive(Debug)]
pub enum HashTable {
    /// Hashes in order, each with its position.
    Ring(Vec<(u64, u32)>),
    /// Positions.
    Maglev(Vec<u32>),
}

/// One endpoint of a table.
#[derive(Debug, Clone)]
pub struct HashEntry {
    /// Its position.
    pub position: u32,
    /// What is hashed for it: `address:port`.
    pub key: String,
    /// Its share of all the weight, 0 to 1.
    pub share: f64,
}

/// The key of an address.
pub fn hash_key(address: SocketAddr) -> String {
    address.to_string()
}

/// The hash of requests' keys and of endpoints: xxHash64.
pub fn hash64(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

impl HashTable {
    /// `None` without entries.
    pub fn new(rule: HashRule, entries: Vec<HashEntry>) -> Option<Self> {
        if entries.is_empty() {
            return None;
        }
        Some(match rule {
            HashRule::Ring { minimum, maximum } => HashTable::Ring(ring(&entries, minimum, maximum)),
            HashRule::Maglev(size) => HashTable::Maglev(maglev(entries, size)),
        })
    }

    /// The position for a hash; another one for each attempt.
    #[allow(clippy::cast_possible_truncation)]
    pub fn choose(&self, hash: u64, attempt: u32) -> u32 {
        match self {
            HashTable::Ring(ring) => {
                let at = ring.partition_point(|(of, _)| *of < hash);
                let at = (at + attempt as usize) % ring.len().max(1);
                ring.get(at).map_or(0, |(_, position)| *position)
            }
            HashTable::Maglev(table) => {
                let hash = if attempt == 0 {
                    hash
                } else {
                    hash ^ (u64::MAX - u64::from(attempt) + 1)
                };
                let at = (hash % (table.len().max(1) as u64)) as usize;
                table.get(at).copied().unwrap_or_default()
            }
        }
    }
}

/// So many points on the ring for each endpoint as its share asks for, and together as many as make the lightest one whole.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn ring(entries: &[HashEntry], minimum: u64, maximum: u64) -> Vec<(u64, u32)> {
    let least = entries.iter().map(|e| e.share).fold(1.0, f64::min);
    let scale = ((least * minimum as f64).ceil() / least).min(maximum as f64);
    let mut ring = Vec::with_capacity(scale.ceil() as usize);
    // Shares are seldom whole: what is left of one counts for the next.
    let (mut made, mut wanted) = (0.0, 0.0);
    let mut key = String::new();
    for entry in entries {
        wanted += scale * entry.share;
        let mut number = 0_u64;
        while made < wanted {
            key.clear();
            key.push_str(&entry.key);
            key.push('_');
            key.push_str(&number.to_string());
            ring.push((hash64(key.as_bytes()), entry.position));
            number += 1;
            made += 1.0;
        }
    }
    ring.sort_by_key(|(hash, _)| *hash);
    ring
}

/// The paper's algorithm: endpoints take turns in filling the table, each by a permutation of its own; light ones wait.
#[allow(clippy::cast_precision_loss)]
fn maglev(mut entries: Vec<HashEntry>, size: u32) -> Vec<u32> {
    struct Turn {
        position: u32,
        offset: u64,
        skip: u64,
        next: u64,
        share: f64,
        target: f64,
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let size64 = u64::from(size.max(2));
    let most = entries.iter().map(|e| e.share).fold(0.0, f64::max);
    let mut turns: Vec<Turn> = entries
        .iter()
        .map(|entry| Turn {
            position: entry.position,
            offset: hash64(entry.key.as_bytes()) % size64,
            skip: XxHash64::oneshot(1, entry.key.as_bytes()) % (size64 - 1) + 1,
            next: 0,
            share: entry.share,
            target: 0.0,
        })
        .collect();
    let mut table = vec![u32::MAX; usize::try_from(size64).unwrap_or_default()];
    let mut left = table.len();
    let mut round = 0.0;
    while left > 0 {
        round += 1.0;
        for turn in &mut turns {
            if left == 0 {
                break;
            }
            if round * turn.share < turn.target {
                continue;
            }
            turn.target += most;
            loop {
                let at = (turn.offset + turn.skip * turn.next) % size64;
                turn.next += 1;
                let slot = usize::try_from(at).ok().and_then(|at| table.get_mut(at));
                if let Some(slot) = slot
                    && *slot == u32::MAX
                {
                    *slot = turn.position;
                    break;
                }
            }
            left -= 1;
        }
    }
    table
}

#[cfg(test)]
mod tests;
