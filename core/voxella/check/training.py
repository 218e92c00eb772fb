"""What a training does with cases without label or report, told before hours of preparation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from voxella.case import Case, Manifest
from voxella.case.texts import ANY, REPORT, text_id, texts_of
from voxella.engine.parameters import parameter_groups
from voxella.errors import UserError
from voxella.imaging.headers import is_raster
from voxella.ldm.build import build_model
from voxella.ldm.read_start import read_start
from voxella.ldm.start import begin
from voxella.progress import print_line
from voxella.recipe.condition import Vector
from voxella.recipe.inputs import Text
from voxella.recipe.model import Recipe
from voxella.recipe.objective.loss import Loss
from voxella.wording import listed

__all__ = [
    "check_model",
    "check_training_labels",
    "check_training_reports",
    "check_training_spacing",
]


def check_training_labels(
    loss: Loss, manifest: Manifest, needs: Collection[str], *, name: str, quiet: bool = False
) -> None:
    """Refuse to train a class on cases of which none has one; count those that lack it.

    Args:
        loss: Says whether there is a class loss.
        manifest: The data set.
        needs: What the recipe's conditioner reads; ``label`` among it: a class vector.
        name: The recipe's.
        quiet: Only refuse.

    Raises:
        UserError: No case of the split train has a label, and the recipe learns from labels.
    """
    if (lost := _without_label(loss, needs)) is None:
        return
    cases = manifest.split("train")
    bare = [case.id for case in cases if case.label is None]
    if cases and len(bare) == len(cases):
        raise UserError(
            f"none of the {len(cases)} training cases of {manifest.folder} has a label, and recipe "
            f"{name} learns from labels",
            expected="recipes without a class: recipes/ellabase.yaml (reports), recipes/base.yaml",
            remedy="import again with labels (see docs/how-to/importers.md), or take one of these "
            "recipes",
        )
    if bare:
        print_line(
            f"warning: {len(bare)} of {len(cases)} training cases have no label and {lost}: "
            f"{listed(bare)}",
            quiet=quiet,
        )


def check_training_reports(
    text: Text | None,
    manifest: Manifest,
    texts: Mapping[str, str] | None = None,
    *,
    name: str,
    quiet: bool = False,
) -> None:
    """Refuse to train a text model on cases of which none has a report; count those that lack it.

    Args:
        text: The recipe's block; None: it reads no reports, and nothing is asked. Nor is it where
            reports are written by rule.
        manifest: The data set.
        texts: By :func:`text_id`, "" for one that holds nothing, of the cases that take part;
            None where none has been read yet: whether there is a file decides.
        name: The recipe's.
        quiet: Only refuse.

    Raises:
        UserError: No case of the split train has a report.
    """
    # Texts that are written by rule are reports enough.
    if text is None or text.synthesise is not None:
        return
    source = text.source
    wanted = "report" if source in {ANY, REPORT} else f"text {source}"
    cases = manifest.split("train")
    if texts is None:
        bare = [case.id for case in cases if not texts_of(case.texts, source)]
    else:
        cases = [case for case in cases if case.id in texts]
        bare = [c.id for c in cases if not any(map(texts.get, _read_of(c, source)))]
    if cases and len(bare) == len(cases):
        raise UserError(
            f"none of the {len(cases)} training cases of {manifest.folder} has a {wanted}, and "
            f"recipe {name} learns from reports",
            expected="recipes without text: recipes/radbase.yaml (labels), recipes/base.yaml",
            remedy="import again with reports (see docs/how-to/importers.md), or take one of these "
            "recipes",
        )
    if bare:
        print_line(
            f"warning: {len(bare)} of {len(cases)} training cases have no {wanted} and are shown "
            f"with the empty one: {listed(bare)}",
            quiet=quiet,
        )


def check_training_spacing(
    vectors: Sequence[Vector], sequence: str, manifest: Manifest, *, name: str
) -> None:
    """Refuse to tell a model the size of voxels where images do not say it.

    Args:
        vectors: What the recipe tells of an image.
        sequence: The first, which decides the grid.
        manifest: The data set: every split, for images are made of all of them.
        name: Of the recipe.

    Raises:
        UserError: The recipe has a vector of spacing, and cases are pictures.
    """
    if all(vector.name != "spacing" for vector in vectors):
        return
    bare = [
        case.id
        for case in manifest
        if sequence in case.images and is_raster(manifest.image_path(case, sequence))
    ]
    if bare:
        kept = ", ".join(
            f"{{name: {vector.name}, scale: {vector.scale:g}}}"
            for vector in vectors
            if vector.name != "spacing"
        )
        raise UserError(
            f"{len(bare)} of {len(manifest)} cases of {manifest.folder} are pictures (PNG, JPEG, "
            f"TIFF), which do not say how large a pixel is, and the vectors of recipe "
            f"{name} have spacing: {listed(bare)}",
            expected="vectors without spacing; or images as NIfTI, MetaImage or NRRD, which say it",
            remedy=f'--set "vectors=[{kept}]"',
        )


def _read_of(case: Case, source: str) -> list[str]:
    """Return the ids of those texts of a case that a recipe reads."""
    return [text_id(case.id, name) for name in texts_of(case.texts, source)]


def _without_label(loss: Loss, needs: Collection[str]) -> str | None:
    """Return what becomes of a case without a label; None where labels do not matter."""
    if "label" in needs:
        return "are shown as of no class"
    return "take no part in the class loss" if loss.class_weight > 0 else None


def check_model(recipe: Recipe) -> frozenset[str]:
    """Refuse networks that do not fit together, or weights that do not fit them.

    They are built without memory.

    Returns:
        What the conditioner reads, ``text`` and ``label``; nothing where that cannot be known yet.

    Raises:
        UserError: What a builder refuses; vectors and conditioner do not match; ``init.from`` does
            not fit; a pattern of parameters' names means none.
    """
    try:
        with torch.device("meta"):
            model = build_model(recipe)
    except (NotImplementedError, RuntimeError):
        # A plugin that reads a weight while it is built cannot be built so; training will tell.
        return frozenset()
    start = read_start(recipe.init, model)
    begin(model, start, recipe.init, recipe.lora, seed=recipe.seed, loads=False)
    parameter_groups(model, recipe.optimizer.groups)
    return frozenset(model.needs)
