//! Instructions of one request through the sidecar's chain, counted by callgrind: steady on a busy machine, so that two
//! commits can be compared.
//!
//! A proxy is started once under callgrind. After some requests that fill pools and caches, N requests are counted and
//! then 2N; their difference over N is one request, without what goes on beside requests. That is done in some rounds, and
//! the median counts: work that a proxy puts off until after its start (it frees the descriptors of its configuration then)
//! falls into one of the rounds and is as much as hundreds of requests. Only user code is counted, and callgrind shows the
//! program a processor without AVX-512.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cases::{Case, Chain, Hops, Protocol};
use crate::cli::scratch;
use crate::load::{Target, serial::Serial};
use crate::peers::{self, Peer, Plan, Ports, Process, Programs, Role};
use crate::pki::Pki;
use crate::upstream::Upstream;
use crate::{line, progress, table};

/// Requests before the count.
const WARM: u32 = 200;
/// Differences of which the median is taken. Odd.
const ROUNDS: usize = 5;
/// Programs run some fifty times slower under callgrind.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Counts for this build, and for another if there is one, and prints the table.
pub(crate) fn run(programs: &Programs, against: Option<&Path>, requests: u32) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for configuration")?;
    let pki = Pki::make(&scratch(folder.path(), "pki")?)?;
    let upstream = Upstream::start()?;
    let mut builds = vec![programs.clone()];
    builds.extend(against.map(|path| Programs {
        mesh_proxy: path.to_owned(),
        ..programs.clone()
    }));
    let mut rows = vec![
        ["", "this build", "the other", "change", "rounds differ by"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for case in cases() {
        let mut counts = Vec::new();
        for (number, programs) in builds.iter().enumerate() {
            progress(&format!("{}, build {} of {}", case.title, number + 1, builds.len()));
            let bench = Count {
                case: &case,
                programs,
                pki: &pki,
                upstream: &upstream,
                folder: scratch(folder.path(), &format!("{}-{number}", case.name))?,
                ports: Ports::of_start(u16::try_from(rows.len() * 2 + number)?),
            };
            counts.push(
                bench
                    .one(requests)
                    .with_context(|| format!("{}, with {}", case.title, programs.mesh_proxy.display()))?,
            );
        }
        let change = match counts.as_slice() {
            [ours, other] => format!("{:+.2} %", (ours.median / other.median - 1.0) * 100.0),
            _ => String::new(),
        };
        let shown = |n: usize| {
            counts
                .get(n)
                .map_or_else(String::new, |c: &Counted| format!("{:.0}", c.median))
        };
        let apart = counts.iter().map(|c| c.apart).fold(0.0, f64::max);
        let apart = format!("{:.2} %", apart * 100.0);
        rows.push(vec![case.title.to_owned(), shown(0), shown(1), change, apart]);
    }
    line(&format!(
        "Instructions of a request (median of {ROUNDS} rounds of {requests} and {} requests)\n",
        requests * 2
    ));
    for text in table::align(&rows) {
        line(&text);
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let case = |name, title, hops, protocol| Case {
        name,
        title,
        hops,
        protocol,
        chain: Chain::Sidecar(50),
        loads: Vec::new(),
        quick: true,
        once: false,
    };
    vec![
        case("http1", "HTTP/1.1, plain", Hops::One, Protocol::Http1),
        case(
            "http1-mtls",
            "HTTP/1.1, both sidecars of a mutual-TLS pair",
            Hops::Pair,
            Protocol::Http1,
        ),
        case("http2", "HTTP/2, plain", Hops::One, Protocol::Http2),
        case(
            "http2-mtls",
            "HTTP/2, both sidecars of a mutual-TLS pair",
            Hops::Pair,
            Protocol::Http2,
        ),
    ]
}

struct Count<'a> {
    case: &'a Case,
    programs: &'a Programs,
    pki: &'a Pki,
    upstream: &'a Upstream,
    folder: PathBuf,
    ports: Ports,
}

/// Instructions of a request.
struct Counted {
    median: f64,
    /// Share of it that rounds differ by.
    apart: f64,
}

/// A proxy under callgrind.
struct Watched {
    process: Process,
    /// callgrind adds `.1`, `.2`, … for each dump.
    output: PathBuf,
    dumps: u32,
}

impl Count<'_> {
    fn one(&self, requests: u32) -> Result<Counted> {
        let roles: &[Role] = match self.case.hops {
            Hops::One => &[Role::Alone],
            Hops::Pair => &[Role::Server, Role::Client],
        };
        let mut proxies = roles.iter().map(|r| self.start(*r)).collect::<Result<Vec<_>>>()?;
        let http2 = self.case.protocol == Protocol::Http2;
        let target = Target {
            address: ([127, 0, 0, 1], self.ports.front()).into(),
            host: peers::asked_host(self.case.chain),
            time: Duration::ZERO,
        };
        let mut load = Serial::connect(&target, http2)?;
        load.requests(WARM)?;
        let mut counted = |load: &mut Serial, count: u32| -> Result<f64> {
            if count > 0 {
                load.requests(count)?;
            }
            proxies.iter_mut().map(Watched::dump).sum()
        };
        counted(&mut load, 0)?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let once = counted(&mut load, requests)?;
            let twice = counted(&mut load, requests * 2)?;
            rounds.push((twice - once) / f64::from(requests));
        }
        rounds.sort_by(f64::total_cmp);
        let median = rounds[ROUNDS / 2];
        // How far the rounds in the middle are apart: the outermost may have met other work.
        let apart = (rounds[ROUNDS - 2] - rounds[1]) / median;
        Ok(Counted { median, apart })
    }

    fn start(&self, role: Role) -> Result<Watched> {
        let plan = Plan {
            case: self.case,
            role,
            ports: self.ports,
            upstream: match self.case.protocol {
                Protocol::Http2 => self.upstream.http2,
                _ => self.upstream.http1,
            },
            pki: self.pki,
            folder: &self.folder,
            programs: self.programs,
        };
        let output = self.folder.join(format!("callgrind-{role:?}"));
        let (program, args) = peers::command(Peer::MeshProxy, &plan)?;
        let mut all = vec![
            "--tool=callgrind".to_owned(),
            "--quiet".to_owned(),
            format!("--callgrind-out-file={}", output.display()),
            program.display().to_string(),
        ];
        all.extend(args);
        let mut process = Process::spawn(Path::new("valgrind"), &all, &self.folder)?;
        process.wait_for(plan.listen(), START_LIMIT)?;
        Ok(Watched {
            process,
            output,
            dumps: 0,
        })
    }
}

impl Watched {
    /// Instructions since the last dump, of all threads.
    fn dump(&mut self) -> Result<f64> {
        self.dumps += 1;
        let output = Command::new("callgrind_control")
            .args(["-d", &self.process.id().to_string()])
            .output()
            .context("callgrind_control (Debian: apt-get install valgrind)")?;
        let path = PathBuf::from(format!("{}.{}", self.output.display(), self.dumps));
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: callgrind made no dump: {}{}\n{}",
                path.display(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
                self.process.last_words()
            )
        })?;
        let total = text.lines().rev().find_map(|l| l.strip_prefix("totals: "));
        match total.and_then(|t| t.split_whitespace().next()?.parse().ok()) {
            Some(count) => Ok(count),
            None => bail!("{} has no totals", path.display()),
        }
    }
}
