"""From a file of another release to a model folder, or to weights files that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan
from voxella.conversion.outlines import (
    Outline,
    autoencoder_outline,
    classifier_outline,
    model_outlines,
)
from voxella.conversion.request import Conversion, read_null_text, require_licence
from voxella.conversion.write import Origin, fingerprint_of, with_weights, write_parts
from voxella.errors import UserError
from voxella.hashing import sha256_path
from voxella.ldm.build import LatentDiffusion, build_model
from voxella.ldm.conditions import seen
from voxella.ldm.export import ModelFacts, save_model
from voxella.ldm.model_folder.licences import licences_of
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Released, Source
from voxella.progress import print_line
from voxella.recipe.inputs import Latent, Text
from voxella.recipe.load import dump_recipe
from voxella.recipe.model import Recipe
from voxella.weights import KeyReport, compare_keys

__all__ = ["convert"]

_OF_THE_MODEL = ("backbone", "conditioner")


def convert(recipe: Recipe, asked: Conversion) -> list[Path]:
    """Convert a file; return what was written.

    A file with a denoiser becomes a model folder, as ``voxella train`` exports one. Every other
    part becomes a weights file in the same folder, under our names, and ``released.json`` says
    where it comes from.

    Args:
        recipe: Whose networks the file's tensors are to fit.
        asked: The conversion.

    Raises:
        UserError: The licence has to be named; the file cannot be read; its tensors do not fit the
            recipe's networks, all differences told; the latent scale is not known.
    """
    source: Source = registry.build("sources", Component(name=asked.source))
    require_licence(source, asked)
    released = source.read(asked.file)
    parts = {part: dict(state) for part, state in released.parts.items()}
    model: LatentDiffusion | None = None
    outlines: dict[str, Outline] = {}
    if "backbone" in parts:
        with torch.device("meta"):
            model = build_model(recipe, to_be_trained=False)
        outlines |= model_outlines(model)
    if "autoencoder" in parts:
        outlines["autoencoder"] = autoencoder_outline(AutoencoderPlan.of(recipe))
    if "classifier" in parts:
        whole = classifier_outline(
            recipe.classify,
            spatial_dims=len(recipe.latent.size),
            in_channels=recipe.image_channels,
            num_classes=len(recipe.data.classes),
        )
        outlines["classifier"] = _without(asked.new, whole)
        parts["classifier"] = _without(asked.new, parts["classifier"])
    reports = {part: compare_keys(own, parts.get(part, {})) for part, own in outlines.items()}
    _refuse_misfits(asked, recipe.name, reports)
    origin = Origin(asked.source, asked.file.name, sha256_path(asked.file))
    licences = {} if asked.licence is None else dict.fromkeys(parts, asked.licence)
    alone = {
        part: state for part, state in parts.items() if model is None or part not in _OF_THE_MODEL
    }
    if model is None:
        _print_remarks(released)
        return list(write_parts(asked.out, alone, origin, licences).values())
    # Before anything is written: they may be refused.
    scale = _latent_scale(asked, released, recipe.latent)
    null_text = _null_text(asked, released, model, recipe.text)
    _print_remarks(released)
    written = write_parts(asked.out, alone, origin, licences) if alone else {}
    if "autoencoder" in written:
        recipe = recipe.model_copy(update=with_weights(recipe.autoencoder, written["autoencoder"]))
    facts = ModelFacts(
        latent_scale=scale,
        step=released.step,
        averaged=False,
        classes=list(recipe.data.classes),
        vectors=list(model.vectors),
        spacing_mm=None,
        # Whose features it was trained on the file does not tell: any encoder is let in.
        text=None if recipe.text is None else {"width": recipe.text.width, "encoder": ""},
        autoencoder_fingerprint=fingerprint_of(AutoencoderPlan.of(recipe)),
        conditions=seen(recipe.conditions, []),
        origin=origin.as_json(),
        licences=_frozen(recipe.autoencoder, recipe.text) | licences,
    )
    state = {
        f"{part}.{name}": parts[part][name].to(tensor.dtype)
        for part in _OF_THE_MODEL
        for name, tensor in outlines[part].items()
    }
    return [
        *written.values(),
        save_model(asked.out, state, dump_recipe(recipe), facts, null_text),
    ]


def _frozen(autoencoder: Component, text: Text | None) -> dict[str, str]:
    encoder = None if text is None else text.encoder
    return licences_of({"autoencoder": autoencoder, "text_encoder": encoder})


def _without(patterns: tuple[str, ...], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what no pattern names."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _refuse_misfits(asked: Conversion, recipe: str, reports: Mapping[str, KeyReport]) -> None:
    """Print how the parts fit.

    Raises:
        UserError: With all that does not fit.
    """
    for part, report in reports.items():
        print_line(report.lines(part)[0])
    wrong = {part: report for part, report in reports.items() if not report.fits}
    if wrong:
        lines = [line for part, report in wrong.items() for line in report.lines(part)]
        block = {"classifier": "classify.classifier"}.get(first := next(iter(wrong)), first)
        remedy = f"name the recipe it was trained with, or its sizes: --set {block}.channels=[...]"
        if "classifier" in wrong:
            remedy += "; a classifier's last layer may be new: --new 'fc.*'"
        raise UserError(
            f"{asked.file} does not fit the networks of recipe {recipe}:\n" + "\n".join(lines),
            expected="every tensor of the recipe's networks, of its shape, and no other",
            remedy=remedy,
        )


def _latent_scale(asked: Conversion, released: Released, latent: Latent) -> float | list[float]:
    """Return the factor on latents: as asked, as the file says, or as the recipe does.

    Raises:
        UserError: Nobody knows it, or it is by channel and not one for each.
    """
    given = list(asked.latent_scale)
    found = (given if len(given) != 1 else given[0]) if given else released.latent_scale
    if found is None and isinstance(latent.scale, float | int):
        found = float(latent.scale)
    if found is None:
        raise UserError(
            f"{asked.file} does not say by what its latents were multiplied",
            expected="1/std of the autoencoder's latents over the training set",
            remedy="--latent-scale NUMBER, or one for each channel: --latent-scale 0.9,1.1",
        )
    if isinstance(found, list) and len(found) != latent.channels:
        raise UserError(
            f"a latent scale of {len(found)} numbers, and the recipe's latents have "
            f"{latent.channels} channels",
            expected=f"one number, or {latent.channels}",
        )
    if any(
        not 0 < value < float("inf") for value in (found if isinstance(found, list) else [found])
    ):
        raise UserError(f"a latent scale of {found}", expected="above 0", remedy="--latent-scale")
    return found


def _null_text(
    asked: Conversion, released: Released, model: LatentDiffusion, text: Text | None
) -> Tensor | None:
    """Return the features of the empty report; say so where there are none.

    Raises:
        UserError: They do not fit, or the recipe reads no text.
    """
    if text is None or "text" not in model.needs:
        if asked.null_text is not None:
            raise UserError("--null-text: this recipe's model reads no reports")
        return None
    if asked.null_text is not None:
        return read_null_text(asked.null_text, text.width)
    if released.null_text is None:
        print_line(
            "the file has no features of the empty report: every volume needs its own report "
            "(--null-text FILE brings them)"
        )
        return None
    if released.null_text.shape[-1] != text.width:
        raise UserError(
            f"{asked.file}: the empty report's features are {released.null_text.shape[-1]} wide",
            expected=f"text.width {text.width}",
        )
    return released.null_text.to(torch.float32)


def _print_remarks(released: Released) -> None:
    for remark in released.remarks:
        print_line(remark)
