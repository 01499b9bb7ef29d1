#!/usr/bin/env python3
"""Lints and renders the charts over a matrix of values and versions of Kubernetes, and checks what comes out.

    python3 -m venv VENV && VENV/bin/pip install -r charts/tools/requirements.txt
    VENV/bin/python charts/tools/matrix.py [--kubeconfig FILE] [--server-only]

With a cluster, its API server is asked too whether it would take the manifests, or that alone; nothing is written to it.
Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import helm_python
import yaml

import checks
import helm
import schema

CHARTS = Path(__file__).resolve().parent.parent
MESH = CHARTS / "mesh"
PARTS = ("base", "control", "gateway", "cni", "addons")
VERSIONS = ("v1.20.2", "v1.22.17", "v1.25.0", "v1.30.4-gke.1348000", "v1.33.0", "v1.37.0")
NAMESPACE = "istio-system"

# Values by a name: files of values (profiles), then --set.
CASES: dict[str, tuple[list[str], list[str]]] = {
    "nothing": ([], []),
    "default": (["default"], []),
    "demo": (["demo"], []),
    "minimal": (["minimal"], []),
    "revision": ([], ["revision=1-2-3,revisionTags={prod,default}"]),
    "canary": (["minimal"], ["revision=canary,base.enabled=false"]),
    "gateways only": ([], ["pilot.enabled=false,base.enabled=false"]),
    "node agent": ([], ["cni.enabled=true,cni.taint.enabled=true,cni.repair.deletePods=true,cni.repair.labelPods=true"]),
    "node agent, apart": ([], ["cni.enabled=true,cni.chained=false,cni.cniConfFileName=10-net.conflist,cni.resourceQuotas.enabled=true"]),
    "node port": ([], ["gateways.istio-ingressgateway.type=NodePort,gateways.istio-ingressgateway.autoscaleEnabled=false"]),
    "node port, by today's names": ([], ["gateways.istio-ingressgateway.service.type=NodePort,gateways.istio-ingressgateway.kind=DaemonSet"]),
    "no scaling": ([], ["pilot.autoscaleEnabled=false,pilot.replicaCount=3,global.defaultPodDisruptionBudget.enabled=false"]),
    "scaled by memory": ([], ["pilot.memory.targetAverageUtilization=70,pilot.autoscaleBehavior.scaleDown.stabilizationWindowSeconds=600"]),
    "settings": ([], ["meshConfig.accessLogFile=/dev/stdout,meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY,meshConfig.defaultConfig.concurrency=4,meshConfig.rootNamespace=root,global.meshID=m1"]),
    "registry": ([], ["global.hub=registry.example.com/mesh,global.tag=v9,global.imagePullPolicy=Always,global.imagePullSecrets={one,two},cni.enabled=true"]),
    "whole images": ([], ["pilot.image=example.com/a/b:1,cni.enabled=true,cni.image=example.com/c/d@sha256:0"]),
    "logs": ([], ["global.logAsJson=true,global.logging.level=default:warning\\,mesh_control::serve:debug"]),
    "environment": ([], ["pilot.env.PILOT_DEBOUNCE_AFTER=10ms,pilot.env.NUMBER=100000000,pilot.env.FLAG=true,pilot.extraContainerArgs={--trust-domain=a.b}"]),
    "placed": ([], ["pilot.nodeSelector.a=b,pilot.tolerations[0].operator=Exists,pilot.podAnnotations.x=y,pilot.podLabels.l=m", "global.priorityClassName=system-cluster-critical"]),
    "two families": ([], ["pilot.ipFamilyPolicy=PreferDualStack,pilot.ipFamilies={IPv6,IPv4}"]),
    "injection": ([], ["sidecarInjectorWebhook.neverInjectSelector[0].matchExpressions[0].key=job,sidecarInjectorWebhook.neverInjectSelector[0].matchExpressions[0].operator=Exists,sidecarInjectorWebhook.injectedAnnotations.a=b,sidecarInjectorWebhook.defaultTemplates={sidecar,mine}", "sidecarInjectorWebhook.templates.mine=metadata:\n  labels:\n    hello: world\n"]),
    "webhooks of others": ([], ["global.operatorManageWebhooks=true,global.configValidation=false"]),
    "no injection": ([], ["global.omitSidecarInjectorConfigMap=true"]),
    "addons": ([], ["addons.enabled=true,addons.monitors.enabled=true"]),
    "some CRDs": ([], ["base.excludedCRDs={envoyfilters.networking.istio.io}"]),
    "more gateways": ([], ["gateways.public.enabled=true,gateways.public.labels.istio=public,gateways.public.labels.team=a,gateways.public.networkGateway=n1,gateways.istio-egressgateway.enabled=true,gateways.public.env.ISTIO_META_X=1"]),
    "network": ([], ["global.meshNetworks.n1.gateways[0].address=10.0.0.1,global.network=n1,global.multiCluster.clusterName=c1"]),
}

# Values that must be refused, and what the message has to name.
REFUSED = {
    "pilot.typo=1": "typo",
    "metaConfig.x=1": "metaConfig",
    "gateways.istio-ingressgateway.typo=1": "typo",
    "gateways.istio-ingressgateway.type=Nodeport": "NodePort",
    "global.proxy.clusterDomain=example.com": "cluster.local",
    "global.proxy.logLevel=loud": "logLevel",
    "revision=default": "leave the value empty",
    "revision=Bad_Name": "revision",
    "revisionTags={default}": "revisionTags",
    "cni.repair.typo=true": "typo",
    "base.typo=true": "typo",
    "addons.prometheus.retention=long": "retention",
    "pilot.replicaCount=two": "replicaCount",
}


def values_of(files: list[str], sets: list[str]) -> helm.Values:
    return helm.read_values(
        [str(MESH / "files" / "profiles" / f"{name}.yaml") for name in files], [("set", one) for one in sets]
    )


def names(objects: list[checks.Object], *kinds: str) -> set[str]:
    return {one["metadata"]["name"] for one in checks.of_kind(objects, *kinds)}


def one(objects: list[checks.Object], kind: str, name: str) -> checks.Object:
    return next(o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))


def expectations() -> dict[str, Callable[[list[checks.Object]], bool]]:
    """What a case must show, apart from being sound."""

    def mesh(objects: list[checks.Object], name: str = "istio") -> checks.Object:
        return yaml.safe_load(one(objects, "ConfigMap", name)["data"]["mesh"])

    def injector(objects: list[checks.Object], key: str) -> checks.Object:
        return yaml.safe_load(one(objects, "ConfigMap", "istio-sidecar-injector")["data"][key])

    def discovery(objects: list[checks.Object]) -> checks.Object:
        return one(objects, "Deployment", "istiod")["spec"]["template"]["spec"]["containers"][0]

    def env(objects: list[checks.Object]) -> checks.Object:
        return {e["name"]: e.get("value") for e in discovery(objects)["env"]}

    return {
        "nothing": lambda o: names(o, "Deployment") == {"istiod", "istio-ingressgateway"}
        and len(checks.of_kind(o, "CustomResourceDefinition")) == len(list((MESH / "charts/base/files/crds").iterdir()))
        and "replicas" not in one(o, "Deployment", "istiod")["spec"]
        and "istiod-clusterrole-istio-system" in names(o, "ClusterRole")
        and mesh(o)["defaultConfig"]["discoveryAddress"] == "istiod.istio-system.svc:15012",
        "demo": lambda o: names(o, "Deployment") == {"istiod", "istio-ingressgateway", "istio-egressgateway"}
        and mesh(o)["accessLogFile"] == "/dev/stdout"
        and not names(o, "HorizontalPodAutoscaler"),
        "minimal": lambda o: names(o, "Deployment") == {"istiod"},
        "revision": lambda o: names(o, "MutatingWebhookConfiguration")
        == {"istio-sidecar-injector-1-2-3", "istio-revision-tag-prod", "istio-revision-tag-default"}
        and names(o, "ConfigMap") == {"istio-1-2-3", "istio-sidecar-injector-1-2-3"}
        and mesh(o, "istio-1-2-3")["defaultConfig"]["discoveryAddress"] == "istiod-1-2-3.istio-system.svc:15012"
        and one(o, "Deployment", "istio-ingressgateway")["spec"]["template"]["metadata"]["labels"]["istio.io/rev"] == "1-2-3",
        "canary": lambda o: not names(o, "CustomResourceDefinition")
        and names(o, "ValidatingWebhookConfiguration") == {"istio-validator-canary-istio-system"},
        "gateways only": lambda o: names(o, "Deployment") == {"istio-ingressgateway"},
        "node agent": lambda o: names(o, "DaemonSet") == {"istio-cni-node"}
        and injector(o, "values")["istio_cni"]["enabled"] is True
        and injector(o, "values")["pilot"]["cni"]["enabled"] is True,
        "node port": lambda o: one(o, "Service", "istio-ingressgateway")["spec"]["type"] == "NodePort"
        and one(o, "Deployment", "istio-ingressgateway")["spec"]["replicas"] == 1,
        "node port, by today's names": lambda o: one(o, "Service", "istio-ingressgateway")["spec"]["type"] == "NodePort"
        and "istio-ingressgateway" in names(o, "DaemonSet"),
        "no scaling": lambda o: one(o, "Deployment", "istiod")["spec"]["replicas"] == 3
        and "istiod" not in names(o, "PodDisruptionBudget", "HorizontalPodAutoscaler"),
        "settings": lambda o: mesh(o)["rootNamespace"] == "root"
        and mesh(o)["defaultConfig"]
        == {"discoveryAddress": "istiod.istio-system.svc:15012", "concurrency": 4, "meshId": "m1"},
        "registry": lambda o: discovery(o)["image"] == "registry.example.com/mesh/control:v9"
        and injector(o, "values")["global"]["tag"] == "v9"
        and one(o, "ServiceAccount", "istio-cni")["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}],
        "whole images": lambda o: discovery(o)["image"] == "example.com/a/b:1",
        "logs": lambda o: env(o)["MESH_LOG"] == "warn,mesh_control::serve=debug" and "--log-json" in discovery(o)["args"],
        "environment": lambda o: env(o)["NUMBER"] == "100000000" and env(o)["FLAG"] == "true",
        "two families": lambda o: {"--listen=::", "--grpc-addr=[::]:15010"} <= set(discovery(o)["args"]),
        "injection": lambda o: injector(o, "config")["templates"]["mine"].startswith("metadata:")
        and injector(o, "config")["defaultTemplates"] == ["sidecar", "mine"],
        "webhooks of others": lambda o: not names(o, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
        "no injection": lambda o: "istio-sidecar-injector" not in names(o, "ConfigMap", "MutatingWebhookConfiguration"),
        "some CRDs": lambda o: "envoyfilters.networking.istio.io" not in names(o, "CustomResourceDefinition"),
        "more gateways": lambda o: names(o, "Deployment")
        == {"istiod", "istio-ingressgateway", "istio-egressgateway", "public"}
        and one(o, "Service", "public")["spec"]["selector"] == {"app": "public", "istio": "public"},
        "network": lambda o: "n1" in yaml.safe_load(one(o, "ConfigMap", "istio")["data"]["meshNetworks"])["networks"],
    }


def render(values: helm.Values, version: str, chart: Path = MESH, namespace: str = NAMESPACE) -> list[checks.Object]:
    with helm_python.Chart.load(chart) as loaded:
        return checks.parse(helm.render(loaded, values, name="istio", namespace=namespace, kube_version=version))


def number(version: str) -> tuple[int, int]:
    major, minor = version.lstrip("v").split(".")[:2]
    return int(major), int(minor)


def matrix() -> Iterator[tuple[str, list[str]]]:
    """Each case with what is wrong with it."""
    expected = expectations()
    for name, (files, sets) in CASES.items():
        values = values_of(files, sets)
        for version in VERSIONS:
            wrong = []
            try:
                objects = render(values, version)
                wrong = checks.check(objects, NAMESPACE, number(version))
                if name in expected and not expected[name](objects):
                    wrong.append("does not show what it must")
            except (helm_python.HelmError, yaml.YAMLError, LookupError, StopIteration) as error:
                wrong.append(f"{type(error).__name__}: {error}")
            yield f"{name}, {version}", wrong
    # Each chart by itself, and all in another namespace.
    for part in PARTS:
        for version in VERSIONS:
            yield f"chart {part}, {version}", checks.check(
                render({}, version, CHARTS / part), NAMESPACE, number(version)
            )
    for version in VERSIONS:
        objects = render(values_of(["demo"], ["cni.enabled=true,addons.enabled=true"]), version, namespace="mesh")
        wrong = checks.check(objects, "mesh", number(version))
        if "istio-sidecar-injector-mesh" not in names(objects, "MutatingWebhookConfiguration"):
            wrong.append("does not show what it must")
        yield f"another namespace, {version}", wrong


def refusals() -> Iterator[tuple[str, list[str]]]:
    for expression, word in REFUSED.items():
        try:
            render(values_of([], [expression]), "v1.33.0")
            yield f"refuse {expression}", ["was taken"]
        except helm_python.HelmError as error:
            yield f"refuse {expression}", [] if word in str(error) else [f"the message does not say {word!r}: {error}"]
    try:
        render(values_of([], ["sidecarInjectorWebhook.enableNamespacesByDefault=true"]), "v1.20.2")
        yield "refuse injection everywhere on 1.20", ["was taken"]
    except helm_python.HelmError as error:
        yield "refuse injection everywhere on 1.20", [] if "1.21" in str(error) else [str(error)]


def injection() -> Iterator[tuple[str, list[str]]]:
    """Who is asked about which pod: nobody or one, as Istio decides it from the labels of namespace and pod."""
    default, canary = (
        checks.of_kind(render(values_of(["minimal"], [more]), "v1.33.0"), "MutatingWebhookConfiguration")
        for more in ("base.enabled=true", "revision=canary,revisionTags={prod},base.enabled=false")
    )
    table = [
        # namespace's labels, pod's labels, asked
        ({}, {}, []),
        ({}, {"sidecar.istio.io/inject": "true"}, ["istiod"]),
        ({}, {"sidecar.istio.io/inject": "false"}, []),
        ({}, {"istio.io/rev": "canary"}, ["istiod-canary"]),
        ({}, {"istio.io/rev": "prod"}, ["istiod-canary"]),
        ({}, {"istio.io/rev": "default"}, ["istiod"]),
        ({}, {"istio.io/rev": "canary", "sidecar.istio.io/inject": "true"}, ["istiod-canary"]),
        ({}, {"istio.io/rev": "canary", "sidecar.istio.io/inject": "false"}, []),
        ({"istio-injection": "enabled"}, {}, ["istiod"]),
        ({"istio-injection": "enabled"}, {"sidecar.istio.io/inject": "false"}, []),
        ({"istio-injection": "enabled"}, {"sidecar.istio.io/inject": "true"}, ["istiod"]),
        ({"istio-injection": "enabled"}, {"istio.io/rev": "canary"}, ["istiod"]),
        ({"istio-injection": "disabled"}, {}, []),
        ({"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, []),
        ({"istio.io/rev": "canary"}, {}, ["istiod-canary"]),
        ({"istio.io/rev": "prod"}, {}, ["istiod-canary"]),
        ({"istio.io/rev": "default"}, {}, ["istiod"]),
        ({"istio.io/rev": "other"}, {}, []),
        ({"istio.io/rev": "canary"}, {"sidecar.istio.io/inject": "false"}, []),
        ({"istio.io/rev": "canary", "istio-injection": "enabled"}, {}, ["istiod"]),
        ({"istio.io/rev": "canary", "istio-injection": "disabled"}, {}, []),
    ]
    for namespace, pod, asked in table:
        found = checks.injectors(default + canary, namespace, pod)
        yield f"injection of {pod} into {namespace}", [] if found == asked else [f"asks {found}, not {asked}"]
    # Whatever the labels of the namespace: nobody waits for a webhook that waits for him; gateways are always injected.
    objects = render(values_of([], ["cni.enabled=true,addons.enabled=true"]), "v1.33.0")
    for workload, pod in checks.pods(objects):
        gateway = workload["metadata"]["name"] == "istio-ingressgateway"
        for namespace in ({}, {"istio-injection": "enabled"}, {"istio.io/rev": "default"}):
            found = checks.injectors(objects, namespace, pod["metadata"]["labels"])
            wrong = [] if found == ["istiod"] * gateway else [f"asks {found}"]
            yield f"injection of {checks.label(workload)} into {namespace}", wrong
    everywhere = checks.of_kind(
        render(values_of(["minimal"], ["sidecarInjectorWebhook.enableNamespacesByDefault=true"]), "v1.33.0"),
        "MutatingWebhookConfiguration",
    )
    for namespace, pod, asked in [
        ({"kubernetes.io/metadata.name": "shop"}, {}, ["istiod"]),
        ({"kubernetes.io/metadata.name": "kube-system"}, {}, []),
        ({"kubernetes.io/metadata.name": "shop", "istio-injection": "disabled"}, {}, []),
        ({"kubernetes.io/metadata.name": "shop"}, {"sidecar.istio.io/inject": "true"}, ["istiod"]),
    ]:
        found = checks.injectors(everywhere, namespace, pod)
        yield f"injection everywhere of {pod} into {namespace}", [] if found == asked else [f"asks {found}"]


def sources() -> Iterator[tuple[str, list[str]]]:
    """Lint, one version everywhere, and a schema that fits."""
    for chart in (MESH, *(CHARTS / part for part in PARTS)):
        for version in (None, VERSIONS[0], VERSIONS[-1]):
            report = helm_python.lint(chart, {}, strict=True, with_subcharts=True, namespace=NAMESPACE, kube_version=version)
            found = [m for m in report.get("messages") or [] if m["severity"] > 1]
            yield f"lint {chart.name}, {version}", [f"{m['path']}: {m['error']}" for m in found]
    wanted = tomllib.loads((CHARTS.parent / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
    for path in (MESH, *(MESH / "charts" / part for part in PARTS)):
        meta = yaml.safe_load((path / "Chart.yaml").read_text(encoding="utf-8"))
        versions = {meta["version"], meta["appVersion"], *(d["version"] for d in meta.get("dependencies", []))}
        yield f"version of {path.name}", [] if versions == {wanted} else [f"{sorted(versions)}; Cargo.toml says {wanted}"]
    text = (MESH / "values.schema.json").read_text(encoding="utf-8")
    same = json.loads(text) == schema.schema()
    yield "schema of mesh", [] if same else ["is not what the other schemas say; run charts/tools/schema.py"]


def server(kubeconfig: str | None) -> Iterator[tuple[str, list[str]]]:
    """What the API server says to the manifests of each case, as rendered for its version. It is asked once about those that
    several cases have."""

    def kubectl(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = ["kubectl", *([f"--kubeconfig={kubeconfig}"] if kubeconfig else []), *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603

    found = kubectl("get", "--raw", "/version")
    if found.returncode:
        yield "ask the server", [found.stderr.strip()]
        return
    version = json.loads(found.stdout)["gitVersion"]
    seen: set[str] = set()
    for name, (files, sets) in CASES.items():
        # A namespace that is there: a dry run makes none.
        objects = render(values_of(files, sets), version, namespace="default")
        texts = {json.dumps(one): one for one in objects if one["apiVersion"] != "monitoring.coreos.com/v1"}
        new = [one for text, one in texts.items() if text not in seen]
        seen.update(texts)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": new})
        command = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
        asked = kubectl(*command, text=text) if new else None
        wrong = asked.stderr.strip().splitlines() if asked and asked.returncode else []
        # Most clusters have one family of addresses; that they refuse two is theirs.
        yield f"{name}, server {version}", [line for line in wrong if "is not configured on cluster" not in line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", help="ask this cluster's API server too; kubectl must be on PATH")
    parser.add_argument("--server-only", action="store_true", help="only ask the API server, kubectl's own without --kubeconfig")
    args = parser.parse_args()
    parts = [] if args.server_only else [sources(), matrix(), refusals(), injection()]
    if args.server_only or args.kubeconfig:
        parts.append(server(args.kubeconfig))
    passed = failed = 0
    for part in parts:
        for name, wrong in part:
            passed, failed = passed + (not wrong), failed + bool(wrong)
            for line in wrong:
                print(f"{name}: {line}", file=sys.stderr)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
