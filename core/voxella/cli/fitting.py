"""The recipe that an import proposes: one that asks for no more than the cases have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxella.case import Manifest

__all__ = ["fitting_recipe"]

_TILES = "recipes/tiles/base.yaml"
_PATHLDM, _BY_CLASS = "recipes/pathldm/pathldm.yaml", "recipes/pathldm/f4-class.yaml"
# What the recipes of recipes/pathldm say: image, classes, pixels of a crop, factor of the first
# stage, and how often the U-Net halves a latent.
_IMAGE = "he"
_CLASSES = frozenset("0123")
_SIDE, _FACTOR, _HALVINGS = 256, 4, 3
_MOST_CLASSES = 20


def fitting_recipe(manifest: Manifest) -> list[str]:
    """Return the words of a command line that name a recipe, with what it has to be told.

    Args:
        manifest: What was imported.
    """
    from voxella.imaging.headers import is_raster

    cases = manifest.split("train")  # they alone decide whether a recipe refuses
    labels = sorted({case.label for case in cases if case.label is not None})
    reports = any(case.texts for case in cases)
    picture = next(
        ((name, path) for c in cases for name, path in c.images.items() if is_raster(Path(path))),
        None,
    )
    if picture is None:
        without, with_reports = ("radbase", "ccella") if labels else ("base", "ellabase")
        name = with_reports if reports else without
        return [f"recipes/{name}.yaml", "--profile", "two-cores"]
    image, path = picture
    if image != _IMAGE or not (reports or labels):
        return [_TILES, *_sets(_tile_settings(image, labels))]
    settings = _sizes(manifest.folder / path)
    if labels and not set(labels) <= _CLASSES:
        settings["data.classes"] = _listed(labels)
    return [_PATHLDM if reports else _BY_CLASS, *_sets(settings)]


def _tile_settings(image: str, labels: Sequence[str]) -> dict[str, str]:
    settings = {}
    if image != "tile":
        settings["data.sequences"] = _listed([image])
        settings["prepare.intensity"] = f"{{{image}: {{rule: colour}}}}"
    if not labels:
        # Without classes there is nothing to be conditioned on.
        settings |= {"conditioner": "{name: none}", "vectors": "[]"}
    elif not set(labels) <= {"negative", "positive"}:
        settings["data.classes"] = _listed(labels)
    return settings


def _sizes(path: Path) -> dict[str, str]:
    """Return what a recipe of 256 pixels is told of other tiles; the first tile stands for all."""
    from voxella.errors import UserError
    from voxella.imaging.raster import read_raster_header

    try:
        size = read_raster_header(path).size
    except UserError:
        return {}  # prepare tells it, by case
    if min(size) >= _SIDE and size != (_SIDE, _SIDE):
        crop = f"[{_SIDE},{_SIDE}]"
        return {"prepare.size": f"[{size[0]},{size[1]}]", "latent.crop": crop}
    step = _FACTOR * 2**_HALVINGS
    fitting = [max(step, side // step * step) for side in size]
    if min(size) < _SIDE:
        latent = ",".join(str(side // _FACTOR) for side in fitting)
        return {"prepare.size": f"[{fitting[0]},{fitting[1]}]", "latent.size": f"[{latent}]"}
    return {}


def _listed(names: Sequence[str]) -> str:
    quoted = (f'"{name}"' for name in names[:_MOST_CLASSES])
    return f"[{', '.join(quoted)}]"


def _sets(settings: dict[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
