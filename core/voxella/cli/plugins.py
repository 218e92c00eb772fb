"""``voxella plugins``: what is installed, and whether it keeps its contract."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from voxella.errors import UserError
from voxella.plugins.discovery import find
from voxella.plugins.registry import PluginInfo, list_plugins
from voxella.plugins.specs import KINDS
from voxella.wording import quoted

if TYPE_CHECKING:
    from rich.console import Console

    from voxella.testing import CheckResult

__all__ = ["plugin_arguments", "register"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``plugins`` and ``plugins check`` to the command line."""
    plugins = subparsers.add_parser("plugins", help="list the installed plugins, or check one")
    plugins.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    plugins.set_defaults(func=_list)
    verbs = plugins.add_subparsers(metavar="check")
    check = verbs.add_parser("check", help="hold a plugin to the contract of its kind")
    check.add_argument("name", help="the plugin's name")
    check.add_argument("--kind", choices=list(KINDS), help="where a name stands in several kinds")
    check.add_argument(
        "--set",
        dest="arguments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an argument of the plugin's builder (YAML), e.g. --set path=/models/t5",
    )
    check.set_defaults(func=_check)


def _list(arguments: argparse.Namespace) -> int:
    plugins = list_plugins()
    if arguments.json:
        print(json.dumps([asdict(plugin) for plugin in plugins], indent=2))
        return 0
    from rich.table import Table

    from voxella.terminal import make_console

    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "distribution", "version", "target"):
        table.add_column(column, overflow="fold")
    for plugin in plugins:
        table.add_row(*asdict(plugin).values())
    make_console(pipe_width=200).print(table)  # no target is broken
    return 0


def _check(arguments: argparse.Namespace) -> int:
    plugin = _chosen(arguments.name, arguments.kind)
    given = plugin_arguments(arguments.arguments)
    from voxella.terminal import make_console
    from voxella.testing import run_contract

    console = make_console()
    console.print(f"{plugin.kind}: {plugin.name} ({plugin.owner}, {plugin.target})", soft_wrap=True)
    results = []
    for result in run_contract(plugin.kind, plugin.name, given):
        _show(console, result)
        results.append(result)
    return _sum_up(console, results)


def _chosen(name: str, kind: str | None) -> PluginInfo:
    """Find the plugin, asking for ``--kind`` where the name stands in several kinds."""
    if kind is not None:
        return find(kind, name)
    kinds = sorted({plugin.kind for plugin in list_plugins() if plugin.name == name})
    if not kinds:
        names = sorted({plugin.name for plugin in list_plugins()})
        raise UserError(
            f"no plugin {quoted(name)} of any kind",
            expected=", ".join(names),
            remedy="voxella plugins",
        )
    if len(kinds) > 1:
        raise UserError(
            f"{quoted(name)} is the name of plugins of {len(kinds)} kinds",
            expected=", ".join(kinds),
            remedy=f"voxella plugins check {name} --kind {kinds[0]}",
        )
    return find(kinds[0], name)


def plugin_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Return a builder's arguments as ``--set KEY=VALUE`` gives them, in YAML.

    Raises:
        UserError: One is not ``KEY=VALUE``, or its value is not YAML.
    """
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--set {quoted(pair)} is not KEY=VALUE", remedy="--set width=32")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {quoted(pair)}: the value is not YAML") from None
    return found


def _show(console: Console, result: CheckResult) -> None:
    style = {"passed": "green", "failed": "bold red", "skipped": "yellow"}[result.outcome]
    console.print(f"{result.outcome:8}", style=style, end="")
    console.print(f"{result.check}  ({result.seconds:.1f} s)", soft_wrap=True)
    for line in result.message.splitlines():
        console.print(f"        {line}", soft_wrap=True)


def _sum_up(console: Console, results: Sequence[CheckResult]) -> int:
    failed = sum(result.outcome == "failed" for result in results)
    skipped = sum(result.outcome == "skipped" for result in results)
    passed = len(results) - failed - skipped
    console.print(f"{passed} passed, {failed} failed, {skipped} skipped", style="bold")
    return 1 if failed else 0
