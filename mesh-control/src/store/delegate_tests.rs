use mesh_api::istio::{AnyObject, Kind, parse};
use serde_json::{Value, json};

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "reads better at the callers")]
fn object(name: &str, namespace: &str, spec: Value) -> Object<VirtualService> {
    let kind = Kind::VirtualService;
    let parsed = parse(
        &kind.api_version(),
        kind.as_str(),
        json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": name, "namespace": namespace}, "spec": spec}),
    );
    match parsed {
        Ok(AnyObject::VirtualService(object)) => object,
        other => panic!("{other:?}"),
    }
}

fn applied(root: Value, delegate: Value) -> (Vec<Rule>, Vec<Problem>) {
    let root = object("root", "front", root);
    let delegate = object("inner", "back", delegate);
    let delegates = Delegates::from([(("back", "inner"), &delegate)]);
    rules(&root, &delegates, &[])
}

fn named() -> Value {
    json!({"name": "inner", "namespace": "back"})
}

#[test]
fn rules_of_a_delegate_stand_where_it_is_named() {
    let (rules, problems) = applied(
        json!({"hosts": ["a"], "http": [
            {"name": "first", "route": [{"destination": {"host": "x"}}]},
            {"name": "outer", "match": [{"uri": {"prefix": "/api"}, "headers": {"x": {"exact": "1"}}}],
             "timeout": "3s", "mirror": {"host": "shadow"}, "delegate": named()},
            {"route": [{"destination": {"host": "y"}}]}]}),
        json!({"http": [
            {"name": "one", "match": [{"uri": {"prefix": "/api/one"}, "headers": {"y": {"exact": "2"}}}],
             "timeout": "1s", "route": [{"destination": {"host": "z"}}]},
            {"route": [{"destination": {"host": "w"}}]}]}),
    );
    assert_eq!(problems, []);
    let names: Vec<&str> = rules.iter().map(|r| r.route.name.as_str()).collect();
    assert_eq!(names, ["first", "outer-one", "outer", ""]);
    let fields: Vec<&str> = rules.iter().map(|r| r.field.as_str()).collect();
    assert_eq!(fields, ["spec.http[0]", "spec.http[0]", "spec.http[1]", "spec.http[2]"]);
    let one = &rules[1];
    assert_eq!(one.delegate.as_ref().map(|m| m.name.as_str()), Some("inner"));
    assert_eq!(
        one.route.r#match[0].uri,
        Some(StringMatch::Prefix("/api/one".to_owned()))
    );
    assert_eq!(one.route.r#match[0].headers.len(), 2);
    assert_eq!(one.route.timeout, Some(std::time::Duration::from_secs(1).into()));
    // The outer rule's own names are of its own namespace.
    let mirror = one.route.mirror.as_ref().expect("the outer mirror");
    assert_eq!(mirror.host, "shadow.front.svc.cluster.local");
    let rest = &rules[2].route;
    assert_eq!(rest.r#match[0].uri, Some(StringMatch::Prefix("/api".to_owned())));
    assert_eq!(rest.timeout, Some(std::time::Duration::from_secs(3).into()));
}

#[test]
fn a_delegate_never_takes_more_than_it_was_given() {
    let take = |inner: Value| {
        let (rules, problems) = applied(
            json!({"hosts": ["a"], "http": [{"match": [{"uri": {"prefix": "/api"}, "port": 80}], "delegate": named()}]}),
            json!({"http": [{"match": [inner], "route": [{"destination": {"host": "z"}}]}]}),
        );
        assert_eq!(rules.len() + problems.len(), 1);
        !rules.is_empty()
    };
    assert!(take(json!({"uri": {"exact": "/api/x"}})));
    assert!(take(json!({"method": {"exact": "GET"}})));
    assert!(!take(json!({"uri": {"prefix": "/"}})));
    assert!(!take(json!({"uri": {"exact": "/other"}})));
    assert!(!take(json!({"uri": {"regex": "/api/.*"}})));
    assert!(!take(json!({"uri": {"prefix": "/API"}, "ignoreUriCase": true})));
    assert!(!take(json!({"port": 81})));
}

#[test]
fn delegates_that_are_not_there_are_named() {
    let root = json!({"hosts": ["a"], "http": [{"delegate": {"name": "inner"}}, {"delegate": named()}]});
    let (rules, problems) = applied(
        root,
        json!({"exportTo": ["."], "http": [{"directResponse": {"status": 200}}]}),
    );
    assert!(rules.is_empty());
    let fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["spec.http[0].delegate", "spec.http[1].delegate"]);
    assert!(problems[0].1.contains("no VirtualService front/inner"), "{problems:?}");
    assert!(problems[1].1.contains("not exported"), "{problems:?}");
}
