use std::path::PathBuf;

use serde_json::Value;

use super::{FOLDER, definition, manifests};
use crate::istio::Kind;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(FOLDER)
}

#[test]
fn files_are_fresh() {
    let expected = manifests();
    for (name, text) in &expected {
        let found = std::fs::read_to_string(folder().join(name)).unwrap_or_default();
        assert!(
            found == *text,
            "{FOLDER}/{name} is not what the types say; run `cargo xtask codegen`"
        );
    }
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut names: Vec<String> = expected.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(found, names, "{FOLDER} holds a file of a kind that is gone");
}

/// Writes the files, where `cargo xtask codegen` is not at hand.
#[test]
#[ignore = "writes into charts/"]
fn write_files() {
    std::fs::create_dir_all(folder()).unwrap();
    for (name, text) in manifests() {
        std::fs::write(folder().join(name), text).unwrap();
    }
}

#[test]
fn every_supported_kind_has_one() {
    let names: Vec<String> = manifests().into_iter().map(|(name, _)| name).collect();
    let supported = Kind::ISTIO.into_iter().filter(|kind| kind.info().supported).count();
    assert_eq!(names.len(), supported);
    assert!(names.contains(&"networking.istio.io_virtualservices.yaml".to_owned()));
}

#[test]
fn text_and_definition_say_the_same() {
    for ((name, text), kind) in manifests().into_iter().zip(Kind::ISTIO) {
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, definition(kind).unwrap(), "{name}");
    }
}

/// Kubernetes' own type knows every field.
#[test]
fn definitions_are_kubernetes_objects() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    for definition in Kind::ISTIO.into_iter().filter_map(definition) {
        let read: CustomResourceDefinition = serde_json::from_value(definition.clone()).unwrap();
        let mut written = serde_json::to_value(read).unwrap();
        // Numbers of limits come back as floats.
        let mut expected = definition;
        floats(&mut written);
        floats(&mut expected);
        assert_eq!(written, expected);
    }
}

fn floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = serde_json::json!(number.as_f64()),
        Value::Array(list) => list.iter_mut().for_each(floats),
        Value::Object(map) => map.values_mut().for_each(floats),
        _ => {}
    }
}

/// The rules that an API server has for `apiextensions.k8s.io/v1`.
#[test]
fn schemas_are_structural() {
    fn walk(path: &str, schema: &Value) {
        const ALLOWED: [&str; 16] = [
            "additionalProperties",
            "description",
            "enum",
            "format",
            "items",
            "maximum",
            "maxItems",
            "maxLength",
            "minimum",
            "minItems",
            "minLength",
            "pattern",
            "properties",
            "required",
            "type",
            "x-kubernetes-preserve-unknown-fields",
        ];
        let fields = schema.as_object().unwrap_or_else(|| panic!("{path}: {schema}"));
        for key in fields.keys() {
            assert!(ALLOWED.contains(&key.as_str()), "{path}: {key}");
        }
        let kind = fields["type"]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: no single type: {schema}"));
        assert!(
            ["object", "array", "string", "integer", "number", "boolean"].contains(&kind),
            "{path}: {kind}"
        );
        let free = fields.contains_key("x-kubernetes-preserve-unknown-fields");
        let (properties, values) = (fields.get("properties"), fields.get("additionalProperties"));
        assert!(
            properties.is_none() || values.is_none(),
            "{path}: both properties and additionalProperties"
        );
        assert_eq!(kind == "array", fields.contains_key("items"), "{path}");
        if kind == "object" && !free && properties.is_none() {
            assert!(values.is_some(), "{path}: an object that can hold nothing");
        }
        for name in fields.get("required").and_then(Value::as_array).into_iter().flatten() {
            assert!(
                properties.is_some_and(|p| p.get(name.as_str().unwrap()).is_some()),
                "{path}: {name}"
            );
        }
        for (name, inner) in properties.and_then(Value::as_object).into_iter().flatten() {
            walk(&format!("{path}.{name}"), inner);
        }
        for inner in values.into_iter().chain(fields.get("items")) {
            walk(&format!("{path}[]"), inner);
        }
    }
    for kind in Kind::ISTIO.into_iter().filter(|kind| kind.info().supported) {
        let definition = definition(kind).unwrap();
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let stored = versions.iter().filter(|version| version["storage"] == true).count();
        assert_eq!(stored, 1, "{kind}");
        for version in versions {
            walk(kind.as_str(), &version["schema"]["openAPIV3Schema"]);
        }
    }
}

#[test]
fn fields_have_the_shape_of_istios() {
    let at = |kind: Kind, pointer: &str| -> Value {
        let definition = definition(kind).unwrap();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec.pointer(pointer)
            .unwrap_or_else(|| panic!("{kind} {pointer}"))
            .clone()
    };
    let http = "/http/items/properties";
    let weight = at(Kind::VirtualService, &format!("{http}/route/items/properties/weight"));
    assert_eq!(
        (weight["type"].as_str(), weight["format"].as_str()),
        (Some("integer"), Some("int32"))
    );
    let route = at(Kind::VirtualService, &format!("{http}/route/items"));
    assert_eq!(route["required"], serde_json::json!(["destination"]));
    let headers = at(Kind::VirtualService, &format!("{http}/match/items/properties/headers"));
    let keys: Vec<&String> = headers["additionalProperties"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(keys, ["exact", "prefix", "regex"]);
    assert_eq!(at(Kind::VirtualService, &format!("{http}/timeout/type")), "string");
    assert_eq!(
        at(Kind::VirtualService, &format!("{http}/mirror_percent/maximum")),
        u32::MAX
    );
    assert_eq!(
        at(
            Kind::RequestAuthentication,
            "/jwtRules/items/properties/jwks_uri/maxLength"
        ),
        2048
    );
    let value = at(
        Kind::EnvoyFilter,
        "/configPatches/items/properties/patch/properties/value",
    );
    assert_eq!(value["x-kubernetes-preserve-unknown-fields"], true);
    let ports = at(
        Kind::PeerAuthentication,
        "/portLevelMtls/additionalProperties/properties/mode/enum",
    );
    assert_eq!(ports, serde_json::json!(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]));
    let simple = at(
        Kind::DestinationRule,
        "/trafficPolicy/properties/loadBalancer/properties/simple",
    );
    assert_eq!(simple["type"], "string");
    assert_eq!(
        at(
            Kind::DestinationRule,
            "/trafficPolicy/properties/retryBudget/properties/percent/maximum"
        ),
        100.0
    );
    assert_eq!(at(Kind::ServiceEntry, "/ports/items/properties/number/minimum"), 1);
    let telemetry = definition(Kind::Telemetry).unwrap();
    let versions: Vec<(&str, bool)> = telemetry["spec"]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["name"].as_str().unwrap(), v["storage"].as_bool().unwrap()))
        .collect();
    assert_eq!(versions, [("v1", false), ("v1alpha1", true)]);
    let columns = &definition(Kind::VirtualService).unwrap()["spec"]["versions"][2]["additionalPrinterColumns"];
    let columns: Vec<&str> = columns
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Gateways", "Hosts", "Age"]);
}
