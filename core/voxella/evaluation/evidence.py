"""What a metric of a synthetic data set is given: the evaluation's stores, as far as declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.measure import reconstruct
from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.case import Case, Manifest
from voxella.case.texts import texts_of
from voxella.errors import UserError
from voxella.evaluation.networks import kind_of
from voxella.evaluation.plan import Plan
from voxella.evaluation.sets import Sets, Subject
from voxella.evaluation.volumes import read_subject
from voxella.metrics.declared.contract import Features
from voxella.metrics.declared.lookup import Chosen
from voxella.metrics.vectors import VectorSet
from voxella.ranks import Ranks
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

__all__ = ["SampleEvidence"]


@dataclass(frozen=True, eq=False)
class SampleEvidence:
    """One data set whose volumes have been looked at: :class:`Evidence`, and the whole run.

    The attributes below and the run's folders are for built-in metrics; all others keep to what
    :class:`voxella.metrics.declared.contract.Evidence` promises.

    Attributes:
        recipe: The experiment.
        folders: Of the run.
        plan: What was taken from which volume.
        out: Where files beside ``metrics.json`` go.
        ranks: The processes of the job; only the first measures.
        own: The data set is the run's own: its model can be asked about other reports.
        facts: What else ``metrics.json`` is to hold.
        metric: Whose evidence it is.
        needs: What it has declared.
    """

    recipe: Recipe
    folders: Folders
    plan: Plan
    out: Path
    ranks: Ranks
    own: bool
    facts: dict[str, Any] = field(default_factory=dict)
    metric: str = ""
    needs: frozenset[str] = frozenset()

    def given_to(self, one: Chosen) -> SampleEvidence:
        """Return the evidence as a metric may see it."""
        return replace(self, metric=one.name, needs=frozenset(one.metric.needs))

    @property
    def sets(self) -> Sets:
        """Return who takes part."""
        return self.plan.sets

    @property
    def settings(self) -> Evaluate:
        """Return the recipe's ``evaluate`` block."""
        return self.recipe.evaluate

    @property
    def seed(self) -> int:
        """Return the recipe's seed."""
        return self.recipe.seed

    @property
    def level(self) -> float:
        """Return the coverage of intervals."""
        return self.settings.level

    @property
    def replicates(self) -> int:
        """Return the resamples of an interval."""
        return self.settings.bootstrap

    @property
    def halves(self) -> int:
        """Return the random halves of a baseline."""
        return self.settings.baseline_halves

    @property
    def split(self) -> str:
        """Return the split of the real cases."""
        return self.sets.split

    @property
    def paired(self) -> bool:
        """Return whether synthetic and real cases have the same patients."""
        return self.sets.paired

    @property
    def real(self) -> Sequence[Subject]:
        """Return the real cases compared with."""
        return self.sets.real

    @property
    def synthetic(self) -> Sequence[Subject]:
        """Return the synthetic cases compared."""
        return self.sets.synthetic

    @property
    def floor_size(self) -> int | None:
        """Return the patients of either half of a baseline; None: half of all."""
        return self.sets.floor_size

    @property
    def device(self) -> torch.device:
        """Return where to compute."""
        return self.ranks.device

    def features(self, kind: str = "", sets: Sets | None = None) -> Features | None:
        """Return the features of one network, or None where these images have none.

        Args:
            kind: Which; "": the first.
            sets: Whose, where not of the cases that are compared.
        """
        self._require(f"features_{kind}" if kind else "features")
        for network, extractor in self.plan.networks:
            if kind in ("", kind_of(network)):
                real, synthetic = self.plan.vectors(extractor, sets)
                return Features(network.name, network.comparable_with_paper, real, synthetic)
        return None

    def histograms(self) -> tuple[VectorSet, VectorSet]:
        """Return foreground voxels by intensity, real and synthetic, one row a case."""
        self._require("histograms")
        assert self.plan.histogram is not None, "planned where a metric declares that it needs it"
        return self.plan.vectors(self.plan.histogram)

    def image(self, case: Subject) -> Tensor:
        """Return a case's images ``(C, R, A, S)`` in [0, 1]."""
        self._require("images")
        return read_subject(case)

    def reconstruction(self, case: Subject) -> Tensor:
        """Return a case's images after the autoencoder, ``(C, R, A, S)``.

        Raises:
            UserError: The autoencoder has no weights.
        """
        self._require("reconstructions")
        image = read_subject(case)
        flat = len(self.recipe.latent.size) == 2
        seen = reconstruct(self._coder, (image[..., 0] if flat else image)[None], self.device)[0]
        return seen[..., None] if flat else seen

    def report(self, case: Subject) -> str | None:
        """Return the text behind a case, of several the first; it is patient data."""
        self._require("reports")
        if case.source is None:
            return None
        # Prepared cases carry no text: it stays in the imported data set.
        imported = self._imported.get(case.source.id)
        if imported is None:
            return None
        names = texts_of(imported.texts, self.recipe.text_source)
        return self._data_set.read_text(imported, names[0]) or None if names else None

    @cached_property
    def _data_set(self) -> Manifest:
        return Manifest.read(self.folders.dataset)

    @cached_property
    def _imported(self) -> dict[str, Case]:
        return {case.id: case for case in self._data_set}

    @cached_property
    def _coder(self) -> TiledAutoencoder:
        plan = AutoencoderPlan.of(self.recipe)
        coder = load_autoencoder(plan, self.folders.autoencoder, self.device)
        return tiled(coder, plan, self.device, alone=True, quiet=True)

    def _require(self, word: str) -> None:
        if word not in self.needs:
            raise UserError(
                f"metrics: {self.metric}: it asks for {word}, which it does not declare",
                remedy=f"add {word!r} to its needs",
            )
