//! `precheck`: whether the mesh can be installed, before anything is changed.

use anyhow::{Context as _, Result};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::OWNER;
use crate::cluster::{Cluster, ClusterOptions};
use crate::output::Done;

/// The oldest minor version of Kubernetes 1 that the charts are for.
const OLDEST: u32 = 20;

/// What the installation makes: group, resource, whether in a namespace.
const MAKES: [(&str, &str, bool); 13] = [
    ("", "namespaces", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", false),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", false),
    ("rbac.authorization.k8s.io", "roles", true),
    ("rbac.authorization.k8s.io", "rolebindings", true),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("apps", "deployments", true),
    ("", "configmaps", true),
    ("", "secrets", true),
];

/// Looks, and says what stands in the way.
pub(crate) async fn run(at: &ClusterOptions) -> Result<Done> {
    let cluster = Cluster::connect(at).await?;
    let mut errors: Vec<String> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    let info = cluster.client.apiserver_version().await;
    let info = info.context("the API server does not answer")?;
    errors.extend(too_old(&info.major, &info.minor));
    for (group, resource, namespaced) in MAKES {
        if !may_create(&cluster, group, resource, namespaced).await? {
            errors.push(format!(
                "you may not create {resource}{}{group}, which the installation does; ask for a role that may",
                if group.is_empty() { "" } else { "." }
            ));
        }
    }
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let crds = crds.list_metadata(&ListParams::default()).await.context("CRDs")?;
    let foreign: Vec<String> = crds
        .into_iter()
        .filter(|crd| crd.metadata.name.as_ref().is_some_and(|n| n.ends_with(".istio.io")))
        .filter(|crd| {
            let annotations = crd.metadata.annotations.as_ref();
            !annotations.is_some_and(|a| a.contains_key(OWNER))
        })
        .filter_map(|crd| crd.metadata.name)
        .collect();
    if !foreign.is_empty() {
        notes.push(format!(
            "CRDs that Helm did not install are there already and are left as they are: {}",
            foreign.join(", ")
        ));
    }
    Ok(report(&errors, &notes))
}

fn report(errors: &[String], notes: &[String]) -> Done {
    let mut text: String = notes.iter().map(|note| format!("Info: {note}\n")).collect();
    text.extend(errors.iter().map(|error| format!("✘ {error}\n")));
    if errors.is_empty() {
        text.push_str("✔ No issues found when checking the cluster. Istio is safe to install or upgrade!\n");
    }
    Done {
        text,
        code: u8::from(!errors.is_empty()),
    }
}

/// Providers add a `+` to the minor version.
fn too_old(major: &str, minor: &str) -> Option<String> {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let old = major == "1" && digits.parse::<u32>().is_ok_and(|minor| minor < OLDEST);
    old.then(|| format!("Kubernetes {major}.{minor} is too old: the mesh needs 1.{OLDEST} or newer"))
}

async fn may_create(cluster: &Cluster, group: &str, resource: &str, namespaced: bool) -> Result<bool> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some("create".to_owned()),
                namespace: namespaced.then(|| cluster.root.clone()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let answer = api.create(&PostParams::default(), &review).await;
    let answer = answer.context("the API server does not say what you may do")?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        assert!(too_old("1", "19").is_some_and(|text| text.contains("1.19")));
        for minor in ["20", "20+", "37", ""] {
            assert_eq!(too_old("1", minor), None, "{minor}");
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        assert!(report(&[], &[]).text.starts_with("✔ No issues found"));
        let done = report(&["a".to_owned()], &["b".to_owned()]);
        assert_eq!((done.text.as_str(), done.code), ("Info: b\n✘ a\n", 1));
    }
}
