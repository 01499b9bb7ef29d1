//! The study notes' third week: what a mesh does about slow and failing services, by the files of chapter 6 as they are.

mod balance;
mod limits;
mod retries;
mod zones;

use anyhow::{Context as _, Result, ensure};

use super::ingress::Ingress;
use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, until};
use crate::sample::client::load::Report;

const NAMESPACE: &str = "istioinaction";
/// Under which the gateway knows simple-web.
const HOST: &str = "simple-web.istioinaction.io";
const CLUSTER: &str = "outbound|80||simple-backend.istioinaction.svc.cluster.local";
/// Of each measurement by which failures are counted.
const REQUESTS: u64 = 60;

type Lab = fn(&Labs<'_>) -> Result<()>;

/// simple-web calls simple-backend, of whose three pods one is made slow or bad, or is in another zone.
pub(super) fn week3(turn: &Turn<'_>) -> Result<()> {
    let labs = Labs::start(turn)?;
    let all: [(&str, Lab); 4] = [
        ("load balancing and timeouts", balance::run),
        ("retries and outlier detection", retries::run),
        ("connection limits", limits::run),
        ("localities", zones::run),
    ];
    all.iter().try_for_each(|(name, lab)| lab(&labs).context(*name))
}

struct Labs<'a> {
    turn: &'a Turn<'a>,
    space: Space,
    outside: Space,
    gateway: String,
}

impl<'a> Labs<'a> {
    fn start(turn: &'a Turn<'a>) -> Result<Labs<'a>> {
        let labs = Labs {
            turn,
            space: turn.space_named(NAMESPACE, Mesh::Inside)?,
            outside: turn.space("outside", Mesh::Outside)?,
            gateway: Ingress::open(turn)?.url(),
        };
        for file in [
            "simple-web-stats-incl.yaml",
            "simple-web-gateway.yaml",
            "simple-backend.yaml",
        ] {
            labs.apply(file)?;
        }
        labs.outside.client("netshoot")?;
        for name in ["simple-web", "simple-backend-1", "simple-backend-2"] {
            labs.space.rolled_out(&format!("deploy/{name}"))?;
        }
        until("simple-web behind the gateway", || {
            let report = labs.load(3, 1, "body")?;
            ensure!(report.ok == 3, "{report}");
            Ok(())
        })?;
        Ok(labs)
    }

    /// A file of chapter 6.
    fn apply(&self, file: &str) -> Result<()> {
        self.space.apply_lab(&format!("ch6/{file}"))
    }

    /// A file that changes one of the backend's Deployments, up to where it runs.
    fn roll(&self, file: &str) -> Result<()> {
        self.apply(file)?;
        self.space.rolled_out("deploy/simple-backend-1")
    }

    /// What labs set, as the notes take it away; round robin, so that each third request is for the pod in question.
    fn clear(&self) -> Result<()> {
        let kubectl = &self.space.kubectl;
        kubectl.run(&["delete", "destinationrule", "--all"])?;
        kubectl.run(&["delete", "envoyfilter", "--all"])?;
        kubectl.run(&["delete", "vs", "simple-backend-vs", "--ignore-not-found"])?;
        self.apply("simple-backend-dr-rr.yaml")
    }

    /// Requests from outside the mesh through the gateway, so many of them at a time.
    fn load(&self, requests: u64, at_once: u64, count_by: &str) -> Result<Report> {
        let line = format!(
            "{} -H Host:{HOST} --requests {requests} --concurrency {at_once} --count-by {count_by}",
            self.gateway
        );
        let report = self.outside.load("netshoot", &line)?;
        ensure!(report.errors.is_empty(), "{report}");
        Ok(report)
    }

    /// Waits until so many of [`REQUESTS`] fail.
    fn fail(&self, what: &str, expected: std::ops::RangeInclusive<u64>) -> Result<()> {
        until(what, || {
            let report = self.load(REQUESTS, 8, "body")?;
            ensure!(
                expected.contains(&report.failed()),
                "{} of {REQUESTS} fail",
                report.failed()
            );
            Ok(())
        })
    }

    /// Waits until so many of the requests are answered by `simple-backend-1`, and all by any.
    fn first(&self, what: &str, requests: u64, at_once: u64, expected: std::ops::RangeInclusive<u64>) -> Result<()> {
        until(what, || {
            let report = self.load(requests, at_once, "json:/upstream_calls/0/body")?;
            let first = report.by_value.get("Hello from simple-backend-1").copied();
            let first = first.unwrap_or_default();
            ensure!(
                report.ok == requests && expected.contains(&first),
                "{first} of {requests} by simple-backend-1: {report}"
            );
            Ok(())
        })
    }

    /// `istioctl proxy-config WHAT deploy/simple-web.istioinaction`.
    fn proxy_config(&self, what: &str, args: &[&str]) -> Result<String> {
        let target = format!("deploy/simple-web.{NAMESPACE}");
        self.turn
            .meshctl(&[&["proxy-config", what, &target], args].concat(), None)
    }

    /// The backend's cluster in simple-web's proxy as JSON, once that holds this.
    fn cluster_says(&self, expected: &str) -> Result<()> {
        until(&format!("the cluster with {expected}"), || {
            let fqdn = "simple-backend.istioinaction.svc.cluster.local";
            let cluster = self.proxy_config("cluster", &["--fqdn", fqdn, "-o", "json"])?;
            // The whole of it is in the dumps that are kept.
            ensure!(cluster.contains(expected), "it says something else");
            Ok(())
        })
    }

    /// Endpoints of the backend that simple-web's proxy has left out.
    fn ejected(&self) -> Result<usize> {
        let endpoints = self.proxy_config("endpoint", &["--cluster", CLUSTER])?;
        Ok(endpoints.lines().filter(|line| line.contains("FAILED")).count())
    }

    /// In simple-web's proxy, as the notes do it.
    fn admin(&self, args: &[&str]) -> Result<String> {
        let exec = [
            "exec",
            "-it",
            "deploy/simple-web",
            "-c",
            "istio-proxy",
            "-n",
            NAMESPACE,
            "--",
            "curl",
        ];
        self.turn.world.kubectl.run(&[&exec, args].concat())
    }

    /// A counter of the backend's cluster.
    fn counter(&self, name: &str) -> Result<u64> {
        let stats = self.admin(&["-s", "localhost:15000/stats"])?;
        // Envoy ends the cluster's name with a semicolon where it holds bars; releases of the notes' time do not.
        let line = stats.lines().find_map(|line| {
            let (counter, value) = line.rsplit_once(": ")?;
            (counter.contains(CLUSTER) && counter.ends_with(&format!(".{name}"))).then_some(value)
        });
        line.and_then(|value| value.parse().ok())
            .with_context(|| format!("no {name} among simple-web's statistics:\n{stats}"))
    }
}
