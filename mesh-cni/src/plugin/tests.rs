use serde_json::{Value, json};

use super::*;

fn call(command: &str, args: &str) -> Environment {
    Environment {
        command: command.to_owned(),
        netns: Some("/var/run/netns/none-of-this-name".to_owned()),
        args: args.to_owned(),
    }
}

fn conf(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "kindnet", "type": "istio-cni",
        "kubernetes": {
            "kubeconfig": "/nowhere/kubeconfig", "exclude_namespaces": ["kube-system"], "cni_namespace": "istio-system",
        },
        "prevResult": {"cniVersion": version, "ips": [{"address": "10.0.0.5/24"}], "dns": {}},
    })
}

const WEB: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=abc";

#[test]
fn versions_are_told_without_a_configuration() {
    let text = answer(&call("VERSION", ""), "").expect("answered");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        assert!(
            value["supportedVersions"]
                .as_array()
                .expect("a list")
                .contains(&json!(version))
        );
    }
}

#[test]
fn pods_that_nobody_has_to_be_asked_about_pass() {
    for args in [
        "",
        "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=coredns-1",
        "K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-node-x2b",
    ] {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let conf = conf(version);
            let text = answer(&call("ADD", args), &conf.to_string()).expect("passed");
            assert_eq!(
                serde_json::from_str::<Value>(&text).expect("JSON"),
                conf["prevResult"],
                "as it came"
            );
            assert_eq!(answer(&call("CHECK", args), &conf.to_string()), Ok(String::new()));
        }
    }
    assert_eq!(answer(&call("DEL", WEB), &conf("1.0.0").to_string()), Ok(String::new()));
    let mut first = conf("1.0.0");
    first["prevResult"] = Value::Null;
    assert_eq!(
        answer(&call("ADD", ""), &first.to_string()).as_deref(),
        Ok(r#"{"cniVersion":"1.0.0"}"#)
    );
}

#[test]
fn a_pod_that_cannot_be_looked_up_does_not_start() {
    let error = answer(&call("ADD", WEB), &conf("0.4.0").to_string()).expect_err("nobody to ask");
    assert_eq!(error.code, 11);
    assert!(
        error.message.contains("pod shop/web-1") && error.message.contains("/nowhere"),
        "{error}"
    );
    let text: Value = serde_json::from_str(&error_text(&error)).expect("JSON");
    assert_eq!(text["code"], 11);
    assert_eq!(text["cniVersion"], "0.4.0");
}

#[test]
fn calls_that_cannot_be_understood_fail_by_the_specifications_codes() {
    assert_eq!(answer(&call("ADD", WEB), "{").expect_err("no JSON").code, 6);
    let error = answer(&call("ADD", WEB), &conf("0.1.0").to_string()).expect_err("old");
    assert_eq!((error.code, error.version.as_str()), (1, "0.1.0"));
    assert_eq!(
        answer(&call("JUMP", WEB), &conf("1.0.0").to_string())
            .expect_err("unknown")
            .code,
        4
    );
}
