"""Metric ``reconstruction``: what the autoencoder alone loses of real cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import Direction, Number
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.metrics.declared.contract import Evaluated, Evidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["Reconstruction", "reconstruction", "voxella_factory"]

_GROUP = "Autoencoder"


def _declared(key: str, label: str, heading: str, better: Direction) -> Number:
    return Number(
        key,
        label,
        heading,
        better,
        _GROUP,
        paper_key=key,
        table="The autoencoder on real cases",
    )


class Reconstruction:
    """SSIM and mean squared error of real cases after encoding and decoding.

    Args:
        cases: To measure at most, spread evenly over the ids; 0: all of them.
    """

    numbers = (
        _declared(
            "reconstruction_ssim",
            "SSIM of real cases after the autoencoder",
            "reconstruction, SSIM",
            "higher",
        ),
        _declared(
            "reconstruction_mse",
            "Mean squared error of real cases after the autoencoder, of values from 0 to 255",
            "reconstruction, MSE",
            "lower",
        ),
    )
    needs = frozenset({"images", "reconstructions"})

    def __init__(self, cases: int) -> None:
        self.cases = cases

    def measure(self, evidence: Evidence) -> dict[str, Measured]:
        """Return both, as means over the cases.

        Raises:
            NoNumberError: There is no autoencoder: these are another's volumes, and nothing is
                trained or encoded for them.
        """
        from voxella.errors import UserError
        from voxella.metrics.bootstrap import mean_estimate
        from voxella.metrics.declared.measured import Measured, NoNumberError, reason
        from voxella.metrics.reconstruction import mse_bytes, ssim

        chosen = spread(whole(evidence.real), self.cases)
        found: dict[str, list[float]] = {number.key: [] for number in self.numbers}
        for case in chosen:
            # First: an image that is damaged is no property of the autoencoder.
            image = evidence.image(case)[None]
            try:
                seen = evidence.reconstruction(case)[None]
            except UserError as refusal:
                raise NoNumberError(reason(refusal)) from refusal
            found["reconstruction_ssim"].append(float(ssim(seen, image)))
            found["reconstruction_mse"].append(float(mse_bytes(seen, image)))
        how = f"mean of {len(chosen)} of {len(evidence.real)} cases"
        measured = {}
        for key, values in found.items():
            estimate = mean_estimate(
                values,
                [case.group for case in chosen],
                seed=evidence.seed,
                name=key,
                replicates=evidence.replicates,
                level=evidence.level,
            )
            told = replace(estimate, how=f"{how}; {estimate.how}")
            measured[key] = Measured(told, evidence.split)
        return measured


def whole(cases: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the cases that lack no sequence: of what is absent nothing can be given back."""
    most = max((len(one.case.images) for one in cases), default=0)
    return [one for one in cases if len(one.case.images) == most]


def spread(cases: Sequence[Evaluated], count: int) -> list[Evaluated]:
    """Return at most ``count`` cases, evenly spread over the sorted ids; 0: all of them."""
    ordered = sorted(cases, key=lambda case: case.id)
    if not count or len(ordered) <= count:
        return ordered
    last = len(ordered) - 1
    return [ordered[round(k * last / max(count - 1, 1))] for k in range(count)]


def reconstruction(*, cases: int = 64) -> Reconstruction:
    """Build the metric.

    Args:
        cases: To measure at most; 0: all of them.

    Raises:
        UserError: It is below 0.
    """
    from voxella.errors import UserError

    if cases < 0:
        raise UserError(f"reconstruction: {cases} cases", expected="0 (all of them) and more")
    return Reconstruction(cases)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Reconstruction] | None:
    """Return the builder."""
    return reconstruction if name == "reconstruction" else None
