//! The Kubernetes kinds that the mesh reads, as `k8s-openapi` has them.

pub use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec},
    core::v1::{
        ConfigMap, Container, ContainerPort, EnvVar, Namespace, Node, Pod, PodSpec, PodStatus, PodTemplateSpec, Secret,
        Service, ServiceAccount, ServicePort, ServiceSpec,
    },
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
pub use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{LabelSelector, ObjectMeta, Time},
    util::intstr::IntOrString,
};
