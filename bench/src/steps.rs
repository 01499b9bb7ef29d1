//! The order of measurements, and how long they take.

use std::time::{Duration, Instant};

use crate::cases::{Case, Chain, Load};
use crate::peers::Peer;
use crate::run::{Settings, WARM};

/// One peer through one case, once.
pub(crate) struct Step<'a> {
    pub(crate) case: &'a Case,
    pub(crate) peer: Peer,
    pub(crate) repeat: u32,
}

/// All cases once with every peer in turn, then all again: when the time is up early, everything has been measured.
pub(crate) fn steps<'a>(cases: &'a [Case], settings: &Settings) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for repeat in 1..=settings.repeat {
        for case in cases.iter().filter(|c| repeat == 1 || !c.once) {
            for peer in settings.peers.iter().copied().filter(|p| p.can(case)) {
                steps.push(Step { case, peer, repeat });
            }
        }
    }
    steps
}

impl Step<'_> {
    /// About how long it takes.
    pub(crate) fn estimate(&self, settings: &Settings) -> Duration {
        let start = match self.case.chain {
            Chain::Sidecar(services) | Chain::Pushed(services) => {
                Duration::from_secs(2) + Duration::from_millis(2) * services
            }
            Chain::Bare | Chain::Hosts(_) => Duration::from_secs(1),
        };
        let loads = self.case.loads.iter().filter(|l| !settings.quick || l.is_quick());
        loads.fold(start, |sum, load| {
            sum + match load {
                Load::Idle { .. } => Duration::from_secs(1),
                // wrk and h2load warm up for a whole second.
                Load::Saturate { .. } => Duration::from_secs(settings.seconds + 1),
                _ => Duration::from_secs(settings.seconds) + WARM,
            }
        })
    }
}

/// Says how far the run is.
pub(crate) struct Clock {
    start: Instant,
    /// Of all steps, and of those done.
    estimated: (Duration, Duration),
    limit: Duration,
}

impl Clock {
    /// Says how much there is.
    pub(crate) fn new(steps: &[Step<'_>], settings: &Settings) -> Self {
        let once: Duration = steps
            .iter()
            .filter(|s| s.repeat == 1)
            .map(|s| s.estimate(settings))
            .sum();
        let all: Duration = steps.iter().map(|s| s.estimate(settings)).sum();
        let limit = settings.limit.max(once);
        crate::progress(&format!(
            "{} measurements, about {:.0} minutes",
            steps.len(),
            (all.min(limit).as_secs_f64() / 60.0).ceil()
        ));
        Self {
            start: Instant::now(),
            estimated: (all, Duration::ZERO),
            limit,
        }
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A step is over.
    pub(crate) fn done(&mut self, estimate: Duration) {
        self.estimated.1 += estimate;
    }

    /// Time passed and time left, as estimates came true so far.
    pub(crate) fn shown(&self) -> String {
        let (all, done) = self.estimated;
        let pace = if done.is_zero() {
            1.0
        } else {
            self.elapsed().as_secs_f64() / done.as_secs_f64()
        };
        let left = all.saturating_sub(done).mul_f64(pace);
        let left = left.min(self.limit.saturating_sub(self.elapsed()));
        let minutes = |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
        format!("[{}, {} left]", minutes(self.elapsed()), minutes(left))
    }
}
