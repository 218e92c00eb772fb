"""Metric ``copies``: synthetic cases that are nearer to a training case than chance brings them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import GROUPS, Number
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.evaluation.evidence import SampleEvidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["Memorised", "voxella_factory"]

# Beginning of the key -> in the label, and in a heading.
_SHARES = {
    "copies_share": ("Suspected copies", "copies"),
    "copies_beyond_chance": ("Copies beyond chance", "copies beyond chance"),
}


class Memorised:
    """Shares of suspected and of certain copies, in two spaces; the gate goes by them."""

    numbers = tuple(
        Number(
            f"{start}_{space}",
            f"{label}, {space}",
            f"{heading} ({space})",
            "lower",
            GROUPS[7],
            bounded=True,
        )
        for space in ("latent", "image")
        for start, (label, heading) in _SHARES.items()
    )
    needs = frozenset({"latents", "images"})

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return the shares; the nearest pairs are written beside ``metrics.json``."""
        from voxella.evaluation.memorisation import measure_memorisation, show_pairs, write_pairs

        sets, out = evidence.sets, evidence.out
        found = measure_memorisation(evidence.level, sets, evidence.plan.spaces(), evidence.device)
        write_pairs(out, found, sets)
        for name, pairs in found.pairs.items():
            show_pairs(out, pairs, sets, name, evidence.recipe.shown_channels)
        return found.metrics


def copies() -> Memorised:
    """Build the metric."""
    return Memorised()


@hookimpl
def voxella_factory(name: str) -> Callable[..., Memorised] | None:
    """Return the builder of ``copies``."""
    return copies if name == "copies" else None
