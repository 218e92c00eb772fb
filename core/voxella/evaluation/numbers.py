"""Every number of one data set, in the order in which it is shown: KID first, FID beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from voxella.evaluation.adherence import adherence
from voxella.evaluation.classifier_features import ClassifierFeatures
from voxella.evaluation.copies import copies, show_pairs, write_pairs
from voxella.evaluation.distances import distances
from voxella.evaluation.diversity import bands, coverage, diversity, histogram_distance
from voxella.evaluation.draws import Drawn
from voxella.evaluation.label_agreement import label_agreement
from voxella.evaluation.measured import Measured, remarked
from voxella.evaluation.networks import KINDS
from voxella.evaluation.plan import Plan
from voxella.evaluation.text_head import (
    HeadAnswer,
    answers_of_samples,
    answers_of_unseen,
    text_head,
    unanswered,
)
from voxella.metrics.estimate import Estimate
from voxella.progress import say
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

__all__ = ["Numbers", "all_numbers"]


@dataclass(frozen=True)
class Numbers:
    """What was measured of a data set.

    Attributes:
        metrics: By name.
        facts: Curves and bands, for ``metrics.json``.
    """

    metrics: dict[str, Measured] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Job:
    """One data set to be measured; its volumes have been looked at."""

    recipe: Recipe
    folders: Folders
    plan: Plan
    out: Path
    device: torch.device
    own: bool
    drawn: Mapping[str, Drawn]
    found: Numbers = field(default_factory=Numbers)

    def features(self) -> None:
        recipe, sets = self.recipe, self.plan.sets
        for number, (network, extractor) in enumerate(self.plan.networks):
            # One network at a time: the slices of a large data set fill a machine's memory.
            real, synthetic = self.plan.vectors(extractor)
            common = (recipe, sets, network, real, synthetic, self.device)
            found = distances(*common, self.drawn) | (coverage(*common) if number == 0 else {})
            if isinstance(network, ClassifierFeatures):
                found = remarked(found, network.remark(sets.real))
            self.found.metrics.update(found)
        nothing = Estimate.undefined(
            sets.n, "the images are single slices", level=recipe.evaluate.level
        )
        for name in (f"{kind}_{of}" for of in KINDS for kind in ("kid", "fid")):
            self.found.metrics.setdefault(name, Measured(nothing, sets.split))

    def images(self) -> None:
        recipe, sets = self.recipe, self.plan.sets
        channel = self.plan.channel
        self.found.metrics["ms_ssim"] = diversity(recipe, sets, channel, self.device)
        real, synthetic = self.plan.vectors(self.plan.histogram)
        self.found.metrics["histogram_distance"] = histogram_distance(recipe, sets, real, synthetic)
        self.found.facts["tissue_bands"] = bands(real, synthetic)

    def text(self) -> None:
        sets = self.plan.sets
        curves: dict[str, Any] = {}
        self.found.facts["calibration"] = curves
        self._head(answers_of_samples(self.recipe, sets), sets.split, "", curves)
        if self.own and sets.unseen_split is not None:
            unseen = answers_of_unseen(self.recipe, self.folders, sets, self.device)
            self._head(unseen, sets.unseen_split, "_heldout", curves)

    def _head(
        self, answers: list[HeadAnswer] | str, split: str, suffix: str, curves: dict[str, Any]
    ) -> None:
        if isinstance(answers, str):
            for end in (suffix, f"{suffix}_with_report"):
                self.found.metrics.update(unanswered(self.recipe, answers, split, end))
            return
        metrics, calibration = text_head(self.recipe, answers, split, suffix)
        self.found.metrics.update(metrics)
        curves.update(calibration)

    def copied(self) -> None:
        found = copies(self.recipe, self.plan.sets, self.plan.spaces(), self.device)
        self.found.metrics.update(found.metrics)
        write_pairs(self.out, found, self.plan.sets)
        for name, pairs in found.pairs.items():
            show_pairs(self.out, pairs, self.plan.sets, name)

    def adherence(self) -> None:
        plan = self.plan
        self.found.metrics.update(adherence(self.recipe, self.folders, plan.sets, self.device))
        if plan.answers is not None:
            stores = (plan.real_store, plan.synthetic_store)
            found = label_agreement(self.recipe, plan.sets, plan.answers, *stores)
            self.found.metrics.update(found)
            self.found.facts["classifier"] = plan.answers.kept.told()


def all_numbers(
    recipe: Recipe,
    folders: Folders,
    plan: Plan,
    out: Path,
    device: torch.device,
    *,
    own: bool,
    drawn: Mapping[str, Drawn],
) -> Numbers:
    """Measure one data set whose volumes have been looked at; on one process.

    Args:
        recipe: The experiment.
        folders: Of the run.
        plan: What was taken from which volume.
        out: Where pairs and pictures go.
        device: Where to compute.
        own: The data set is the run's own: its model can be asked about held-out reports.
        drawn: See :func:`voxella.evaluation.draws.drawn_distances`.
    """
    job = _Job(recipe, folders, plan, out, device, own, drawn)
    for what, step in (
        ("distances and coverage", job.features),
        ("diversity and intensities", job.images),
        ("text head", job.text),
        ("copies of training cases", job.copied),
        ("what the reports say", job.adherence),
    ):
        say(f"evaluate: {what}")
        step()
    return job.found
