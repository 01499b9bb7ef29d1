//! Network configurations: our plugin in a list of others, as text to text.

use serde_json::{Map, Value, json};

/// Type of the plugin, which is also the name of its program.
pub(super) const TYPE: &str = "istio-cni";

/// Whether a file is a configuration that a runtime would take: a list of plugins, or a single one of another type.
pub(super) fn is_network(text: &str) -> bool {
    let Ok(Value::Object(conf)) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    match conf.get("plugins") {
        Some(Value::Array(plugins)) => plugins.iter().any(|p| !is_ours(p)),
        Some(_) => false,
        None => conf.get("type").is_some_and(Value::is_string) && !is_ours(&Value::Object(conf)),
    }
}

/// The configuration with our plugin as its last; `None` if it is so already.
///
/// # Errors
/// When it is no configuration.
pub(super) fn with(text: &str, plugin: &Value) -> Result<Option<String>, String> {
    let mut list = read(text)?;
    let before = list.clone();
    let plugins = plugins(&mut list)?;
    plugins.retain(|p| !is_ours(p));
    plugins.push(plugin.clone());
    Ok((list != before || !is_list(text)).then(|| pretty(&list)))
}

/// The configuration without our plugin; `None` if it is not in there.
///
/// # Errors
/// When it is no configuration.
pub(super) fn without(text: &str) -> Result<Option<String>, String> {
    let mut list = read(text)?;
    let before = list.clone();
    plugins(&mut list)?.retain(|p| !is_ours(p));
    Ok((list != before).then(|| pretty(&list)))
}

fn is_ours(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(TYPE)
}

fn is_list(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|v| v.get("plugins").is_some())
}

/// A single plugin becomes a list of one.
fn read(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"))?;
    let Value::Object(mut conf) = value else {
        return Err("no JSON object".to_owned());
    };
    if conf.contains_key("plugins") {
        return Ok(Value::Object(conf));
    }
    let mut list = Map::new();
    for name in ["cniVersion", "name"] {
        if let Some(value) = conf.shift_remove(name) {
            list.insert(name.to_owned(), value);
        }
    }
    list.insert("plugins".to_owned(), json!([conf]));
    Ok(Value::Object(list))
}

fn plugins(list: &mut Value) -> Result<&mut Vec<Value>, String> {
    match list.get_mut("plugins") {
        Some(Value::Array(plugins)) => Ok(plugins),
        _ => Err("plugins: expected a list".to_owned()),
    }
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Value {
        json!({"type": TYPE, "log_level": "info"})
    }

    #[test]
    fn the_plugin_is_the_last_of_the_list_once() {
        let text = r#"{"cniVersion": "0.3.1", "name": "kindnet", "plugins": [{"type": "ptp", "z": 1, "a": 2}, {"type": "portmap"}]}"#;
        let once = with(text, &ours()).expect("a list").expect("changed");
        let value: Value = serde_json::from_str(&once).expect("JSON");
        assert_eq!(value["plugins"][2], ours());
        assert!(
            once.find("\"z\"") < once.find("\"a\""),
            "the order of others' fields stays: {once}"
        );
        assert_eq!(with(&once, &ours()), Ok(None));
        let newer = json!({"type": TYPE, "log_level": "debug"});
        let twice = with(&once, &newer).expect("a list").expect("changed");
        assert_eq!(twice.matches(TYPE).count(), 1);
        let gone = without(&twice).expect("a list").expect("changed");
        let (a, b): (Value, Value) = (
            serde_json::from_str(&gone).expect("JSON"),
            serde_json::from_str(text).expect("JSON"),
        );
        assert_eq!(a, b);
        assert_eq!(without(&gone), Ok(None));
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let single = r#"{"cniVersion": "0.4.0", "name": "net", "type": "bridge", "ipam": {}}"#;
        let list = with(single, &ours()).expect("a plugin").expect("changed");
        let value: Value = serde_json::from_str(&list).expect("JSON");
        assert_eq!(value["plugins"][0], json!({"type": "bridge", "ipam": {}}));
        assert_eq!(value["name"], "net");
        assert!(is_network(single) && is_network(&list));
        for other in ["", "[]", "{}", r#"{"plugins": []}"#, r#"{"type": "istio-cni"}"#] {
            assert!(!is_network(other), "{other}");
        }
        assert!(with("{", &ours()).is_err());
    }
}
