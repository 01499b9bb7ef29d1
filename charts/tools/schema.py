#!/usr/bin/env python3
"""Makes charts/mesh/values.schema.json from the schemas of the charts that the umbrella chart stands for.

    python3 charts/tools/schema.py          writes it
    python3 charts/tools/schema.py --check  ends with 1 if it is not what the others say
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MESH = Path(__file__).resolve().parent.parent / "mesh"
# Names of Istio's older charts, and where the same stands in chart `gateway`.
OLDER = {
    "type": ("service", "type"),
    "ports": ("service", "ports"),
    "serviceAnnotations": ("service", "annotations"),
    "loadBalancerIP": ("service", "loadBalancerIP"),
    "loadBalancerSourceRanges": ("service", "loadBalancerSourceRanges"),
    "externalTrafficPolicy": ("service", "externalTrafficPolicy"),
    "autoscaleEnabled": ("autoscaling", "enabled"),
    "autoscaleMin": ("autoscaling", "minReplicas"),
    "autoscaleMax": ("autoscaling", "maxReplicas"),
}


def read(chart: str) -> dict[str, Any]:
    return json.loads((MESH / "charts" / chart / "values.schema.json").read_text(encoding="utf-8"))


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def schema() -> dict[str, Any]:
    control, gateway = read("control"), read("gateway")
    properties = dict(control["properties"])
    pilot = properties["pilot"]["properties"]
    properties["pilot"] = closed({"enabled": {"type": "boolean"}, **pilot})

    one = {k: v for k, v in gateway["properties"].items() if k != "global"}
    for name, (group, field) in OLDER.items():
        one[name] = one[group]["properties"][field]
    one["enabled"] = {"type": "boolean"}
    # A value of null takes a gateway out.
    properties["gateways"] = {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
        "additionalProperties": {**closed(one), "type": ["object", "null"]},
    }

    definitions = {**control["definitions"], **gateway["definitions"]}
    for chart in ("base", "cni", "addons"):
        found = read(chart)
        definitions.update(found.get("definitions", {}))
        properties[chart] = closed(found["properties"])
    # Helm itself puts the values of sub-charts here.
    properties["control"] = properties["gateway"] = {"type": "object"}
    return {
        "$schema": control["$schema"],
        "$comment": "Made by charts/tools/schema.py from the schemas of the other charts. Do not edit.",
        "title": "Mesh",
        **closed(properties),
        "definitions": definitions,
    }


def main() -> int:
    path = MESH / "values.schema.json"
    text = json.dumps(schema(), indent=2) + "\n"
    if "--check" not in sys.argv[1:]:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path} is not what the other schemas say; run charts/tools/schema.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
