"""Checks of rendered manifests: whatever can be known of them without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import yaml

Object = dict[str, Any]

# Kinds without a namespace that the charts use.
CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
}
# Versions that only old servers have, and the version of today with the same fields.
OLD = {
    ("policy/v1beta1", "PodDisruptionBudget"): ("policy/v1", (1, 25)),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler"): ("autoscaling/v2", (1, 26)),
}
# Versions that old servers lack, and the first to have them.
NEW = {
    ("policy/v1", "PodDisruptionBudget"): (1, 21),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): (1, 23),
}
# Fields of a pod by the first version that knows them.
FIELDS = {"sysctls": (1, 22), "appArmorProfile": (1, 30)}
# The oldest version that schemas are there for.
OLDEST = (1, 25)


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML in which a key that stands twice is an error, as it is for Kubernetes."""


def mapping(loader: Loader, node: yaml.MappingNode) -> Object:
    found: Object = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


@cache
def documents(text: str) -> list[Object]:
    return [one for one in yaml.load_all(text, Loader) if one]  # noqa: S506


def parse(manifests: dict[str, str]) -> list[Object]:
    """All objects of all templates. Those of equal text are the same object."""
    found = []
    for path, text in manifests.items():
        if not path.endswith("NOTES.txt"):
            # The CRDs are much of the text, and the same in most cases.
            parts = text.split("\n---\n") if path.endswith("crds.yaml") else [text]
            for part in parts:
                found += documents(part)
    return found


def label(one: Object) -> str:
    meta = one["metadata"]
    return f"{one['kind']} {meta.get('namespace', '')}/{meta['name']}"


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Every workload with its pod template."""
    for one in of_kind(objects, "Deployment", "DaemonSet"):
        yield one, one["spec"]["template"]


def check(objects: list[Object], namespace: str, version: tuple[int, int]) -> list[str]:
    """What is wrong, one line each."""
    wrong = []
    for part in (identity, structure, versions, access, selectors, safety, contents):
        wrong += part(objects, namespace, version)
    return wrong


def identity(objects: list[Object], namespace: str, _: tuple[int, int]) -> Iterator[str]:
    seen = set()
    for one in objects:
        name = label(one)
        if name in seen:
            yield f"{name} stands twice"
        seen.add(name)
        own = one["metadata"].get("namespace")
        if one["kind"] in CLUSTER and own:
            yield f"{name}: this kind has no namespace"
        if one["kind"] not in CLUSTER and own != namespace:
            yield f"{name}: not in namespace {namespace}"


def structure(objects: list[Object], _: str, version: tuple[int, int]) -> Iterator[str]:
    """Fields and their types, by the schemas of that version of Kubernetes; older ones by the oldest that there is."""
    for one in objects:
        newer = OLD.get((one["apiVersion"], one["kind"]))
        if newer:
            one = {**one, "apiVersion": newer[0]}
        if one["apiVersion"] == "monitoring.coreos.com/v1":
            continue
        if problem := structure_of(json.dumps(one), max(version, OLDEST)):
            yield f"{label(one)}: {problem}"


@cache
def structure_of(text: str, version: tuple[int, int]) -> str:
    try:
        kubernetes_validate.validate(json.loads(text), ".".join(map(str, version)), strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.InvalidSchemaError) as error:
        return str(getattr(error, "message", error))
    return ""


def versions(objects: list[Object], _: str, version: tuple[int, int]) -> Iterator[str]:
    for one in objects:
        key = (one["apiVersion"], one["kind"])
        if key in OLD and version >= OLD[key][1]:
            yield f"{label(one)}: {key[0]} is gone in {version}"
        if key in NEW and version < NEW[key]:
            yield f"{label(one)}: {version} does not have {key[0]}"
    for one, pod in pods(objects):
        text = json.dumps(pod)
        for field, first in FIELDS.items():
            if version < first and f'"{field}"' in text:
                yield f"{label(one)}: {version} does not know {field}"


def access(objects: list[Object], namespace: str, _: tuple[int, int]) -> Iterator[str]:
    """Bindings name roles and accounts that are there, and pods run under an account of ours."""
    roles = {(one["kind"], one["metadata"]["name"]) for one in of_kind(objects, "Role", "ClusterRole")}
    accounts = {one["metadata"]["name"] for one in of_kind(objects, "ServiceAccount")}
    for one in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        ref = one["roleRef"]
        if (ref["kind"], ref["name"]) not in roles:
            yield f"{label(one)}: no {ref['kind']} {ref['name']}"
        for subject in one["subjects"]:
            if subject["name"] not in accounts or subject["namespace"] != namespace:
                yield f"{label(one)}: no ServiceAccount {subject['namespace']}/{subject['name']}"
    for one, pod in pods(objects):
        if pod["spec"]["serviceAccountName"] not in accounts:
            yield f"{label(one)}: no ServiceAccount {pod['spec']['serviceAccountName']}"


def selectors(objects: list[Object], namespace: str, _: tuple[int, int]) -> Iterator[str]:
    """What selects pods selects those of one workload; what names an object names one that is there."""
    labels = {label(one): pod["metadata"]["labels"] for one, pod in pods(objects)}

    def selected(wanted: Object) -> list[str]:
        return [name for name, has in labels.items() if wanted.items() <= has.items()]

    for one in objects:
        spec = one.get("spec", {})
        match one["kind"]:
            case "Service":
                wanted = spec["selector"]
            case "Deployment" | "DaemonSet" | "PodDisruptionBudget":
                wanted = spec["selector"]["matchLabels"]
            case "HorizontalPodAutoscaler":
                target = spec["scaleTargetRef"]
                if f"{target['kind']} {namespace}/{target['name']}" not in labels:
                    yield f"{label(one)}: scales {target}, which is not there"
                continue
            case _:
                continue
        if len(selected(wanted)) != 1:
            yield f"{label(one)}: selects pods of {selected(wanted)}"
    services = {one["metadata"]["name"]: one for one in of_kind(objects, "Service")}
    for one in of_kind(objects, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in one["webhooks"]:
            target = webhook["clientConfig"]["service"]
            service = services.get(target["name"])
            if not service or target["namespace"] != namespace:
                yield f"{label(one)}: {webhook['name']} calls {target}, which is not there"
            elif target["port"] not in [port["port"] for port in service["spec"]["ports"]]:
                yield f"{label(one)}: {webhook['name']} calls port {target['port']}, which is not there"
    claimed = {one["metadata"]["name"] for one in of_kind(objects, "ConfigMap")}
    for one, pod in pods(objects):
        for volume in pod["spec"].get("volumes", []):
            name = volume.get("configMap", {}).get("name")
            if name and name not in claimed:
                yield f"{label(one)}: no ConfigMap {name}"


def safety(objects: list[Object], _: str, __: tuple[int, int]) -> Iterator[str]:
    """Not root, no capabilities, a root filesystem that cannot be written, a seccomp profile, requests. Node agents are root."""
    for one, pod in pods(objects):
        around = pod["spec"].get("securityContext", {})
        for container in pod["spec"]["containers"]:
            name = f"{label(one)}: {container['name']}"
            own = container["securityContext"]
            if not own.get("readOnlyRootFilesystem"):
                yield f"{name} can write its root filesystem"
            if own["capabilities"]["drop"] != ["ALL"]:
                yield f"{name} keeps capabilities"
            if "type" not in own.get("seccompProfile", around.get("seccompProfile", {})):
                yield f"{name} has no seccomp profile"
            if not container["resources"].get("requests"):
                yield f"{name} requests nothing"
            if own.get("privileged"):
                yield f"{name} is privileged"
            if one["kind"] == "DaemonSet" and one["metadata"]["name"] == "istio-cni-node":
                continue
            if not (own.get("runAsNonRoot") or around.get("runAsNonRoot")):
                yield f"{name} may be root"
            if own.get("allowPrivilegeEscalation") is not False or own["capabilities"].get("add"):
                yield f"{name} may gain privileges"


def contents(objects: list[Object], _: str, __: tuple[int, int]) -> Iterator[str]:
    """What stands in ConfigMaps as text is YAML or JSON of the form that its readers expect."""
    for one in of_kind(objects, "ConfigMap"):
        for key, text in one["data"].items():
            try:
                if key in ("mesh", "meshNetworks", "config", "prometheus.yml"):
                    if not isinstance(yaml.load(text, Loader), dict):  # noqa: S506
                        yield f"{label(one)}: {key} is no map"
                elif key == "values":
                    json.loads(text)
            except (yaml.YAMLError, ValueError) as error:
                yield f"{label(one)}: {key}: {error}"
            if key == "config":
                for name, template in (yaml.load(text, Loader).get("templates") or {}).items():  # noqa: S506
                    if not isinstance(template, str):
                        yield f"{label(one)}: template {name} is no text"


def matches(selector: Object | None, labels: Object) -> bool:
    """Kubernetes' label selectors."""
    for rule in (selector or {}).get("matchExpressions", []):
        value = labels.get(rule["key"])
        held = {
            "In": value in rule.get("values", []) and value is not None,
            "NotIn": value not in rule.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[rule["operator"]]
        if not held:
            return False
    return True


def injectors(objects: list[Object], namespace: Object, pod: Object) -> list[str]:
    """Services that are called for a pod with these labels in a namespace with those, one for each webhook that matches."""
    return [
        webhook["clientConfig"]["service"]["name"]
        for one in of_kind(objects, "MutatingWebhookConfiguration")
        for webhook in one["webhooks"]
        if matches(webhook.get("namespaceSelector"), namespace) and matches(webhook.get("objectSelector"), pod)
    ]
