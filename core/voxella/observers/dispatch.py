"""Calling observers: rank 0 only, each on its own, none able to stop or change a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from voxella.observers.specs import ObserverSpec
from voxella.plugins.registry import build, checked_manager
from voxella.terminal import complain

if TYPE_CHECKING:
    import pluggy

    from voxella.plugins.component import Component
    from voxella.recipe.model import Recipe

__all__ = ["ObserverSet"]


class ObserverSet:
    """The observers of a run, with one method per hook of ``ObserverSpec``.

    Each observer has a plugin manager of its own, so that one that raises is reported once on
    stderr and dropped while the others and the run go on.

    Args:
        components: The recipe's observers, called in this order.
        rank: The process's rank; on every rank but 0 the set is empty.

    Raises:
        UserError: An observer cannot be built, or implements a hook that does not exist.
    """

    def __init__(self, components: Sequence[Component], *, rank: int = 0) -> None:
        self._managers: dict[str, pluggy.PluginManager] = {}
        self._started = False
        for position, component in enumerate(components if rank == 0 else ()):
            who = f"observers[{position}]: {component.name}"
            observer = build("observers", component)
            self._managers[who] = checked_manager(ObserverSpec, observer, who=who)

    def run_start(
        self, run_dir: Path, recipe: Recipe, stage: str, total_steps: int, first_step: int = 0
    ) -> None:
        """Tell the start of a stage; ``first_step`` is the number of steps already done."""
        self._started = True
        self._call(
            "voxella_run_start",
            run_dir=run_dir,
            recipe=recipe,
            stage=stage,
            total_steps=total_steps,
            first_step=first_step,
        )

    def step_end(self, step: int, scalars: Mapping[str, float]) -> None:
        """Tell the end of optimizer step ``step`` (1-based)."""
        # A read-only copy: no observer can change what the next one, or the engine, sees.
        self._call("voxella_step_end", step=step, scalars=MappingProxyType(dict(scalars)))

    def images(self, step: int, name: str, image: Any) -> None:  # noqa: ANN401 - uint8 array
        """Show a picture, uint8: grey ``(H, W)`` or in colours ``(H, W, 3)``."""
        shown = np.array(image)
        shown.flags.writeable = False
        self._call("voxella_images", step=step, name=name, image=shown)

    def metric(self, step: int, name: str, value: float) -> None:
        """Tell a number that is measured now and then."""
        self._call("voxella_metric", step=step, name=name, value=value)

    def run_end(self, status: str) -> None:
        """Tell the end: ``finished``, ``failed`` or ``interrupted``; of what has begun only."""
        if self._started:
            self._call("voxella_run_end", status=status)

    def _call(self, hook: str, **arguments: Any) -> None:  # noqa: ANN401 - the hook's arguments
        for who, manager in list(self._managers.items()):
            try:
                getattr(manager.hook, hook)(**arguments)
            except Exception as error:  # whatever it is, a watcher does not end hours of training
                del self._managers[who]
                complain(
                    f"{who}: {hook} raised {type(error).__name__}: {error}; "
                    "this observer is dropped, the run goes on"
                )
