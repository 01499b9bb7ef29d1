//! The chain of chapter 6: a client outside the mesh → ingress gateway → simple-web → the pods of simple-backend.
//!
//! The files of the labs are applied as they are. simple-backend has one pod of Deployment simple-backend-1, which labs make
//! slow or bad, and two of simple-backend-2, which stay good. A failure of the backend shows as 500 of simple-web, and as
//! `upstream_calls[0].code` in what it answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::runner::{Answer, Call};
use e2e::sample::client::load::Report;
use serde_json::Value;

use crate::lab::{LIMIT, Lab};

/// Under which the gateway knows simple-web.
pub(crate) const HOST: &str = "simple-web.istioinaction.io";
/// The cluster of the labs in simple-web's proxy.
pub(crate) const CLUSTER: &str = "outbound|80||simple-backend.istioinaction.svc.cluster.local";
/// What answers are counted by: the pod of the backend, by its address.
const ADDRESS: &str = "json:/upstream_calls/0/ip_addresses/0";
/// The same by the status that simple-web got.
const CODE: &str = "json:/upstream_calls/0/code";

/// The labs' applications in a running mesh.
pub(crate) struct Chain {
    /// The mesh.
    pub(crate) lab: Lab,
}

/// The cluster as simple-web's proxy shows it, endpoint by endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Deployment.
    pub(crate) workload: String,
    /// Whether it was ejected.
    pub(crate) ejected: bool,
    /// Requests that were sent to it.
    pub(crate) requests: u64,
}

impl Chain {
    /// Starts with the files of `ch6` in order, the gateway first; `None` where the test must be left out.
    pub(crate) fn start(test: &str, files: &[&str]) -> Option<Chain> {
        Chain::start_with(test, files, "")
    }

    /// As [`Chain::start`], with more objects.
    pub(crate) fn start_with(test: &str, files: &[&str], more: &str) -> Option<Chain> {
        let all: Vec<String> = ["simple-web-gateway.yaml"]
            .iter()
            .chain(files)
            .map(|f| format!("ch6/{f}"))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Some(Chain {
            lab: Lab::start_with(test, &all, more)?,
        })
    }

    /// Applies a file of `ch6`, and waits until it is in force.
    #[track_caller]
    pub(crate) fn apply(&self, file: &str) {
        self.lab.apply_lab(&format!("ch6/{file}"));
    }

    /// Removes an object, and waits until that is in force.
    #[track_caller]
    pub(crate) fn delete(&self, kind: &str, name: &str) {
        if let Err(error) = self.lab.mesh.delete(kind, "istioinaction", name) {
            panic!("{error:#}");
        }
        self.lab.wait_in_force();
    }

    /// Gives a Deployment another number of pods, and waits until that is in force.
    #[track_caller]
    pub(crate) fn scale(&self, deployment: &str, replicas: u32) {
        if let Err(error) = self.lab.mesh.scale("istioinaction", deployment, replicas) {
            panic!("{error:#}");
        }
        self.lab.wait_in_force();
    }

    /// One request through the gateway, and how long it took.
    pub(crate) fn get(&self) -> (Answer, Duration) {
        let start = Instant::now();
        let answer = self.lab.ingress(HOST, "/", &[]).expect("an answer");
        (answer, start.elapsed())
    }

    /// `count` requests from outside the mesh, `at_once` of them at a time, all of which must get some answer.
    #[track_caller]
    pub(crate) fn load(&self, count: u64, at_once: usize, by: &str) -> Report {
        let line = format!(
            "load http://{}/ --header host:{HOST} --requests {count} --concurrency {at_once} --timeout 60s --count-by {by}",
            self.lab.mesh.gateway().expect("the gateway").ip()
        );
        let report: Report = serde_json::from_value(self.lab.client("outside", &line)).expect("a report");
        assert!(report.errors.is_empty(), "{report:#?}");
        report
    }

    /// Answers with 200 of so many requests, two at a time as the labs' load has it.
    #[track_caller]
    pub(crate) fn good(&self, count: u64) -> u64 {
        self.load(count, 2, CODE).ok
    }

    /// How often simple-web got which status from the backend.
    #[track_caller]
    pub(crate) fn codes(&self, count: u64, at_once: usize) -> BTreeMap<String, u64> {
        self.load(count, at_once, CODE).by_value
    }

    /// Answers by the pod of the backend, and how fast they were.
    #[track_caller]
    pub(crate) fn pods(&self, count: u64, at_once: usize) -> (BTreeMap<String, u64>, Report) {
        let report = self.load(count, at_once, ADDRESS);
        let pods = self.lab.mesh.pods();
        let name = |ip: &str| {
            let pod = pods.iter().find(|pod| pod.ip.to_string() == ip);
            pod.map_or_else(|| ip.to_owned(), |pod| pod.name.clone())
        };
        let named = report.by_value.iter().map(|(ip, n)| (name(ip), *n)).collect();
        (named, report)
    }

    /// Answers by the Deployment of the backend: of simple-backend-1, of simple-backend-2.
    #[track_caller]
    pub(crate) fn halves(&self, count: u64, at_once: usize) -> (u64, u64) {
        let of = |pods: &BTreeMap<String, u64>, deployment: &str| {
            let own = pods.iter().filter(|(name, _)| name.starts_with(deployment));
            own.map(|(_, n)| n).sum::<u64>()
        };
        let (pods, report) = self.pods(count, at_once);
        let halves = (of(&pods, "simple-backend-1-"), of(&pods, "simple-backend-2-"));
        assert_eq!(halves.0 + halves.1, count, "every answer names a pod: {report:#?}");
        halves
    }

    /// The endpoints of the backend as simple-web's proxy has them now.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let answer = self.lab.mesh.admin("simple-web", "/clusters?format=json");
        let page = answer.and_then(|a| a.json()).expect("the page of clusters");
        let clusters = page["cluster_statuses"].as_array().cloned().unwrap_or_default();
        let cluster = clusters.iter().find(|c| c["name"] == CLUSTER).expect("the cluster");
        let hosts = cluster["host_statuses"].as_array().cloned().unwrap_or_default();
        let pods = self.lab.mesh.pods();
        let mut endpoints: Vec<Endpoint> = hosts
            .iter()
            .map(|host| {
                let ip = host["address"]["socket_address"]["address"]
                    .as_str()
                    .unwrap_or_default();
                let pod = pods.iter().find(|pod| pod.ip.to_string() == ip);
                Endpoint {
                    workload: pod.map_or_else(|| ip.to_owned(), |pod| pod.workload.clone()),
                    ejected: host["health_status"]["failed_outlier_check"] == true,
                    requests: requests(host),
                }
            })
            .collect();
        endpoints.sort_by(|a, b| a.workload.cmp(&b.workload));
        endpoints
    }

    /// Requests that simple-web's proxy has sent to the backend so far, repeated ones included.
    pub(crate) fn attempts(&self) -> u64 {
        self.endpoints().iter().map(|endpoint| endpoint.requests).sum()
    }

    /// A statistic of the backend's cluster in simple-web's proxy; `None` where it is not kept.
    pub(crate) fn statistic(&self, name: &str) -> Option<u64> {
        let answer = self.lab.mesh.admin("simple-web", "/stats").expect("statistics").text();
        // Istio ends the names of clusters in statistics with a semicolon.
        let line = format!("cluster.{CLUSTER};.{name}: ");
        let value = answer.lines().find_map(|l| l.strip_prefix(&line))?;
        value.parse().ok()
    }

    /// Sets the counters of simple-web's proxy to 0, as the labs do before a load.
    pub(crate) fn reset_counters(&self) {
        let to = (std::net::Ipv4Addr::LOCALHOST, mesh_api::names::port::ADMIN).into();
        let call = Call {
            method: http::Method::POST,
            ..Call::get(to, "/reset_counters")
        };
        let answer = self.lab.mesh.http_from("simple-web", call).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Runs `try_once` until it gives an answer; what it could not say is the error of the last one.
    #[track_caller]
    pub(crate) fn at_last(&self, what: &str, mut try_once: impl FnMut() -> Result<(), String>) {
        let deadline = Instant::now() + LIMIT;
        while let Err(last) = try_once() {
            assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}: {last}");
        }
    }
}

/// The counter `rq_total` of an endpoint; Envoy leaves the value out where it is 0.
fn requests(host: &Value) -> u64 {
    let stats = host["stats"].as_array().cloned().unwrap_or_default();
    let total = stats.iter().find(|s| s["name"] == "rq_total");
    let value = total.and_then(|s| s["value"].as_str()).unwrap_or("0");
    value.parse().unwrap_or_default()
}
