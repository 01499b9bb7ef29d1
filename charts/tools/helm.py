#!/usr/bin/env python3
"""The part of the `helm` command that the tests need, on the Helm library of PyPI's helm-python-sdk.

For machines where there is no helm binary: the subcommands and flags are those of `helm` itself.

    python3 -m venv VENV && VENV/bin/pip install helm-python-sdk==0.2.2
    VENV/bin/python charts/tools/helm.py install istio charts/mesh -n istio-system --create-namespace --wait
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import helm_python
from helm_python import _native

Values = dict[str, Any]


def merge(into: Values, over: Values) -> Values:
    """`over` wins; maps are merged, lists are replaced."""
    for key, value in over.items():
        old = into.get(key)
        into[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return into


def read_values(files: list[str], sets: list[tuple[str, str]]) -> Values:
    """Values of the files and, over them, of the --set flags, each in their order."""
    values: Values = {}
    for file in files:
        merge(values, helm_python.values_from_yaml(Path(file).read_text(encoding="utf-8")) or {})
    parsers = {
        "set": helm_python.parse_set_string,
        "set_string": helm_python.parse_set_string_values,
        "set_json": helm_python.parse_set_json,
        "set_file": helm_python.parse_set_file,
    }
    for kind, expression in sets:
        merge(values, parsers[kind](expression))
    return values


def render(
    chart: helm_python.Chart,
    values: Values,
    *,
    name: str,
    namespace: str,
    kube_version: str | None = None,
    upgrade: bool = False,
) -> dict[str, str]:
    """Manifests by template, for a server of that version. The library's own `render` has no version of the server."""
    options: Values = {"name": name, "namespace": namespace, "is_upgrade": upgrade, "is_install": not upgrade}
    if kube_version:
        options["kube_version"] = kube_version
    text = _native.call_string("helm_render", chart._raw(), json.dumps(values), json.dumps(options))
    return json.loads(text)


def seconds(text: str) -> int:
    """A time as Helm writes it: 90s, 5m, 1h, 5m30s."""
    total, number = 0, ""
    for letter in text:
        if letter.isdigit():
            number += letter
        elif letter in "hms" and number:
            total += int(number) * {"h": 3600, "m": 60, "s": 1}[letter]
            number = ""
        else:
            raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 5m or 1h")
    if number or not total:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 5m or 1h")
    return total


class Collect(argparse.Action):
    """Keeps the order among the different --set flags."""

    def __call__(self, parser, namespace, value, option=None):  # noqa: ANN001, D102
        namespace.sets = [*namespace.sets, (self.dest, value)]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="helm.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    cluster = argparse.ArgumentParser(add_help=False)
    cluster.add_argument("--kubeconfig")
    cluster.add_argument("--kube-context")
    cluster.add_argument("-n", "--namespace", default="default")

    given = argparse.ArgumentParser(add_help=False)
    given.add_argument("-f", "--values", action="append", default=[])
    given.set_defaults(sets=[])
    for flag in ("--set", "--set-string", "--set-json", "--set-file"):
        given.add_argument(flag, action=Collect)

    waiting = argparse.ArgumentParser(add_help=False)
    # Polling works with servers of every age; `watcher` is Helm 4's own.
    waiting.add_argument("--wait", nargs="?", const="legacy", choices=["legacy", "watcher", "hookOnly"])
    waiting.add_argument("--timeout", type=seconds, default=300)

    for name in ("install", "upgrade"):
        command = commands.add_parser(name, parents=[cluster, given, waiting])
        command.add_argument("release")
        command.add_argument("chart")
        command.add_argument("--create-namespace", action="store_true")
        command.add_argument("--dry-run", nargs="?", const="client", choices=["client", "server", "none"])
        if name == "upgrade":
            command.add_argument("-i", "--install", action="store_true")
            command.add_argument("--reuse-values", action="store_true")
            command.add_argument("--reset-values", action="store_true")
            command.add_argument("--reset-then-reuse-values", action="store_true")
    command = commands.add_parser("uninstall", parents=[cluster, waiting])
    command.add_argument("release")
    command.add_argument("--ignore-not-found", action="store_true")
    command = commands.add_parser("status", parents=[cluster])
    command.add_argument("release")
    command = commands.add_parser("get")
    command = command.add_subparsers(dest="what", required=True).add_parser("values", parents=[cluster])
    command.add_argument("release")
    command.add_argument("-a", "--all", action="store_true")
    command.add_argument("-o", "--output", choices=["json"], default="json")
    command = commands.add_parser("list", parents=[cluster])
    command.add_argument("-A", "--all-namespaces", action="store_true")
    command = commands.add_parser("template", parents=[cluster, given])
    command.add_argument("release")
    command.add_argument("chart")
    command.add_argument("--kube-version")
    command = commands.add_parser("lint", parents=[cluster, given])
    command.add_argument("chart", nargs="+")
    command.add_argument("--strict", action="store_true")
    command.add_argument("--kube-version")
    commands.add_parser("version")
    return parser


def config(args: argparse.Namespace) -> helm_python.Config:
    return helm_python.Config(
        kubeconfig_path=args.kubeconfig, kube_context=args.kube_context, namespace=args.namespace
    )


def write(args: argparse.Namespace) -> None:
    """`install` and `upgrade`."""
    values = read_values(args.values, args.sets)
    with config(args) as cluster, helm_python.Chart.load(args.chart) as chart:
        options: Values = {"namespace": args.namespace, "timeout": args.timeout, "wait": args.wait, "dry_run": args.dry_run}
        new = args.command == "install"
        if not new and args.install:
            new = args.release not in {r["name"] for r in cluster.list(all_states=True)}
        if new:
            release = cluster.install(chart, args.release, values, create_namespace=args.create_namespace, **options)
        else:
            if args.reset_then_reuse_values:
                values = merge(cluster.get_values(args.release) or {}, values)
                args.reset_values = True
            options.update(reuse_values=args.reuse_values, reset_values=args.reset_values)
            release = cluster.upgrade(chart, args.release, values, **options)
    show(release)
    if notes := release.get("notes"):
        print(f"NOTES:\n{notes}")


def show(release: Values) -> None:
    for key in ("name", "namespace", "status", "revision"):
        print(f"{key.upper()}: {release.get(key, '')}")


def lint(args: argparse.Namespace) -> int:
    failed = 0
    for path in args.chart:
        report = helm_python.lint(
            path,
            read_values(args.values, args.sets),
            strict=args.strict,
            namespace=args.namespace,
            with_subcharts=True,
            kube_version=args.kube_version,
        )
        print(f"==> {path}")
        for message in report.get("messages") or []:
            level = ["UNKNOWN", "INFO", "WARNING", "ERROR"][message["severity"]]
            print(f"[{level}] {message['path']}: {message['error']}")
            failed += message["severity"] >= (2 if args.strict else 3)
    return 1 if failed else 0


def run(args: argparse.Namespace) -> int:
    match args.command:
        case "install" | "upgrade":
            write(args)
        case "uninstall":
            with config(args) as cluster:
                cluster.uninstall(
                    args.release, timeout=args.timeout, wait=args.wait, ignore_not_found=args.ignore_not_found
                )
            print(f'release "{args.release}" uninstalled')
        case "status":
            with config(args) as cluster:
                show(cluster.status(args.release))
        case "get":
            with config(args) as cluster:
                print(json.dumps(cluster.get_values(args.release, all_values=args.all) or {}, indent=2))
        case "list":
            with config(args) as cluster:
                for release in cluster.list(all_states=True, all_namespaces=args.all_namespaces):
                    print("\t".join(str(release.get(k, "")) for k in ("name", "namespace", "revision", "status", "chart")))
        case "template":
            values = read_values(args.values, args.sets)
            with helm_python.Chart.load(args.chart) as chart:
                manifests = render(
                    chart, values, name=args.release, namespace=args.namespace, kube_version=args.kube_version
                )
            for path, text in sorted(manifests.items()):
                if text.strip() and not path.endswith("NOTES.txt"):
                    print(f"---\n# Source: {path}\n{text}")
        case "lint":
            return lint(args)
        case "version":
            print(f"helm {helm_python.helm_sdk_version()} (helm-python-sdk {helm_python.__version__})")
    return 0


def main() -> int:
    try:
        return run(arguments().parse_args())
    except helm_python.HelmError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
