//! Kubernetes' label selectors.

use std::collections::BTreeMap;

use mesh_api::k8s::LabelSelector;

/// Whether the labels are selected. A selector that says nothing selects nothing here: it would be meant for no Pod in
/// particular, and decide for all.
pub(super) fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector.match_labels.iter().flatten().next().is_some();
    let expressions = selector.match_expressions.iter().flatten().next().is_some();
    (exact || expressions) && selects(selector, labels)
}

/// Whether the labels are selected, as Kubernetes has it: a selector that says nothing selects everything.
pub(crate) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    exact.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|e| {
            let value = labels.get(&e.key);
            let listed = || value.is_some_and(|v| e.values.iter().flatten().any(|other| other == v));
            match e.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// What is wrong with a selector, for the one who wrote it.
pub(super) fn problem(selector: &LabelSelector) -> Option<String> {
    selector.match_expressions.iter().flatten().find_map(|e| {
        let values = e.values.as_ref().map_or(0, Vec::len);
        match e.operator.as_str() {
            "In" | "NotIn" if values == 0 => Some(format!("{}: {} needs values", e.key, e.operator)),
            "Exists" | "DoesNotExist" if values > 0 => Some(format!("{}: {} takes no values", e.key, e.operator)),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => None,
            other => Some(format!(
                "{}: operator {other:?} is none of In, NotIn, Exists and DoesNotExist",
                e.key
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_select() {
        let labels: BTreeMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
        for (selector, expected) in [
            (json!({}), false),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "api"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
                false,
            ),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}),
                false,
            ),
        ] {
            let read: LabelSelector = serde_json::from_value(selector.clone()).expect("a selector");
            assert_eq!(matches(&read, &labels), expected, "{selector}");
            assert_eq!(problem(&read), None, "{selector}");
        }
    }

    #[test]
    fn wrong_selectors_select_nothing_and_say_why() {
        for selector in [
            json!({"matchExpressions": [{"key": "app", "operator": "Is", "values": ["web"]}]}),
            json!({"matchExpressions": [{"key": "app", "operator": "In"}]}),
        ] {
            let read: LabelSelector = serde_json::from_value(selector.clone()).expect("a selector");
            assert!(!matches(&read, &[("app".to_owned(), "web".to_owned())].into()));
            assert!(problem(&read).is_some(), "{selector}");
        }
    }
}
