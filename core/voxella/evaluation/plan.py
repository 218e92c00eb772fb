"""What is taken from which volume: features, histogram, small image and latent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.cache.latents import LatentCache
from voxella.errors import UserError
from voxella.evaluation.classifier_features import ClassifierPredictions
from voxella.evaluation.extractors import Extractor, Histogram, LatentMean, Thumbnail, pooled
from voxella.evaluation.features import FeatureStore, Wanted
from voxella.evaluation.label_agreement import held_out
from voxella.evaluation.memorisation import Space
from voxella.evaluation.networks import Network, kind_of, seen_by
from voxella.evaluation.sets import Sets, Subject
from voxella.metrics.declared.contract import NEEDS
from voxella.metrics.declared.measured import reason
from voxella.metrics.declared.number import HELD_OUT, PICTURES
from voxella.metrics.vectors import VectorSet
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

__all__ = ["Plan", "make_plan"]

_FEATURES = "features"
_NO_UNSEEN = (
    "there is no held-out real case (test or val), so nothing tells how near chance comes to a "
    "training case"
)


@dataclass(frozen=True, eq=False)
class Plan:
    """The sets, what looks at them, and where it is kept.

    Attributes:
        sets: Who takes part.
        networks: Feature networks, each with its extractor.
        histogram: Of intensities; None where nobody asks for them.
        image: For copies in image space; or why they are not looked for.
        latent: For copies in latent space, with the cache of the real cases; or why not.
        real_store: Rows of real cases, shared between the runs of a workspace.
        synthetic_store: Rows of the run's own volumes.
        channel: The first of the sequence that the networks see.
        count: How many it has: 1, or 3 in colours.
        classifier: What a classifier says of a case; None where the recipe names none.
        asked: Real cases that it is asked about.
    """

    sets: Sets
    networks: list[tuple[Network, Extractor]]
    histogram: Histogram | None
    image: Thumbnail | str
    latent: tuple[LatentMean, LatentCache] | str
    real_store: FeatureStore
    synthetic_store: FeatureStore
    channel: int
    count: int = 1
    classifier: ClassifierPredictions | None = None
    asked: frozenset[str] = frozenset()

    def wanted(self) -> list[Wanted]:
        """Return what to take from each volume, each volume once."""
        # Of pictures, unseen cases are compared beside the training ones.
        pictures = tuple(e for n, e in self.networks if kind_of(n) == PICTURES)
        beside = [] if self.held_out is None else [self.held_out]
        unseen = {s.id for sets in beside for s in (*sets.real, *sets.synthetic)}
        counted = [] if self.histogram is None else [self.histogram]
        compared: tuple[Extractor, ...] = (*(e for _, e in self.networks), *counted)
        apart = [e for e in (self.image,) if not isinstance(e, str)]
        encoded = [] if isinstance(self.latent, str) else [self.latent[0]]
        said = [] if self.classifier is None else [self.classifier]
        in_real = {subject.id for subject in self.sets.real}
        in_synthetic = {subject.id for subject in self.sets.synthetic}
        real = {
            s.id: s for side in (self.sets.real, self.sets.training, self.sets.unseen) for s in side
        }
        return [
            Wanted(
                s,
                (
                    *(compared if s.id in in_real else ()),
                    *(pictures if s.id in unseen else ()),
                    *apart,
                    *(said if s.id in self.asked else ()),
                ),
                self.real_store,
            )
            for _, s in sorted(real.items())
        ] + [
            Wanted(
                s,
                (
                    *((*compared, *said) if s.id in in_synthetic else ()),
                    *(pictures if s.id in unseen else ()),
                    *apart,
                    *encoded,
                ),
                self.synthetic_store,
            )
            for s in self.sets.generated
        ]

    def vectors(
        self, extractor: Extractor, sets: Sets | None = None
    ) -> tuple[VectorSet, VectorSet]:
        """Return the rows of real and of synthetic cases; of the sets compared, or of others."""
        sets = sets or self.sets
        return (
            self.real_store.vectors(extractor, sets.real, "real"),
            self.synthetic_store.vectors(extractor, sets.synthetic, "synthetic"),
        )

    @cached_property
    def held_out(self) -> Sets | None:
        """Return unseen real cases and their counterparts, where training cases are compared."""
        sets, split = self.sets, self.sets.unseen_split
        made = [s for s in sets.generated if (s.source or s.case).split == split]
        if sets.split != "train" or split is None or not made:
            return None
        paired = {s.group for s in made} == {s.group for s in sets.unseen}
        return replace(sets, split=split, synthetic=made, real=sets.unseen, paired=paired)

    def comparisons(self, kind: str) -> list[tuple[str, Sets]]:
        """Return the sets of which distances are taken, by what ends their names.

        Args:
            kind: Of the features. Pictures alone have more than one: the distances that are
                published of them are of captions of the training set.
        """
        beside = [] if kind != PICTURES or self.held_out is None else [(HELD_OUT, self.held_out)]
        return [("", self.sets), *beside]

    def compared(self) -> Iterator[tuple[Network, Extractor, str, Sets]]:
        """Yield every network with each pair of sets whose features it takes."""
        for network, extractor in self.networks:
            for suffix, sets in self.comparisons(kind_of(network)):
                yield network, extractor, suffix, sets

    def spaces(self) -> dict[str, Space | str]:
        """Return the vectors in which copies are looked for, or why they are not."""
        found: dict[str, Space | str] = {}
        for name, space in (("latent", self._latent_space), ("image", self._image_space)):
            try:
                found[name] = space()
            except UserError as refusal:
                found[name] = reason(refusal)
        return found

    def _image_space(self) -> Space | str:
        image, sets = self.image, self.sets
        if isinstance(image, str):
            return image
        return Space(
            self.synthetic_store.vectors(image, sets.generated, "synthetic"),
            self.real_store.vectors(image, sets.training, "training"),
            self.real_store.vectors(image, sets.unseen, "unseen"),
        )

    def _latent_space(self) -> Space | str:
        if isinstance(self.latent, str):
            return self.latent
        latent, cache = self.latent
        return Space(
            self.synthetic_store.vectors(latent, self.sets.generated, "synthetic"),
            _cached(cache, self.sets.training, "training"),
            _cached(cache, self.sets.unseen, "unseen"),
        )


def make_plan(
    recipe: Recipe,
    folders: Folders,
    sets: Sets,
    networks: Sequence[Network],
    ranks: Ranks,
    classifier: ClassifierPredictions | None = None,
    needs: frozenset[str] = frozenset(NEEDS),
) -> Plan:
    """Return the plan of one data set; collective, and the same on every process.

    Args:
        recipe: The experiment.
        folders: Of the run.
        sets: Who takes part.
        networks: Those whose features are needed.
        ranks: The processes.
        classifier: A classifier that is asked about the volumes.
        needs: What the metrics need, as :data:`voxella.metrics.declared.contract.NEEDS` names it.
    """
    asked = [] if classifier is None else held_out(recipe.data.classes, classifier.kept, sets)[0]
    sequence = recipe.evaluate.sequence or recipe.data.sequences[0]
    channel, count = recipe.channels[sequence].start, recipe.prepare.channels_of(sequence)
    why_not = None if sets.unseen else _NO_UNSEEN
    if "latents" not in needs:
        why_not = "no metric asks for it"
    return Plan(
        sets,
        [(network, seen_by(network, channel, count)) for network in networks],
        Histogram(channel, count) if "histograms" in needs else None,
        Thumbnail() if why_not is None else why_not,
        _latents(AutoencoderPlan.of(recipe), folders, sets, ranks) if why_not is None else why_not,
        FeatureStore(folders.work / folders.evaluation.name / _FEATURES),
        FeatureStore(folders.evaluation / _FEATURES),
        channel,
        count,
        classifier,
        frozenset(subject.id for subject in asked),
    )


def _latents(
    coder_plan: AutoencoderPlan, folders: Folders, sets: Sets, ranks: Ranks
) -> tuple[LatentMean, LatentCache] | str:
    try:
        cache = LatentCache.open(folders.latents, coder_plan.latent)
        cache.require(s.id for s in (*sets.training, *sets.unseen))
        coder = load_autoencoder(coder_plan, folders.autoencoder, ranks.device)
        if coder.fingerprint != cache.fingerprint:
            return "the autoencoder is not the one that made the cached latents; voxella encode"
        windows = tiled(coder, coder_plan, ranks.device, folders.latents, quiet=not ranks.is_main)
    except UserError as refusal:
        return reason(refusal)
    dims = len(coder_plan.latent.size)
    return LatentMean(windows, coder.fingerprint, dims, ranks.device), cache


def _cached(cache: LatentCache, subjects: Sequence[Subject], what: str) -> VectorSet:
    rows = [pooled(cache.mean(subject.id))[0].numpy() for subject in subjects]
    patients = [subject.group for subject in subjects]
    values = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    return VectorSet.of(values, [s.id for s in subjects], patients=patients, what=what)
