"""What a study of first stages compares: reconstructions of real cases, with intervals."""

from __future__ import annotations

from typing import Any

from voxella.autoencoder.check import CHECKS
from voxella.case import Manifest
from voxella.metrics.bootstrap import mean_estimate
from voxella.study.step import Step
from voxella.workspace.folders import Folders

__all__ = ["reconstruction_entries"]

# As an evaluation calls them -> as a check does.
_NUMBERS = {"reconstruction_ssim": "ssim", "reconstruction_mse": "mse_255"}


def reconstruction_entries(step: Step) -> dict[str, dict[str, Any]]:
    """Return the numbers of an autoencoder's check as an evaluation's; none before it has run.

    Raises:
        DamagedError: The check cannot be read.
    """
    found = CHECKS.read(step.metrics)
    if found is None:
        return {}
    recipe = step.recipe
    folders = Folders.of(step.folder, recipe.workspace, recipe.data.dataset)
    groups = {case.id: case.group for case in Manifest.read(folders.prepared).cases}
    by_case = found["reconstruction"]["by_case"]
    entries = {}
    for key, name in _NUMBERS.items():
        values = {case: row[name] for case, row in by_case.items() if name in row}
        if not values:
            continue
        estimate = mean_estimate(
            list(values.values()),
            [groups[case] for case in values],
            seed=recipe.seed,
            name=key,
            replicates=recipe.evaluate.bootstrap,
            level=recipe.evaluate.level,
        )
        entries[key] = estimate.as_json()
    return entries
