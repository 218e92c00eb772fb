"""Which plugins there are, read from package metadata alone: nothing is imported here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points

from voxella.errors import UserError
from voxella.plugins.specs import KINDS, PROJECT
from voxella.wording import quoted

__all__ = ["ENVIRONMENT", "PluginInfo", "find", "list_plugins", "nearest"]

ENVIRONMENT = "VOXELLA_PLUGINS"
_FORM = f"{ENVIRONMENT}='kind:name=module:attr,...' (:attr may be left out)"


@dataclass(frozen=True, order=True)
class PluginInfo:
    """One plugin as its distribution declares it.

    Attributes:
        kind: One of :data:`voxella.plugins.specs.KINDS`.
        name: What a recipe writes.
        distribution: The installed distribution that owns it, or ``VOXELLA_PLUGINS``.
        version: That distribution's version; empty for ``VOXELLA_PLUGINS``.
        target: What is imported when the plugin is used: ``module`` or ``module:attr``.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str

    @property
    def owner(self) -> str:
        """Return the distribution with its version."""
        return f"{self.distribution} {self.version}".strip()

    def load(self) -> object:
        """Import the target and return it, letting every exception of the plugin through."""
        return EntryPoint(self.name, self.target, f"{PROJECT}.{self.kind}").load()


def list_plugins() -> list[PluginInfo]:
    """Return every declared plugin, sorted, without importing any.

    Raises:
        UserError: ``VOXELLA_PLUGINS`` is not of the form ``kind:name=module:attr,...``.
    """
    return list(_declared(tuple(sys.path), os.environ.get(ENVIRONMENT, "")))


def find(kind: str, name: str) -> PluginInfo:
    """Return the one owner of a plugin's name.

    Raises:
        UserError: The kind or the name is unknown, or two owners claim the name.
    """
    if kind not in KINDS:
        raise UserError(
            f"no plugin kind {quoted(kind)}{nearest(kind, KINDS)}",
            expected=", ".join(KINDS),
            remedy="voxella plugins",
        )
    of_kind = [plugin for plugin in list_plugins() if plugin.kind == kind]
    owners = [plugin for plugin in of_kind if plugin.name == name]
    if not owners:
        names = sorted({plugin.name for plugin in of_kind})
        raise UserError(
            f"no plugin {quoted(name)} among the {kind}{nearest(name, names)}",
            expected=", ".join(names) or f"none is installed (group {PROJECT}.{kind})",
            remedy="voxella plugins",
        )
    if len(owners) > 1:
        claims = " and ".join(f"{plugin.owner} ({plugin.target})" for plugin in owners)
        raise UserError(
            f"{kind}: {quoted(name)} has {len(owners)} owners: {claims}",
            remedy=f"uninstall one of them, or take it out of {ENVIRONMENT}",
        )
    return owners[0]


def nearest(word: str, expected: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest allowed word, or nothing."""
    close = get_close_matches(word, list(expected), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@lru_cache(maxsize=8)
def _declared(path: tuple[str, ...], environment: str) -> tuple[PluginInfo, ...]:
    """Scan once per import path and environment: a recipe asks for several plugins."""
    del path  # importlib.metadata reads sys.path itself; this is only the cache's key
    return tuple(sorted([*_installed(), *_from_environment(environment)]))


def _installed() -> list[PluginInfo]:
    found = entry_points()
    # By identity, which lives as long as ``found``. Each is asked once: it parses a long text.
    owners: dict[int, tuple[str, str]] = {}
    plugins = []
    for kind in KINDS:
        for point in found.select(group=f"{PROJECT}.{kind}"):
            owner = owners.get(id(point.dist))
            if owner is None:
                owner = owners[id(point.dist)] = _owner(point.dist)
            plugins.append(PluginInfo(kind, point.name, *owner, point.value))
    return plugins


def _owner(distribution: Distribution | None) -> tuple[str, str]:
    if distribution is None:
        return "unknown distribution", ""
    metadata = distribution.metadata
    return metadata["Name"], metadata["Version"]


def _from_environment(text: str) -> list[PluginInfo]:
    """Read the environment variable, collecting every malformed entry before refusing."""
    plugins: list[PluginInfo] = []
    problems: list[str] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        address, _, target = (part.strip() for part in entry.partition("="))
        kind, _, name = (part.strip() for part in address.partition(":"))
        module, colon, attribute = target.partition(":")
        if kind not in KINDS:
            problems.append(
                f"{ENVIRONMENT}: {quoted(entry)}: no kind {quoted(kind)}{nearest(kind, KINDS)}"
            )
        elif not name or not _is_dotted(module) or (colon and not _is_dotted(attribute)):
            problems.append(f"{ENVIRONMENT}: {quoted(entry)} is not kind:name=module:attr")
        else:
            plugins.append(PluginInfo(kind, name, ENVIRONMENT, "", target))
    if problems:
        kinds = ", ".join(KINDS)
        raise UserError("\n".join(problems), expected=f"{_FORM}; kinds: {kinds}")
    return plugins


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
