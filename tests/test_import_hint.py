"""The recipe that an import proposes loads as it is printed, and asks for what the cases have."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.cli.fitting import fitting_recipe
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe


def dataset(
    folder: Path,
    *,
    size: tuple[int, int] = (256, 256),
    image: str = "he",
    labels: tuple[str | None, ...] = (None,),
    text: bool = False,
) -> Manifest:
    packed = io.BytesIO()
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(packed, format="PNG")
    (folder / "tile.png").write_bytes(packed.getvalue())
    (folder / "text.txt").write_text("low tumor\n")
    texts = {"report": "text.txt"} if text else {}
    facts = [(f"t{n}", label) for n, label in enumerate(labels)]
    cases = [
        Case(id=name, group=name, images={image: "tile.png"}, label=label, texts=texts)
        for name, label in facts
    ]
    return Manifest(folder, cases)


def loaded(words: list[str]) -> Recipe:
    """Load what stands on the line, as a shell would give it to the command."""
    path, *rest = shlex.split(shlex.join(words))
    assert rest[::2] == ["--set"] * (len(rest) // 2)
    return load_recipe(str(REPOSITORY / path), [], rest[1::2])


def test_captioned_tiles_are_for_pathldm(tmp_path: Path) -> None:
    words = fitting_recipe(dataset(tmp_path, text=True, labels=("0", "3")))
    assert words == ["recipes/pathldm/pathldm.yaml"]
    assert loaded(words).data.sequences == ["he"]


def test_tiles_without_text_are_for_the_classes(tmp_path: Path) -> None:
    words = fitting_recipe(dataset(tmp_path, labels=("1", None)))
    assert words == ["recipes/pathldm/f4-class.yaml"]
    assert loaded(words).data.classes == ["0", "1", "2", "3"]
    words = fitting_recipe(dataset(tmp_path, labels=("tumor", "normal")))
    assert loaded(words).data.classes == ["normal", "tumor"]


def test_large_tiles_are_cropped_and_small_ones_stay_small(tmp_path: Path) -> None:
    """The factor of the first stage is 4, and the U-Net halves its latent three times."""
    large = loaded(fitting_recipe(dataset(tmp_path, size=(448, 448), text=True)))
    assert (large.prepare.size, large.latent.crop) == ([448, 448], [256, 256])
    assert large.latent.size == [64, 64]
    small = loaded(fitting_recipe(dataset(tmp_path, size=(100, 128), text=True)))
    assert (small.prepare.size, small.latent.size) == ([96, 128], [24, 32])
    assert small.latent.crop is None


@pytest.mark.parametrize(
    ("image", "labels", "classes"),
    [
        ("tile", ("negative", "positive"), ["negative", "positive"]),
        ("photo", ("cat", "dog"), ["cat", "dog"]),
        ("photo", (None,), ["negative", "positive"]),
    ],
)
def test_other_pictures_are_for_tiles(
    tmp_path: Path, image: str, labels: tuple[str | None, ...], classes: list[str]
) -> None:
    words = fitting_recipe(dataset(tmp_path, image=image, labels=labels))
    assert words[0] == "recipes/tiles/base.yaml"
    recipe = loaded(words)
    assert recipe.data.sequences == [image]
    assert recipe.prepare.is_colour(image)
    assert recipe.data.classes == classes
    assert recipe.conditioner.name == ("none" if labels == (None,) else "radclass")
