"""What a model of phantoms obeys of reports that nobody has trained on.

``python -m voxella_demo.measure [--model FOLDER] [--prompts 200] [--seed 4321] [--real]``

Facts are drawn as the recipe's importer draws them, by another seed; their reports go in, and the
phantom's detector looks at what comes out. ``--real`` looks at the phantoms themselves, as far as
the autoencoder lets them through: nothing that is generated can be told better than these.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import voxella
from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.errors import UserError
from voxella.imaging.prepare import prepare_images
from voxella.imaging.volume import Volume
from voxella.ldm.generate import GenerationSettings, generate
from voxella.ldm.request import Request
from voxella.metrics.estimate import Estimate, wilson
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Autoencoder, TextEncoder
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Prepare, Text
from voxella_demo import phantom_model
from voxella_importers.phantom.detector.detect import LesionDetection, look_for_lesion
from voxella_importers.phantom.facts import CaseFacts, draw_facts
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.report import write_report
from voxella_importers.phantom.volume import render

__all__ = ["Looked", "Subject", "draw_cases", "generated", "look", "real", "summary"]

_BATCH = 16
_Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True)
class Looked:
    """One volume: what its report tells, and what the detector finds in it."""

    facts: CaseFacts
    seen: LesionDetection


@dataclass(frozen=True)
class Subject:
    """What is measured: a model's folder, and what its recipe says of data and sampling.

    Attributes:
        folder: The model's.
        importer: Of its training cases.
        prepare: Of them, too.
        coder: What its autoencoder is built from.
        text: Its text encoder, as the recipe names it.
        sampling: Sampler, steps and guidance.
    """

    folder: Path
    importer: Component | None
    prepare: Prepare
    coder: AutoencoderPlan
    text: Text | None
    sampling: GenerationSettings

    @classmethod
    def open(cls, folder: Path, guidance: float | None = None) -> Subject:
        """Read a folder's recipe; ``guidance`` stands in place of the recipe's."""
        recipe = load_recipe(folder / "recipe.yaml")
        if guidance is not None:
            sample = recipe.sample.model_copy(update={"guidance": guidance})
            recipe = recipe.model_copy(update={"sample": sample})
        plan, sampling = AutoencoderPlan.of(recipe), GenerationSettings.of(recipe)
        return cls(folder, recipe.data.importer, recipe.prepare, plan, recipe.text, sampling)

    @property
    def spacing_mm(self) -> list[float]:
        """Return the edges of a voxel."""
        grid = zip(self.prepare.crop_mm, self.prepare.size, strict=True)
        return [mm / voxels for mm, voxels in grid if mm is not None]

    def autoencoder(self) -> Autoencoder:
        """Return the model's autoencoder with its weights."""
        return load_autoencoder(self.coder, self.folder / "autoencoder").model


def draw_cases(subject: Subject, count: int, seed: int) -> tuple[PhantomImporter, list[CaseFacts]]:
    """Return the recipe's importer under another seed, and the facts of its first cases.

    Raises:
        UserError: It is the seed of the training, or the recipe imports no phantoms.
    """
    component = subject.importer
    if component is None or component.name != "phantom":
        raise UserError("the model's recipe imports no phantoms", remedy="--model FOLDER")
    if component.arguments.get("seed", 0) == seed:
        raise UserError(f"seed {seed} is the training's own", remedy="--seed NUMBER")
    chosen = component.model_copy(update={"seed": seed, "cases": count})
    importer = registry.build("importers", chosen)
    assert isinstance(importer, PhantomImporter)  # what the name promises
    return importer, [draw_facts(importer.settings, index) for index in range(count)]


def generated(subject: Subject, facts: Sequence[CaseFacts]) -> Tensor:
    """Return volumes ``(N, *spatial)`` in [0, 1], one from each case's short report."""
    model = voxella.load_model(subject.folder)
    coder = subject.autoencoder()
    features = _encoder(subject.text).encode([write_report(case, "short") for case in facts])
    settings, device = subject.sampling, torch.device("cpu")
    requests = [
        Request(f"{case.id}-{case.seed}", text, -1, None)
        for case, text in zip(facts, features, strict=True)
    ]
    parts = []
    with torch.no_grad():
        for start in range(0, len(requests), _BATCH):
            made = generate(model, settings, requests[start : start + _BATCH], device=device)
            parts.append(coder.decode(made.latents)[:, 0])
    return torch.cat(parts)


def real(subject: Subject, importer: PhantomImporter, facts: Sequence[CaseFacts]) -> Tensor:
    """Return the phantoms themselves, prepared, through the autoencoder and back."""
    coder = subject.autoencoder()
    images = []
    for case in facts:
        drawn = render(case, importer.settings.size)
        raw = Volume(drawn.image.astype(np.float32), np.asarray(drawn.affine, np.float64))
        prepared = prepare_images({"t2w": raw}, subject.prepare).images["t2w"]
        images.append(torch.from_numpy(np.asarray(prepared, np.float32)))
    with torch.no_grad():
        return coder.decode(coder.encode(torch.stack(images)[:, None])[0])[:, 0]


def look(facts: Sequence[CaseFacts], volumes: Tensor, spacing_mm: Sequence[float]) -> list[Looked]:
    """Return what the detector finds in each volume."""
    r, a, s = spacing_mm
    return [
        Looked(case, look_for_lesion(volume.numpy(), (r, a, s)))
        for case, volume in zip(facts, volumes, strict=True)
    ]


def summary(looked: Sequence[Looked]) -> dict[str, Estimate]:
    """Return an estimate by fact: shares with Wilson's interval, the correlation with Fisher's."""
    has = [bool(item.facts.lesions) for item in looked]
    both = [item for item, there in zip(looked, has, strict=True) if there and item.seen.present]
    sides = [item.seen.side == item.facts.lesions[0].side for item in both]
    pairs = [(item.facts.patient.gland.volume_ml, item.seen.volume_ml) for item in looked]
    presence = [item.seen.present == there for item, there in zip(looked, has, strict=True)]
    return {
        "gland found": _share([item.seen.gland_seen for item in looked]),
        "presence": _share(presence),
        "lesion seen where told": _share(_among(looked, has, wanted=True)),
        "no lesion seen where none": _share([not v for v in _among(looked, has, wanted=False)]),
        "side of lesions seen": _share(sides),
        "volume told and drawn, r": _correlation(np.asarray(pairs)),
    }


def _among(looked: Sequence[Looked], has: Sequence[bool], *, wanted: bool) -> list[bool]:
    return [item.seen.present for item, there in zip(looked, has, strict=True) if there == wanted]


def _share(hits: Sequence[bool]) -> Estimate:
    return wilson(sum(hits), len(hits))


def _correlation(pairs: NDArray[np.floating]) -> Estimate:
    """Return Pearson's r with the interval of Fisher's transform."""
    r, n = float(np.corrcoef(pairs.T)[0, 1]), len(pairs)
    reach = _Z / math.sqrt(n - 3)
    low, high = math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)
    return Estimate(r, low, high, n, how="Pearson's r, Fisher's interval")


def _encoder(text: Text | None) -> TextEncoder:
    assert text is not None  # the model reads reports
    built = registry.build(
        "text_encoders",
        text.encoder,
        max_tokens=text.max_tokens,
        truncation=text.truncation,
        padding=text.padding,
    )
    return cast("TextEncoder", built)


def _main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m voxella_demo.measure")
    parser.add_argument("--model", type=Path, default=phantom_model())
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4321)
    parser.add_argument("--guidance", type=float, help="instead of the recipe's")
    parser.add_argument("--real", action="store_true", help="the phantoms themselves")
    asked = parser.parse_args(words)
    subject = Subject.open(asked.model, asked.guidance)
    importer, facts = draw_cases(subject, asked.prompts, asked.seed)
    volumes = real(subject, importer, facts) if asked.real else generated(subject, facts)
    for fact, found in summary(look(facts, volumes, subject.spacing_mm)).items():
        print(f"{fact}: {found}")


if __name__ == "__main__":
    _main(sys.argv[1:])
