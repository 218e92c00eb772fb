"""A folder of PNG, JPEG and TIFF files as they come: the check and preparing give one verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from tile_data import tile
from tiny_prepare import recipe as prepare_recipe

from voxella.case import Case, Manifest
from voxella.check.stage import check
from voxella.data.quarantine import quarantined
from voxella.imaging.volume import read_image
from voxella.preparation.stage import prepare
from voxella.recipe.inputs import Intensity

EDGE = 32
_TURNED_TAG, _QUARTER = 274, 6
_TIFF = {"compression": "tiff_lzw"}


def _picture(seed: int) -> Image.Image:
    return Image.fromarray(tile(seed, edge=EDGE))


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def _sound(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Write what can be read; return rows and columns of each as fractions, by file name."""
    plain = {"png.png": 0, "tif.tif": 1, "opaque.png": 2, "wide.png": 3, "turned.png": 5}
    shown = {name: tile(seed, edge=EDGE) / 255 for name, seed in plain.items()}
    _picture(0).save(folder / "png.png")
    _picture(1).save(folder / "tif.tif", **_TIFF)
    _picture(2).convert("RGBA").save(folder / "opaque.png")
    wide = tile(3, edge=EDGE).astype(np.uint16) * 257
    sitk.WriteImage(sitk.GetImageFromArray(wide, isVector=True), str(folder / "wide.png"))
    palette = _picture(4).quantize(16)
    palette.save(folder / "palette.png")
    shown["palette.png"] = np.asarray(palette.convert("RGB")) / 255
    # On its side, with the tag that says so.
    exif = Image.Exif()
    exif[_TURNED_TAG] = _QUARTER
    _picture(5).rotate(90, expand=True).save(folder / "turned.png", exif=exif)
    return shown


def _unsound(folder: Path) -> dict[str, str]:
    """Write what cannot be taken; return the code of each by file name."""
    _picture(6).save(folder / "short.png")
    _cut(folder / "short.png", 0.5)
    _picture(7).save(folder / "cut.jpg", quality=90)
    _cut(folder / "cut.jpg", 0.7)
    _picture(8).save(folder / "cut.tif", **_TIFF)
    _cut(folder / "cut.tif", 0.7)
    spoilt = bytearray((folder / "png.png").read_bytes())
    spoilt[len(spoilt) // 2] ^= 255
    (folder / "spoilt.png").write_bytes(spoilt)
    holed = _picture(9).convert("RGBA")
    holed.putpixel((3, 3), (1, 2, 3, 0))
    holed.save(folder / "hole.png")
    _picture(10).convert("CMYK").save(folder / "cmyk.jpg")
    _picture(11).convert("LAB").save(folder / "lab.tif")
    _picture(12).save(folder / "pages.tif", save_all=True, append_images=[_picture(13)])
    _picture(14).convert("L").save(folder / "grey.png")
    _picture(15).save(folder / "renamed.jpg", format="PNG")
    (folder / "text.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    return {
        **dict.fromkeys(("short.png", "cut.jpg", "cut.tif", "spoilt.png"), "image.damaged"),
        "hole.png": "image.transparent",
        **dict.fromkeys(("cmyk.jpg", "lab.tif"), "image.colour-space"),
        "pages.tif": "image.not-3d",
        "grey.png": "image.grey",
        **dict.fromkeys(("renamed.jpg", "text.png"), "image.format"),
        "empty.png": "image.empty",
    }


def _id(name: str) -> str:
    return name.replace(".", "-")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    return tmp_path / "dataset"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_every_picture_of_a_folder_is_taken_or_named_with_its_reason(
    folder: Path, tmp_path: Path
) -> None:
    sound, unsound = _sound(folder), _unsound(folder)
    _picture(16).crop((0, 0, EDGE, 24)).save(folder / "small.png")
    names = [*sound, *unsound, "small.png"]
    Manifest(folder, [Case(id=_id(n), group=_id(n), images={"tile": n}) for n in names]).write()
    asked = prepare_recipe(
        ("tile",),
        crop_mm=[None, None],
        crop_voxels=[EDGE, EDGE],
        size=[EDGE, EDGE],
        intensity={"tile": Intensity(rule="colour")},
    )
    report = check(folder, asked, out=tmp_path / "check", workers=1, quiet=True)
    errors = {f.case: f.code for f in report.findings if f.severity == "error"}
    assert errors == {_id(name): code for name, code in unsound.items()}
    assert {(f.case, f.message) for f in report.findings if f.code == "geometry.field-of-view"} == {
        ("small-png", f"24 of {EDGE} pixels along A")
    }
    told = {f.case: f.message for f in report.findings if f.code == "image.format"}
    assert told["renamed-jpg"] == "named as JPEG, and its first bytes are those of PNG"
    assert told["text-png"].endswith("those of no PNG, JPEG or TIFF")

    out = tmp_path / "prepared"
    prepared = prepare(asked, folder, out, workers=1, quarantine=True)
    assert quarantined(out) == errors.keys()
    cases = {case.id: case for case in prepared}
    assert cases.keys() == {_id(name) for name in [*sound, "small.png"]}
    for name, expected in sound.items():
        image = read_image(prepared.image_path(cases[_id(name)], "tile"))
        shown = image.array[..., 0].transpose(2, 1, 0)[::-1, ::-1]
        np.testing.assert_allclose(shown, expected, atol=1e-6, err_msg=name)
