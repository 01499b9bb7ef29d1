//! The same bootstrap on a real Envoy and on mesh-proxy, and what is to be seen of both.

mod client;
mod http2;
mod proxy;
mod upstream;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use client::{Answer, Ask, Held, Leave, get, leave, method, post};
pub(crate) use http2::leave as leave_http2;
pub(crate) use proxy::{Proxy, Setup, access_log, cluster, cluster_of, table};
pub(crate) use upstream::{refusing, serve};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Runs a theme on both proxies, and fails with the names of the behaviours that differ. `count` is how many behaviours the
/// theme has to compare. What mesh-proxy showed comes back; `None` when there is no Envoy.
pub(crate) fn compare(
    theme: &str,
    count: usize,
    setup: impl Fn() -> Setup + Sync,
    observe: impl Fn(&Proxy, &mut Seen) + Sync,
) -> Option<Seen> {
    let Some(envoy) = std::env::var_os("ENVOY_BIN").map(PathBuf::from) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENVOY_BIN is not set; run cargo xtask test"
        );
        say(&format!("{theme}: skipped, ENVOY_BIN is not set"));
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let run = |program: &Path, name: &'static str| {
        let proxy = Proxy::start(program, folder.path(), name, &setup());
        let mut seen = Seen::default();
        observe(&proxy, &mut seen);
        seen
    };
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| run(Path::new(env!("CARGO_BIN_EXE_mesh-proxy")), "mesh-proxy"));
        let theirs = run(&envoy, "Envoy");
        let ours = ours.join().unwrap_or_else(|why| std::panic::resume_unwind(why));
        (ours, theirs)
    });
    let names = |seen: &Seen| seen.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{theme}: both are asked for the same");
    let distinct: BTreeSet<_> = names(&ours).into_iter().collect();
    assert_eq!(
        distinct.len(),
        ours.0.len(),
        "{theme}: every behaviour has a name of its own"
    );
    let pairs = ours.0.iter().zip(&theirs.0);
    let differing: Vec<String> = pairs.filter_map(|((name, a), (_, b))| difference(name, a, b)).collect();
    assert!(
        differing.is_empty(),
        "{theme}: {} of {} behaviours differ (- mesh-proxy, + Envoy)\n{}",
        differing.len(),
        ours.0.len(),
        differing.join("\n")
    );
    assert_eq!(
        ours.0.len(),
        count,
        "{theme}: its BEHAVIOURS has to say how many are compared"
    );
    say(&format!("{theme}: {count} behaviours compared"));
    Some(ours)
}

fn difference(name: &str, ours: &[String], theirs: &[String]) -> Option<String> {
    if ours == theirs {
        return None;
    }
    let mut text = format!("* {name}");
    for line in ours {
        let mark = if theirs.contains(line) { ' ' } else { '-' };
        text += &format!("\n  {mark} {line}");
    }
    for line in theirs.iter().filter(|line| !ours.contains(line)) {
        text += &format!("\n  + {line}");
    }
    if ours.iter().all(|l| theirs.contains(l)) && theirs.iter().all(|l| ours.contains(l)) {
        text += &format!("\n  in another order or number:\n  - {ours:?}\n  + {theirs:?}");
    }
    Some(text)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Each behaviour by its name, with what is to be seen of it.
#[derive(Debug, Default)]
pub(crate) struct Seen(Vec<(String, Vec<String>)>);

impl Seen {
    pub(crate) fn add(&mut self, name: &str, lines: Vec<String>) {
        self.0.push((name.to_owned(), lines));
    }

    /// Asks, and remembers the answer and what the upstream saw. The status says what is expected of both.
    pub(crate) fn ask(&mut self, proxy: &Proxy, name: &str, status: u16, ask: &Ask) -> Answer {
        let answer = proxy.ask(ask);
        assert_eq!(answer.status, status, "{}: {name}: {answer:?}", proxy.name);
        let mut lines = answer.lines();
        lines.extend(ask.attempts());
        self.add(name, lines);
        answer
    }

    /// [`Seen::ask`] with this proxy.
    pub(crate) fn asking<'a>(&'a mut self, proxy: &'a Proxy) -> impl FnMut(&str, u16, Ask) -> Answer + 'a {
        move |name, status, ask| self.ask(proxy, name, status, &ask)
    }

    /// A number that is a matter of chance, near the one that is expected of both.
    pub(crate) fn about(&mut self, name: &str, proxy: &Proxy, found: usize, expected: usize, tolerance: usize) {
        let near = found.abs_diff(expected) <= tolerance;
        assert!(near, "{}: {name}: {found}, not about {expected}", proxy.name);
        self.add(name, vec![format!("about {expected}")]);
    }

    /// What there is to be seen of a behaviour.
    pub(crate) fn of(&self, name: &str) -> &[String] {
        let found = self.0.iter().find(|(n, _)| n == name);
        &found.unwrap_or_else(|| panic!("no behaviour {name:?}")).1
    }
}

pub(crate) fn wait_for(mut done: impl FnMut() -> bool, failed: impl Fn() -> String) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "{}", failed());
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// So many endpoints that answer, named `a`, `b` and so on.
pub(crate) fn endpoints(count: usize) -> Vec<SocketAddr> {
    let names = ["a", "b", "c", "d", "e", "f"];
    names[..count].iter().map(|name| serve(name)).collect()
}
