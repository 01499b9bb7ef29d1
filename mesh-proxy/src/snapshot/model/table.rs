//! Positions of endpoints, drawn by weight.

/// Positions with their weights.
#[derive(Debug, Default)]
pub struct LbTable {
    entries: Vec<u32>,
    /// Running sums of weights; empty when all weigh the same.
    sums: Vec<u32>,
}

impl LbTable {
    pub(super) fn new(entries: Vec<u32>, weight: impl Fn(u32) -> u32) -> Self {
        let first = entries.first().map_or(1, |i| weight(*i));
        let mut sums = Vec::new();
        if entries.iter().any(|i| weight(*i) != first) {
            let mut sum = 0_u32;
            for i in &entries {
                sum = sum.saturating_add(weight(*i).max(1));
                sums.push(sum);
            }
        }
        LbTable { entries, sums }
    }

    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sum of the weights.
    #[allow(clippy::cast_possible_truncation)]
    pub fn points(&self) -> u32 {
        self.sums.last().copied().unwrap_or(self.entries.len() as u32)
    }

    /// Positions of the endpoints.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.entries.iter().map(|position| *position as usize)
    }

    /// Positions with their shares of all the weight.
    pub(super) fn shares(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let points = f64::from(self.points().max(1));
        let entries = self.entries.iter().enumerate();
        entries.map(move |(slot, position)| (*position, f64::from(self.span(slot).1) / points))
    }

    /// The slot that a point below [`Self::points`] falls on.
    fn slot(&self, point: u32) -> usize {
        if self.sums.is_empty() {
            point as usize
        } else {
            self.sums.partition_point(|sum| *sum <= point)
        }
    }

    /// The first point of a slot, and how many there are.
    #[allow(clippy::cast_possible_truncation)]
    fn span(&self, slot: usize) -> (u32, u32) {
        if self.sums.is_empty() {
            return (slot as u32, 1);
        }
        let end = |slot: usize| self.sums.get(slot).copied().unwrap_or_default();
        let start = slot.checked_sub(1).map_or(0, end);
        (start, end(slot).saturating_sub(start))
    }

    fn at(&self, slot: usize) -> usize {
        self.entries.get(slot).copied().unwrap_or_default() as usize
    }

    /// The endpoint that a point below [`Self::points`] falls on.
    pub fn by_point(&self, point: u32) -> usize {
        self.at(self.slot(point))
    }

    /// The best of several draws, by `load`. Weights are in the draw, so that load alone decides between the drawn. Each draw
    /// is among all but the best so far: a busy endpoint is taken only when it is drawn together with busier ones.
    pub fn best_of(&self, choices: u32, random: impl Fn(u32) -> u32, load: impl Fn(usize) -> u32) -> usize {
        let points = self.points();
        let mut best = self.slot(random(points));
        if self.len() < 2 || choices < 2 {
            return self.at(best);
        }
        let mut least = load(self.at(best));
        for _ in 1..choices {
            let (start, width) = self.span(best);
            let point = random(points.saturating_sub(width));
            let other = self.slot(if point < start { point } else { point + width });
            let busy = load(self.at(other));
            if busy < least {
                (best, least) = (other, busy);
            }
        }
        self.at(best)
    }

    /// The endpoint whose turn it is. With weights, turns are spread evenly: multiples of the golden ratio fill an interval
    /// without clusters or gaps, so that after every few turns each endpoint had its share.
    #[allow(clippy::cast_possible_truncation)]
    pub fn by_turn(&self, turn: u64) -> usize {
        if self.sums.is_empty() {
            let len = self.entries.len().max(1) as u64;
            return self.entries.get((turn % len) as usize).copied().unwrap_or_default() as usize;
        }
        let spread = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.by_point(((spread * u64::from(self.points())) >> 32) as u32)
    }
}
