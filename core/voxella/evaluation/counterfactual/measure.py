"""``counterfactual_*``: one fact of the report changed, and what the volumes make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxella.autoencoder.load import AutoencoderPlan
from voxella.case import Manifest
from voxella.detection import CHANGES
from voxella.errors import UserError
from voxella.evaluation.counterfactual.effect import effect
from voxella.evaluation.counterfactual.volumes import (
    Asked,
    ChangeSettings,
    made_changes,
    real_changes,
)
from voxella.evaluation.evidence import SampleEvidence
from voxella.evaluation.sets import probe_for
from voxella.ldm.generate import GenerationSettings
from voxella.metrics.declared.measured import Measured, reason
from voxella.metrics.estimate import Estimate, joined
from voxella.plugins.contracts import Probe, counterfactuals_of

__all__ = ["asked_of", "counterfactual", "made_for"]

Rows = NDArray[np.float32]

# Of the real map; draw 0 is held against it, as what perfect volumes would reach.
_DRAWS = (1, 2, 3)
_FOLDER = "counterfactual"


def asked_of(evidence: SampleEvidence) -> list[Asked]:
    """Return the changes of the first real cases that the probe can draw; in order of their ids."""
    probe = probe_for(evidence.sets)
    most = evidence.settings.counterfactuals
    if probe is None or most == 0 or not evidence.own:
        return []
    try:
        dataset = Manifest.read(evidence.folders.dataset)
    except UserError:
        return []
    return _first(probe, dataset, evidence, most)


def _first(probe: Probe, dataset: Manifest, evidence: SampleEvidence, most: int) -> list[Asked]:
    imported = {case.id: case for case in dataset}
    found: list[Asked] = []
    cases = 0
    for subject in evidence.sets.real:
        if subject.id not in imported or cases == most:
            continue
        changes = counterfactuals_of(probe, dataset, imported[subject.id])
        cases += bool(changes)
        found += [Asked(subject, change) for change in changes if change.fact in CHANGES]
    return found


def made_for(evidence: SampleEvidence, asked: Sequence[Asked]) -> list[Rows] | UserError:
    """Return the model's changes, or why there are none; collective."""
    recipe = evidence.recipe
    settings = ChangeSettings(
        recipe.data.classes,
        recipe.conditions,
        recipe.text,
        AutoencoderPlan.of(recipe),
        recipe.sample,
        GenerationSettings.of(recipe),
        evidence.plan.channel,
    )
    try:
        return made_changes(
            settings,
            evidence.folders,
            asked,
            evidence.ranks,
            evidence.folders.evaluation / _FOLDER,
        )
    except UserError as problem:
        return problem


def counterfactual(
    evidence: SampleEvidence,
    asked: Sequence[Asked],
    made: Sequence[Rows] | UserError,
    real: Callable[[Sequence[Asked], int], list[Rows]] | None = None,
) -> dict[str, Measured]:
    """Return ``counterfactual_*`` of one data set; nothing where nothing can be changed.

    The ``floor`` of each is that of real volumes: another draw of each case's change against the
    same map.

    Args:
        evidence: The data set.
        asked: The changes.
        made: The model's volumes after less before, one row each; or why there are none.
        real: Draws the real changes; None: as the recipe prepares them.
    """
    recipe = evidence.recipe
    sequence = evidence.settings.sequence or recipe.data.sequences[0]
    found: dict[str, Measured] = {}
    for fact, (low, high) in CHANGES.items():
        places = [n for n, one in enumerate(asked) if one.change.fact == fact]
        if not places:
            continue
        chosen = [asked[n] for n in places]
        patients = [one.subject.group for one in chosen]
        if isinstance(made, UserError):
            nothing = Estimate.undefined(len(set(patients)), reason(made), level=evidence.level)
            found |= _both(evidence, fact, (nothing, nothing), (None, None))
            continue
        draw = real or (lambda few, number: real_changes(few, number, recipe.prepare, sequence))
        maps = np.stack([np.mean(draw(chosen, number), axis=0) for number in _DRAWS])

        def measured(
            rows: Sequence[Rows], name: str, by: Rows = maps, whose: Sequence[str] = patients
        ) -> tuple[Estimate, Estimate]:
            return effect(
                np.stack(rows),
                by,
                whose,
                seed=evidence.seed,
                name=f"counterfactual/{name}/{evidence.split}",
                replicates=evidence.replicates,
                level=evidence.level,
            )

        r, share = measured([made[n] for n in places], fact)
        told = f"from {low} to {high}, at the same noise"
        own = replace(r, note=joined(told, r.note)), replace(share, note=joined(told, share.note))
        found |= _both(evidence, fact, own, measured(draw(chosen, 0), f"{fact}/real"))
    return found


def _both(
    evidence: SampleEvidence,
    fact: str,
    own: tuple[Estimate, Estimate],
    real: tuple[Estimate | None, Estimate | None],
) -> dict[str, Measured]:
    return {
        f"counterfactual_{fact}_{what}": Measured(estimate, evidence.split, floor=floor)
        for what, estimate, floor in zip(("r", "share"), own, real, strict=True)
    }
