//! Statistics under Envoy's names. Handles are resolved when a snapshot is built; the request path only adds.

mod cluster;
mod groups;
mod health_check;
mod histogram;
mod inclusion;
mod outlier;

pub use cluster::{ClusterCells, ClusterStats, Level};
pub use groups::{HttpStats, ListenerStats, TcpStats};
pub use health_check::HealthCheckCells;
pub use histogram::{BOUNDS, Histogram, HistogramValues};
pub use inclusion::Inclusion;
pub use outlier::OutlierCells;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};

use super::istio::Store;

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Back to zero (`/reset_counters`).
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// A number that goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Sets it.
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// Value now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// What a group of statistics belongs to: the first word of their names, and the label that Prometheus gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `cluster.<name>.`
    Cluster,
    /// `http.<stat_prefix>.`
    Http,
    /// `listener.<address>.`
    Listener,
    /// `tcp.<stat_prefix>.`
    Tcp,
}

impl Family {
    /// First word of the names.
    pub fn word(self) -> &'static str {
        match self {
            Family::Cluster => "cluster",
            Family::Http => "http",
            Family::Listener => "listener",
            Family::Tcp => "tcp",
        }
    }

    /// Name of the label, without Envoy's prefix.
    pub fn label(self) -> &'static str {
        match self {
            Family::Cluster => "cluster_name",
            Family::Http => "http_conn_manager_prefix",
            Family::Listener => "listener_address",
            Family::Tcp => "tcp_prefix",
        }
    }
}

/// One statistic with its name in parts, so that nobody has to guess where a name with dots in it ends.
#[derive(Debug, Clone)]
struct Entry<T> {
    handle: T,
    owner: Option<(Family, Arc<str>)>,
}

/// A statistic as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Stat {
    /// Envoy's dotted name.
    pub name: String,
    /// What it belongs to.
    pub owner: Option<(Family, Arc<str>)>,
    /// Value.
    pub value: StatValue,
}

impl Stat {
    /// The name after the owner: `upstream_rq_total`.
    pub fn short_name(&self) -> &str {
        match &self.owner {
            Some((family, owner)) => &self.name[family.word().len() + owner.len() + 2..],
            None => &self.name,
        }
    }
}

/// Value of a statistic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StatValue {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(i64),
    /// Of a histogram.
    Histogram(HistogramValues),
}

impl StatValue {
    /// Whether it was ever written (`usedonly`); a gauge that is 0 counts as unused.
    pub fn is_used(&self) -> bool {
        match self {
            StatValue::Counter(n) => *n != 0,
            StatValue::Gauge(n) => *n != 0,
            StatValue::Histogram(h) => h.count() != 0,
        }
    }
}

type Table<T> = Mutex<BTreeMap<String, Entry<T>>>;

/// All statistics of the process, by Envoy's dotted names, and Istio's metrics.
#[derive(Debug, Default)]
pub struct Registry {
    counters: Table<Counter>,
    gauges: Table<Gauge>,
    histograms: Table<Histogram>,
    clusters: cluster::Clusters,
    /// Which of them are shown.
    inclusion: RwLock<Inclusion>,
    /// Istio's standard metrics.
    pub istio: Store,
}

/// Statistics of one owner.
#[derive(Debug)]
pub struct Scope<'a> {
    registry: &'a Registry,
    family: Family,
    owner: Arc<str>,
}

impl Scope<'_> {
    /// A counter of this owner.
    pub fn counter(&self, name: &str) -> Counter {
        self.get(&self.registry.counters, name)
    }

    /// A gauge of this owner.
    pub fn gauge(&self, name: &str) -> Gauge {
        self.get(&self.registry.gauges, name)
    }

    /// A histogram of this owner.
    pub fn histogram(&self, name: &str) -> Histogram {
        self.get(&self.registry.histograms, name)
    }

    fn get<T: Clone + Default>(&self, table: &Table<T>, name: &str) -> T {
        let full = format!("{}.{}.{name}", self.family.word(), self.owner);
        get_or_make(table, &full, || Some((self.family, Arc::clone(&self.owner))))
    }
}

impl Registry {
    /// The counter of this name, made when new. An owner in it is guessed; better say it by [`Registry::scope`].
    pub fn counter(&self, name: &str) -> Counter {
        get_or_make(&self.counters, name, || owner_of(name))
    }

    /// The gauge of this name, made when new.
    pub fn gauge(&self, name: &str) -> Gauge {
        get_or_make(&self.gauges, name, || owner_of(name))
    }

    /// The histogram of this name, made when new.
    pub fn histogram(&self, name: &str) -> Histogram {
        get_or_make(&self.histograms, name, || owner_of(name))
    }

    /// Statistics of one cluster, connection manager, listener or TCP proxy.
    pub fn scope(&self, family: Family, owner: &str) -> Scope<'_> {
        Scope {
            registry: self,
            family,
            owner: owner.into(),
        }
    }

    /// Shows only these (`stats_config.stats_matcher`); the others still count.
    pub fn set_inclusion(&self, inclusion: Inclusion) {
        *self.inclusion.write() = inclusion;
    }

    /// All that are shown, by name.
    pub fn list(&self) -> Vec<Stat> {
        let inclusion = self.inclusion.read();
        let mut all = Vec::new();
        collect(&self.counters, &inclusion, &mut all, |c| StatValue::Counter(c.get()));
        collect(&self.gauges, &inclusion, &mut all, |g| StatValue::Gauge(g.get()));
        collect(&self.histograms, &inclusion, &mut all, |h| {
            StatValue::Histogram(h.get())
        });
        cluster::list(&self.clusters, &inclusion, &mut all);
        // Stable: what a table has goes before the zero of a cluster without cells.
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|b, a| a.name == b.name);
        all
    }

    /// Sets counters and histograms to zero (`/reset_counters`).
    pub fn reset(&self) {
        self.counters.lock().values().for_each(|e| e.handle.reset());
        self.histograms.lock().values().for_each(|e| e.handle.reset());
        self.istio.reset();
    }

    /// Forgets statistics of owners that are gone (nobody holds a handle), as Envoy does when it drops a cluster.
    pub fn sweep(&self) {
        fn sweep<T>(table: &Table<T>, unused: impl Fn(&T) -> bool) {
            table.lock().retain(|_, e| e.owner.is_none() || !unused(&e.handle));
        }
        sweep(&self.counters, |c| Arc::strong_count(&c.0) == 1);
        sweep(&self.gauges, |g| Arc::strong_count(&g.0) == 1);
        sweep(&self.histograms, Histogram::unused);
        cluster::sweep(&self.clusters);
    }
}

fn collect<T>(table: &Table<T>, inclusion: &Inclusion, into: &mut Vec<Stat>, value: impl Fn(&T) -> StatValue) {
    let table = table.lock();
    let shown = table.iter().filter(|(name, _)| inclusion.shows(name));
    into.extend(shown.map(|(name, entry)| Stat {
        name: name.clone(),
        owner: entry.owner.clone(),
        value: value(&entry.handle),
    }));
}

/// Names of statistics that have a dot in them.
const DOTTED: [&str; 6] = [
    ".ssl.",
    ".circuit_breakers.",
    ".outlier_detection.",
    ".external.",
    ".internal.",
    ".http2.",
];

/// Takes a full name apart: `;.` ends an owner's name for certain, else the statistic is what follows the last dot, or
/// one of the known names with dots.
fn owner_of(name: &str) -> Option<(Family, Arc<str>)> {
    let (word, rest) = name.split_once('.')?;
    let families = [Family::Cluster, Family::Http, Family::Listener, Family::Tcp];
    let family = families.into_iter().find(|f| f.word() == word)?;
    let end = rest
        .find(";.")
        .map(|at| at + 1)
        .or_else(|| DOTTED.iter().filter_map(|d| rest.rfind(d)).min())
        .or_else(|| rest.rfind('.'))?;
    Some((family, rest[..end].into()))
}

fn get_or_make<T: Clone + Default>(
    table: &Table<T>,
    name: &str,
    owner: impl FnOnce() -> Option<(Family, Arc<str>)>,
) -> T {
    let mut table = table.lock();
    if let Some(found) = table.get(name) {
        return found.handle.clone();
    }
    let handle = T::default();
    let entry = Entry {
        handle: handle.clone(),
        owner: owner(),
    };
    table.insert(name.to_owned(), entry);
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_are_taken_apart() {
        for (name, owner) in [
            ("cluster.outbound|80||a.b;.ssl.handshake", Some("outbound|80||a.b;")),
            ("listener.0.0.0.0_15006.ssl.handshake", Some("0.0.0.0_15006")),
            ("listener.0.0.0.0_15006.downstream_cx_total", Some("0.0.0.0_15006")),
            ("cluster.a.b.c.upstream_rq_total", Some("a.b.c")),
            ("server.live", None),
            ("cluster.odd", None),
        ] {
            assert_eq!(owner_of(name).map(|(_, o)| o).as_deref(), owner, "{name}");
        }
    }

    #[test]
    fn one_name_is_one_counter_and_sweeping_spares_what_is_held() {
        let registry = Arc::<Registry>::default();
        let held = ClusterStats::new(&registry, "outbound|80||a.b.svc.cluster.local;");
        ClusterStats::new(&registry, "gone").upstream_rq_total.inc();
        registry.counter("server.something").inc();
        held.upstream_rq_total.inc();
        ClusterStats::new(&registry, "outbound|80||a.b.svc.cluster.local;")
            .upstream_rq_total
            .inc();
        registry.sweep();
        let all = registry.list();
        let find = |name: &str| all.iter().find(|s| s.name == name);
        let kept = find("cluster.outbound|80||a.b.svc.cluster.local;.upstream_rq_total").expect("it is held");
        assert_eq!(kept.value, StatValue::Counter(2));
        assert_eq!(kept.short_name(), "upstream_rq_total");
        assert!(find("cluster.gone.upstream_rq_total").is_none());
        assert_eq!(
            find("server.something").expect("it has no owner").value,
            StatValue::Counter(1)
        );
        registry.reset();
        assert_eq!(held.upstream_rq_total.get(), 0);
    }

    #[test]
    fn a_cluster_that_nobody_called_is_listed_like_one_that_was() {
        let registry = Arc::<Registry>::default();
        let idle = ClusterStats::new(&registry, "idle");
        let called = ClusterStats::new(&registry, "called");
        called.upstream_rq_total.inc();
        idle.membership_total.set(3);
        let all = registry.list();
        let of = |owner: &str| {
            let own = all
                .iter()
                .filter(|s| s.owner.as_ref().is_some_and(|(_, o)| **o == *owner));
            own.map(|s| s.short_name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of("idle"), of("called"));
        assert!(of("idle").iter().any(|name| name == "upstream_rq_time"));
        let members = all.iter().find(|s| s.name == "cluster.idle.membership_total");
        assert_eq!(members.map(|s| s.value), Some(StatValue::Gauge(3)));
        // A look by name before the first call, as the call finds it.
        let cell = registry.counter("cluster.idle.upstream_rq_total");
        idle.upstream_rq_total.inc();
        assert_eq!(cell.get(), 1);
        drop((idle, cell));
        registry.sweep();
        let left = registry.list();
        assert!(
            left.iter()
                .all(|s| s.owner.as_ref().is_some_and(|(_, o)| **o == *"called"))
        );
    }
}
