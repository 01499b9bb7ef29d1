//! Which pods get a proxy.

use anyhow::{Result, ensure};

use crate::kube::run::Turn;
use crate::kube::space::Mesh;

/// Namespace, label and annotation, and the network of the host.
pub(super) fn decisions(turn: &Turn<'_>) -> Result<()> {
    let cases = [
        (Mesh::Inside, "plain", "", "", true),
        (
            Mesh::Inside,
            "opted-out",
            "sidecar.istio.io/inject: \"false\"",
            "",
            false,
        ),
        (Mesh::Inside, "of-the-host", "", "hostNetwork: true", false),
        (Mesh::Outside, "plain", "", "", false),
        (Mesh::Outside, "opted-in", "sidecar.istio.io/inject: \"true\"", "", true),
    ];
    let (inside, outside) = (
        turn.space("inside", Mesh::Inside)?,
        turn.space("outside", Mesh::Outside)?,
    );
    let space = |mesh| if mesh == Mesh::Inside { &inside } else { &outside };
    for (mesh, name, label, spec, _) in cases {
        space(mesh).apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels:\n    app: {name}\n    {label}\nspec:\n  {spec}\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: IMAGE\n    \
             env: [{{name: SAMPLE_IMAGE, value: netshoot}}]\n"
        ))?;
    }
    for (mesh, name, _, _, injected) in cases {
        space(mesh).ready(&format!("pod/{name}"))?;
        for (_, containers) in space(mesh).containers(&format!("app={name}"))? {
            let has = containers.contains(&"istio-proxy".to_owned());
            ensure!(has == injected, "{mesh:?} {name}: {containers:?}");
            ensure!(
                containers.len() == 1 + usize::from(injected),
                "{mesh:?} {name}: {containers:?}"
            );
        }
    }
    Ok(())
}
