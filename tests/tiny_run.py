"""A tiny encoded run, made of random numbers without images or encoders, and its recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from voxella.cache.latents import LatentWriter, merge_latents
from voxella.cache.text import CaseText, TextWriter, merge_text, text_key
from voxella.case import Case, Manifest, Split
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

REPOSITORY = Path(__file__).parents[1]
TINY = (
    "text.width=12",
    "train.steps=4",
    "train.checkpoint_every=2",
    "deepspeed.train_batch_size=4",
    "observers=[]",
)
NO_TEXT = ("base", "radbase")


def tiny_recipe(*overrides: str, name: str = "ccella") -> Recipe:
    """A recipe of the paper at test size, with further overrides."""
    own = TINY[1:] if name in NO_TEXT else TINY
    path = str(REPOSITORY / "recipes" / f"{name}.yaml")
    return load_recipe(path, ["smoke"], [*own, *overrides])


def encoded_run(recipe: Recipe, run: Path, cases: int = 7, held_out: int = 0) -> Folders:
    """Fill a run folder with a manifest and caches of random numbers, always the same."""
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    manifest = [_case(index, "train") for index in range(cases)]
    manifest += [_case(cases + index, "val") for index in range(held_out)]
    folders.prepared.mkdir(parents=True, exist_ok=True)
    Manifest(folders.prepared, manifest).write()
    _latents(recipe, folders, manifest)
    if recipe.text is not None:
        _text(recipe, folders, manifest)
    return folders


def _case(index: int, split: Split) -> Case:
    return Case(
        id=f"case-{index}",
        group=f"patient-{index}",
        images={"t2w": f"images/case-{index}_t2w.nii.gz"},
        texts={} if index % 3 == 2 else {"report": f"reports/case-{index}.txt"},
        label=("negative", "positive")[index % 2],
        split=split,
        extra={"spacing_mm": [2.0, 2.0, 3.0 + 0.1 * index]},
    )


def _latents(recipe: Recipe, folders: Folders, cases: Sequence[Case]) -> None:
    ids = [case.id for case in cases]
    shape = (recipe.latent.channels, *recipe.latent.size)
    generator = torch.Generator().manual_seed(11)
    sources = {case_id: case_id for case_id in ids}
    with LatentWriter(folders.latents, recipe.latent.dtype, key="tiny", sources=sources) as writer:
        for case_id in ids:
            mean = 2.0 * torch.randn(shape, generator=generator)
            writer.add(case_id, mean, torch.full(shape, -1.0))
    merge_latents(
        folders.latents,
        recipe.latent.dtype,
        key="tiny",
        fingerprint="tiny-autoencoder",
        sources=sources,
        train_ids=ids,
    )


def _text(recipe: Recipe, folders: Folders, cases: Sequence[Case]) -> None:
    assert recipe.text is not None
    generator = torch.Generator().manual_seed(12)
    entries: dict[str, CaseText] = {}
    features = {text_key("", "tiny"): torch.randn(2, recipe.text.width, generator=generator)}
    for index, case in enumerate(cases):
        key = text_key("" if case.report is None else case.id, "tiny")
        length = 3 + index % 4
        entries[case.id] = CaseText(key, case.report is not None, length, 0)
        if case.report is not None:
            features[key] = torch.randn(length, recipe.text.width, generator=generator)
    with TextWriter(folders.text, recipe.text.dtype, key="tiny", texts=list(features)) as writer:
        for key, value in features.items():
            writer.add(key, value)
    merge_text(folders.text, recipe.text, key="tiny", fingerprint="tiny", cases=entries)
