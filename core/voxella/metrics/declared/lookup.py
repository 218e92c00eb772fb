"""The metrics that are installed or chosen, and the declaration of a number by its key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.metrics.declared.contract import NEEDS, Metric
from voxella.metrics.declared.number import GROUPS, Number
from voxella.plugins.component import Component
from voxella.plugins.discovery import PluginInfo, find, list_plugins
from voxella.plugins.registry import build
from voxella.plugins.specs import PROJECT
from voxella.wording import quoted

__all__ = [
    "Chosen",
    "chosen_metrics",
    "declared_numbers",
    "group_place",
    "identity_of",
    "number_of",
]

_KIND = "metrics"


@dataclass(frozen=True, eq=False)
class Chosen:
    """A metric that is to be measured.

    Attributes:
        component: Its name and the arguments it was built with.
        metric: As built.
        plugin: Where it comes from.
    """

    component: Component
    metric: Metric[Any]
    plugin: PluginInfo

    @property
    def name(self) -> str:
        """Return the plugin's name."""
        return self.component.name


def chosen_metrics(
    components: Sequence[Component] | None, *, of_predictions: bool = False
) -> list[Chosen]:
    """Return the metrics of a recipe, in the order of the page.

    Args:
        components: As the recipe has them; None: all that are installed.
        of_predictions: Those of a trained classifier; else those of a synthetic data set.

    Raises:
        UserError: One cannot be built, declares what there is not, or a number that another has.
    """
    if components is None:
        names = dict.fromkeys(info.name for info in list_plugins() if info.kind == _KIND)
        components = [Component(name=name) for name in names]
    found = [Chosen(c, build(_KIND, c), find(_KIND, c.name)) for c in components]
    problems = [*_undeclarable(found), *_twice(found)]
    if problems:
        raise UserError("\n".join(problems), remedy="voxella plugins check NAME")
    kept = [one for one in found if ("predictions" in one.metric.needs) == of_predictions]
    return sorted(kept, key=_place)


def identity_of(
    components: Sequence[Component] | None, metrics: Sequence[Chosen]
) -> dict[str, Any]:
    """Return what tells these metrics from all built-in ones, for a stage's record; else nothing.

    Args:
        components: As the recipe has them; None: all that are installed.
        metrics: As chosen of these.
    """
    strange = [one for one in metrics if one.plugin.distribution != PROJECT]
    if components is None and not strange:
        return {}
    return {
        "metrics": [[one.name, one.component.arguments] for one in metrics],
        "strange_metrics": [[one.name, one.plugin.owner, one.plugin.target] for one in strange],
    }


def _place(one: Chosen) -> tuple[int, str]:
    return min((group_place(number.group) for number in one.metric.numbers), default=0), one.name


def group_place(group: str) -> int:
    """Return where a group stands on the page; new ones come last."""
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _undeclarable(found: Sequence[Chosen]) -> Iterator[str]:
    for one in found:
        unknown = sorted(set(one.metric.needs) - set(NEEDS))
        if unknown:
            named, expected = ", ".join(map(quoted, unknown)), ", ".join(NEEDS)
            yield f"metrics: {one.name}: needs {named}; expected: {expected}"
        if not one.metric.numbers:
            yield f"metrics: {one.name}: it declares no number"


def _twice(found: Sequence[Chosen]) -> Iterator[str]:
    owners: dict[str, list[str]] = {}
    for one in found:
        for number in one.metric.numbers:
            owners.setdefault(number.key, []).append(one.name)
    for key, names in owners.items():
        if len(names) > 1:
            yield f"metrics: {' and '.join(names)} declare the number {quoted(key)}"


def declared_numbers() -> dict[str, Number]:
    """Return by key what the installed metrics declare, in the order of the page.

    A metric that cannot be built says nothing here; where it is to be measured it is refused.
    """
    return dict(_declared(tuple(info for info in list_plugins() if info.kind == _KIND)))


def number_of(key: str) -> Number:
    """Return the declaration of a number; one that nobody declares is shown by its key."""
    return declared_numbers().get(key) or Number.undeclared(key)


@lru_cache(maxsize=8)
def _declared(plugins: tuple[PluginInfo, ...]) -> dict[str, Number]:
    found: list[Number] = []
    for name in dict.fromkeys(plugin.name for plugin in plugins):
        try:
            found += build(_KIND, Component(name=name)).numbers
        except Exception as error:  # a plugin may raise anything, and the others are still shown
            raise_if_machine(error)
    found.sort(key=lambda number: group_place(number.group))
    by_key: dict[str, Number] = {}
    for number in found:
        by_key.setdefault(number.key, number)
    return by_key
