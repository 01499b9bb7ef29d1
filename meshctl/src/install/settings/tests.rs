use serde_json::json;

use super::*;

fn groups() -> Vec<String> {
    ["global", "revision", "meshConfig", "pilot", "gateways", "base", "cni"]
        .map(str::to_owned)
        .to_vec()
}

fn of(sets: &[&str]) -> Result<Settings> {
    let mut spec = Value::Object(Map::new());
    for one in sets {
        set(&mut spec, one)?;
    }
    values(&spec, &groups())
}

#[test]
fn paths_of_istioctl_become_values() {
    for (sets, profile, expected) in [
        (&["profile=demo"][..], "demo", json!({})),
        (
            &[
                "meshConfig.accessLogFile=/dev/stdout",
                "meshConfig.accessLogFormat=",
                "hub=example.com/mesh",
                "tag=1.20",
            ],
            "default",
            json!({"meshConfig": {"accessLogFile": "/dev/stdout", "accessLogFormat": ""},
                "global": {"hub": "example.com/mesh", "tag": "1.20"}}),
        ),
        (
            &[
                "values.global.proxy.holdApplicationUntilProxyStarts=true",
                "revision=canary",
            ],
            "default",
            json!({"global": {"proxy": {"holdApplicationUntilProxyStarts": true}}, "revision": "canary"}),
        ),
        (
            &[
                "components.egressGateways[0].enabled=true",
                "components.cni.enabled=true",
            ],
            "default",
            json!({"gateways": {"istio-egressgateway": {"enabled": true}}, "cni": {"enabled": true}}),
        ),
        (
            &[
                "components.ingressGateways.[name:front].enabled=true",
                "components.ingressGateways[name:front].k8s.service.type=NodePort",
                "components.ingressGateways[name:front].k8s.replicaCount=2",
            ],
            "default",
            json!({"gateways": {"front": {"enabled": true, "service": {"type": "NodePort"}, "replicaCount": 2}}}),
        ),
        (
            &[
                "components.pilot.k8s.env[0].name=A",
                "components.pilot.k8s.env[0].value=b",
                "components.pilot.k8s.hpaSpec.minReplicas=2",
            ],
            "default",
            json!({"pilot": {"env": {"A": "b"}, "autoscaleMin": 2, "autoscaleMax": 5}}),
        ),
        (
            &[
                "meshConfig.defaultConfig.proxyMetadata.A\\.B=x",
                "meshConfig.list=[a, b]",
            ],
            "default",
            json!({"meshConfig": {"defaultConfig": {"proxyMetadata": {"A.B": "x"}}, "list": ["a", "b"]}}),
        ),
    ] {
        let settings = of(sets).unwrap_or_else(|e| panic!("{sets:?}: {e:#}"));
        assert_eq!(
            (settings.profile.as_str(), &settings.values),
            (profile, &expected),
            "{sets:?}"
        );
    }
}

#[test]
fn what_the_charts_do_not_have_is_refused_by_name() {
    for (set, part) in [
        (
            "values.telemetry.v2=true",
            "values.telemetry: the charts have no such value",
        ),
        ("components.pilot.k8s.overlays[0]=x", "components.pilot.k8s.overlays"),
        (
            "components.ztunnel.enabled=true",
            "components.ztunnel: there is no such component",
        ),
        ("components.ingressGateways[1].enabled=true", "needs a name"),
        (
            "addonComponents.kiali.enabled=true",
            "addonComponents: there is no such setting",
        ),
        ("pilot.autoscaleEnabled=false", "write values.pilot"),
        ("namespace=x", "--istioNamespace"),
        ("profile", "PATH=VALUE"),
        ("=x", "empty"),
        ("meshConfig.a[99999999999]=x", "further than"),
        ("meshConfig.a[b]=x", "neither a number"),
    ] {
        let error = of(&[set]).expect_err(set);
        assert!(format!("{error:#}").contains(part), "{set}: {error:#}");
    }
    let error = of(&["meshConfig.a=x", "meshConfig.a.b=y"]).expect_err("no map");
    assert!(format!("{error:#}").contains("no map"), "{error:#}");
}

#[test]
fn files_are_operators_or_values() {
    let dir = tempfile::tempdir().expect("dir");
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let operator = put(
        "operator.yaml",
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  profile: demo\n  meshConfig: {a: 1, b: 2}\n",
    );
    let plain = put("values.yaml", "meshConfig: {b: 3}\n");
    let mut spec = file(&operator).expect("read");
    merge(&mut spec, file(&plain).expect("read"));
    let settings = values(&spec, &groups()).expect("settings");
    assert_eq!(settings.profile, "demo");
    assert_eq!(settings.values, json!({"meshConfig": {"a": 1, "b": 3}}));
    assert!(file(&put("pod.yaml", "kind: Pod\n")).is_err());
}
