//! Runs cases: every peer in turn, so that what else the machine does meets them all alike.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cases::{Case, Chain, Hops, Load, Pace, Protocol};
use crate::cli::scratch;
use crate::load::h2load::Shape;
use crate::load::serial::Serial;
use crate::load::{Outcome, Target, grpc, h2load, open, paced, stream, wrk};
use crate::machine::Machine;
use crate::measure::{self, Cores};
use crate::peers::{self, Peer, Plan, Ports, Process, Programs, Role};
use crate::pki::Pki;
use crate::push::ControlPlane;
use crate::report::{Report, Row, Sample};
use crate::steps::{Clock, steps};
use crate::upstream::Upstream;

/// A proxy that does not listen by then will not.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Of each load, before it is measured.
pub(crate) const WARM: Duration = Duration::from_millis(300);

/// How to run.
pub(crate) struct Settings {
    pub(crate) peers: Vec<Peer>,
    pub(crate) repeat: u32,
    pub(crate) seconds: u64,
    pub(crate) quick: bool,
    /// No repetition begins that would end later than this after the start; each case is measured once in any event.
    pub(crate) limit: Duration,
    pub(crate) programs: Programs,
    pub(crate) cores: Cores,
}

/// What a run holds on to.
struct Bench<'a> {
    settings: &'a Settings,
    upstream: Upstream,
    pki: Pki,
    folder: &'a Path,
    starts: u16,
}

/// Runs all cases and gives all figures. A peer that fails is left out of the case, with a word on why.
pub(crate) fn run(cases: &[Case], settings: &Settings, machine: Machine) -> Result<Report> {
    measure::pin(&settings.cores.load)?;
    let folder = tempfile::tempdir().context("a folder for configuration")?;
    let mut bench = Bench {
        settings,
        upstream: Upstream::start()?,
        pki: Pki::make(&scratch(folder.path(), "pki")?)?,
        folder: folder.path(),
        starts: 0,
    };
    let steps = steps(cases, settings);
    let mut clock = Clock::new(&steps, settings);
    let mut rows: Vec<Row> = Vec::new();
    for step in &steps {
        if step.repeat > 1 && clock.elapsed() + step.estimate(settings) > settings.limit {
            crate::progress("The time is up; what is left are repetitions.");
            break;
        }
        crate::progress(&format!(
            "{} {}: {}{}",
            clock.shown(),
            step.case.title,
            step.peer.name(),
            if step.repeat > 1 {
                format!(" (again, {})", step.repeat)
            } else {
                String::new()
            }
        ));
        match bench.one(step.case, step.peer) {
            Ok(samples) => add(&mut rows, step.case, step.peer, samples),
            Err(error) => crate::progress(&format!(
                "{} is left out of {}: {error:#}",
                step.peer.name(),
                step.case.name
            )),
        }
        clock.done(step.estimate(settings));
    }
    Ok(Report {
        machine,
        seconds: settings.seconds,
        minutes: clock.elapsed().as_secs_f64() / 60.0,
        rows,
    })
}

fn add(rows: &mut Vec<Row>, case: &Case, peer: Peer, samples: Vec<(Load, Sample)>) {
    for (load, sample) in samples {
        let load = load.name();
        let known = rows
            .iter_mut()
            .find(|r| r.case == case.name && r.load == load && r.peer == peer);
        match known {
            Some(row) => row.samples.push(sample),
            None => rows.push(Row {
                case: case.name,
                title: case.title,
                load,
                peer,
                samples: vec![sample],
            }),
        }
    }
}

/// The proxies of one case, while they run.
struct Running {
    processes: Vec<Process>,
    ready: Duration,
    front: u16,
    /// Of pushed cases; its streams stay open while the proxies run.
    _control: Option<ControlPlane>,
}

/// Waits until the service in the middle answers through the proxy.
fn answers(case: &Case, front: u16) -> Result<()> {
    let target = Target {
        address: ([127, 0, 0, 1], front).into(),
        host: peers::asked_host(case.chain),
        time: Duration::ZERO,
    };
    let start = Instant::now();
    loop {
        let answered = Serial::connect(&target, case.protocol == Protocol::Http2).and_then(|mut s| s.requests(1));
        match answered {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > START_LIMIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

impl Bench<'_> {
    /// One peer through all loads of a case.
    fn one(&mut self, case: &Case, peer: Peer) -> Result<Vec<(Load, Sample)>> {
        let running = self.start(case, peer)?;
        let ids: Vec<u32> = running.processes.iter().map(Process::id).collect();
        let target = Target {
            address: ([127, 0, 0, 1], running.front).into(),
            host: peers::asked_host(case.chain),
            time: Duration::from_secs(self.settings.seconds),
        };
        std::thread::sleep(Duration::from_millis(300));
        let idle_bytes = measure::resident(&ids);
        let mut samples: Vec<(Load, Sample)> = Vec::new();
        for load in &case.loads {
            if self.settings.quick && !load.is_quick() {
                continue;
            }
            let capacity = samples.first().map_or(0.0, |(_, s)| s.per_second);
            self.load(
                case,
                &Target {
                    time: WARM,
                    ..target.clone()
                },
                load,
                capacity,
            )
            .context("warming up")?;
            let before = measure::cpu(&ids);
            let (outcome, resident_bytes) = match load {
                Load::Idle { connections } => {
                    stream::idle(&target, *connections, || (Outcome::default(), measure::resident(&ids)))?
                }
                _ => {
                    let outcome = self.load(case, &target, load, capacity)?;
                    (outcome, measure::resident(&ids))
                }
            };
            let cpu = (measure::cpu(&ids) - before).as_secs_f64();
            if outcome.operations == 0 && !matches!(load, Load::Idle { .. }) {
                let words = running.processes.iter().map(Process::last_words).collect::<Vec<_>>();
                bail!(
                    "nothing succeeded under {} ({} errors)\n{}",
                    load.name(),
                    outcome.errors,
                    words.join("\n")
                );
            }
            samples.push((
                *load,
                Sample {
                    per_second: outcome.operations as f64 / outcome.time.as_secs_f64().max(1e-9),
                    cpu_us: cpu * 1e6 / outcome.operations.max(1) as f64,
                    bytes_per_cpu_second: if cpu > 0.0 { outcome.bytes as f64 / cpu } else { 0.0 },
                    errors: outcome.errors,
                    latency: outcome.latency,
                    idle_bytes,
                    resident_bytes,
                    ready_ms: running.ready.as_secs_f64() * 1e3,
                },
            ));
        }
        Ok(samples)
    }

    /// Starts the proxies on their core, the last of the row first, and waits until the row answers.
    fn start(&mut self, case: &Case, peer: Peer) -> Result<Running> {
        let upstream = match case.protocol {
            Protocol::Http1 | Protocol::Https => self.upstream.http1,
            Protocol::Http2 => self.upstream.http2,
            Protocol::Tcp => self.upstream.tcp,
        };
        if peer == Peer::Direct {
            return Ok(Running {
                processes: Vec::new(),
                ready: Duration::ZERO,
                front: upstream.port(),
                _control: None,
            });
        }
        self.starts += 1;
        let ports = Ports::of_start(self.starts);
        let folder = scratch(self.folder, &format!("start-{}", self.starts))?;
        let roles: &[Role] = match case.hops {
            Hops::One => &[Role::Alone],
            Hops::Pair => &[Role::Server, Role::Client],
        };
        let mut processes = Vec::new();
        let mut ready = Duration::ZERO;
        let mut control = None;
        for role in roles {
            let plan = Plan {
                case,
                role: *role,
                ports,
                upstream,
                pki: &self.pki,
                folder: &folder,
                programs: &self.settings.programs,
            };
            if let Chain::Pushed(services) = case.chain {
                control = Some(ControlPlane::start(&plan, services)?);
            }
            measure::pin(&self.settings.cores.proxy)?;
            let started = peers::start(peer, &plan);
            measure::pin(&self.settings.cores.load)?;
            let mut process = started?;
            ready = ready.max(process.wait_for(plan.listen(), START_LIMIT)?);
            if let Some(control) = &control {
                control
                    .wait(START_LIMIT)
                    .and_then(|()| answers(case, ports.front()))
                    .with_context(|| process.last_words())?;
            }
            processes.push(process);
        }
        Ok(Running {
            processes,
            ready,
            front: ports.front(),
            _control: control,
        })
    }

    fn load(&self, case: &Case, target: &Target, load: &Load, capacity: f64) -> Result<Outcome> {
        match load {
            Load::Saturate {
                connections,
                streams,
                body,
                grpc,
            } => {
                if case.protocol == Protocol::Http2 {
                    let shape = Shape {
                        connections: *connections,
                        streams: *streams,
                        body: *body,
                        grpc: *grpc,
                    };
                    h2load::run(target, shape, self.folder)
                } else {
                    wrk::run(target, *connections, *body, self.folder)
                }
            }
            Load::Rate { connections, pace } => {
                let rate = match pace {
                    Pace::PerSecond(rate) => f64::from(*rate),
                    Pace::OfCapacity(share) => capacity * share,
                };
                if case.protocol == Protocol::Http2 {
                    paced::run(target, *connections, rate.max(1.0), 1024)
                } else {
                    open::run(target, *connections, rate.max(1.0), 1024)
                }
            }
            Load::Messages {
                connections,
                streams,
                window,
            } => grpc::messages(target, *connections, *streams, *window),
            Load::Handshakes { connections } => stream::handshakes(target, *connections, &self.pki),
            Load::Bulk => stream::bulk(target),
            Load::RoundTrips { connections } => stream::round_trips(target, *connections),
            Load::Idle { .. } => Ok(Outcome::default()),
        }
    }
}
