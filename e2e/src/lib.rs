//! Ferromesh without Kubernetes: pods as network namespaces, a runner for ordinary Kubernetes YAML, and the sample
//! application that the scenarios talk to.

pub mod bench;
pub mod cluster_dns;
pub mod demo;
pub mod interrupt;
pub mod kube;
pub mod netns;
pub mod runner;
pub mod sample;
pub mod testing;
