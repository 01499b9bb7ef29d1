//! The order of containers. The proxy is the last one, so that `kubectl exec` and `logs` mean the application, unless the
//! application waits for it; capture comes after the Pod's other init containers, which run before there is a proxy.

use serde_json::Value;

use super::pod::{self, INIT, PROXY, VALIDATION, existing_list, find};

#[derive(Clone, Copy)]
enum To {
    First,
    Last,
}

/// Sorts both lists. `before` are init containers that a native sidecar comes after.
pub(super) fn sort(merged: &mut Value, hold: bool, before: &[&str]) {
    let native = find(merged, "initContainers", PROXY).is_some();
    if let Some(list) = existing_list(merged, "containers") {
        place(list, PROXY, if hold { To::First } else { To::Last });
    }
    let Some(list) = existing_list(merged, "initContainers") else {
        return;
    };
    if native {
        place(list, PROXY, To::First);
        for name in before.iter().rev() {
            place(list, name, To::First);
        }
        place(list, VALIDATION, To::First);
        place(list, INIT, To::First);
    } else {
        place(list, VALIDATION, To::First);
        place(list, INIT, To::Last);
    }
}

fn place(list: &mut Vec<Value>, name: &str, to: To) {
    let Some(at) = list.iter().position(|c| pod::name(c) == name) else {
        return;
    };
    let container = list.remove(at);
    match to {
        To::First => list.insert(0, container),
        To::Last => list.push(container),
    }
}
