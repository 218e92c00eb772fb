"""PNG, JPEG and TIFF: what is read, upright and to the last bit, and what is refused and how."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image as Pillow
from tile_data import tile

from voxella.check.headers import read_header
from voxella.imaging.problem import ImageError
from voxella.imaging.volume import Image, Volume, read_image, read_volume
from voxella.imaging.write import write_image

COLOURS = tile(3, 9)[:7]  # 7 rows, 9 columns
WIDE = np.random.default_rng(5).integers(0, 2**16, (7, 9, 3), dtype=np.uint16)
GREY16 = np.random.default_rng(6).integers(0, 2**16, (7, 9), dtype=np.uint16)


def as_shown(image: Image) -> NDArray[np.float32]:
    """Turn an image back into rows and columns as a viewer shows them."""
    assert image.array.shape[3] == 1
    return image.array[..., 0].transpose(2, 1, 0)[::-1, ::-1]


def refused(path: Path, code: str, *words: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.code == code
    assert path.name in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_colours_keep_their_values(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(COLOURS).save(path)
    image = read_image(path)
    assert (image.white, image.in_mm, image.spacing_mm) == (255.0, False, None)
    np.testing.assert_array_equal(as_shown(image), COLOURS)
    assert read_header(path).shape == (9, 7)
    with pytest.raises(ImageError, match="colour"):
        read_volume(path)


def test_a_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    Pillow.fromarray(tile(1, 64)).save(tmp_path / "a.jpg", quality=95)
    found = as_shown(read_image(tmp_path / "a.jpg"))
    with Pillow.open(tmp_path / "a.jpg") as same:
        np.testing.assert_array_equal(found, np.asarray(same))
    Pillow.fromarray(tile(1, 64)[..., 0]).save(tmp_path / "b.jpeg")
    assert not read_image(tmp_path / "b.jpeg").is_colour


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_stay_16_bits(suffix: str, tmp_path: Path) -> None:
    Pillow.fromarray(GREY16).save(tmp_path / f"g{suffix}")
    grey = read_image(tmp_path / f"g{suffix}")
    np.testing.assert_array_equal(as_shown(grey)[..., 0], GREY16)
    # Pillow writes no colours of 16 bits, and reads them as 8.
    sitk.WriteImage(sitk.GetImageFromArray(WIDE, isVector=True), str(tmp_path / f"c{suffix}"))
    colour = read_image(tmp_path / f"c{suffix}")
    np.testing.assert_array_equal(as_shown(colour), WIDE)
    assert grey.white == colour.white == 65535.0


def test_fractions_stay_fractions(tmp_path: Path) -> None:
    array = np.linspace(0, 1, 63, dtype=np.float32).reshape(7, 9)
    Pillow.fromarray(array).save(tmp_path / "f.tif")
    image = read_image(tmp_path / "f.tif")
    assert image.white == 1.0
    np.testing.assert_array_equal(as_shown(image)[..., 0], array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    """By the EXIF standard's own table: where the stored 0th row and 0th column are to be shown."""
    exif = Pillow.Exif()
    exif[274] = orientation
    for suffix in (".png", ".tif"):
        path = tmp_path / f"o{suffix}"
        Pillow.fromarray(COLOURS).save(path, exif=exif)
        upright = {
            1: COLOURS,
            2: COLOURS[:, ::-1],
            3: COLOURS[::-1, ::-1],
            4: COLOURS[::-1],
            5: COLOURS.transpose(1, 0, 2),
            6: COLOURS[::-1].transpose(1, 0, 2),
            7: COLOURS[::-1, ::-1].transpose(1, 0, 2),
            8: COLOURS[:, ::-1].transpose(1, 0, 2),
        }[orientation]
        np.testing.assert_array_equal(as_shown(read_image(path)), upright)
        assert read_header(path).shape == upright.shape[1::-1]


def test_palettes_and_bits_are_expanded(tmp_path: Path) -> None:
    Pillow.fromarray(COLOURS).quantize(8, dither=Pillow.Dither.NONE).save(tmp_path / "p.png")
    with Pillow.open(tmp_path / "p.png") as stored:
        assert stored.mode == "P"
        expected = np.asarray(stored.convert("RGB"))
    np.testing.assert_array_equal(as_shown(read_image(tmp_path / "p.png")), expected)
    grey = Pillow.fromarray(np.arange(63, dtype=np.uint8).reshape(7, 9), mode="P")
    grey.putpalette([value for k in range(256) for value in (k, k, k)])
    grey.save(tmp_path / "g.png")
    shown = as_shown(read_image(tmp_path / "g.png"))
    assert shown.shape == (7, 9, 1)
    np.testing.assert_array_equal(shown[..., 0], np.arange(63).reshape(7, 9))
    Pillow.fromarray(np.eye(7, dtype=bool)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(as_shown(read_image(tmp_path / "b.png"))[..., 0], 255 * np.eye(7))


def test_transparency_that_hides_nothing_is_dropped(tmp_path: Path) -> None:
    alpha = np.full((7, 9, 1), 255, np.uint8)
    solid = np.concatenate([COLOURS, alpha], axis=2)
    Pillow.fromarray(solid).save(tmp_path / "solid.png")
    np.testing.assert_array_equal(as_shown(read_image(tmp_path / "solid.png")), COLOURS)
    alpha[2, 3] = 254
    Pillow.fromarray(np.concatenate([COLOURS, alpha], axis=2)).save(tmp_path / "hole.png")
    refused(tmp_path / "hole.png", "image.transparent", "1.59% of its pixels", "background")
    key = tuple(int(value) for value in COLOURS[0, 0])
    Pillow.fromarray(COLOURS).save(tmp_path / "key.png", transparency=key)
    refused(tmp_path / "key.png", "image.transparent")
    Pillow.fromarray(COLOURS).save(tmp_path / "nokey.png", transparency=(1, 2, 3))
    np.testing.assert_array_equal(as_shown(read_image(tmp_path / "nokey.png")), COLOURS)
    wide = np.concatenate([WIDE, np.full((7, 9, 1), 9, np.uint16)], axis=2)
    sitk.WriteImage(sitk.GetImageFromArray(wide, isVector=True), str(tmp_path / "wide.png"))
    refused(tmp_path / "wide.png", "image.transparent", "100.00%")
    pair = np.stack([GREY16, GREY16], axis=2)
    sitk.WriteImage(sitk.GetImageFromArray(pair, isVector=True), str(tmp_path / "pair.png"))
    refused(tmp_path / "pair.png", "image.format", "without transparency")


def test_other_colours_pages_and_formats_are_refused(tmp_path: Path) -> None:
    Pillow.fromarray(COLOURS).convert("CMYK").save(tmp_path / "c.jpg")
    refused(tmp_path / "c.jpg", "image.colour-space", "CMYK", "sRGB")
    Pillow.fromarray(COLOURS).convert("LAB").save(tmp_path / "l.tif")
    refused(tmp_path / "l.tif", "image.colour-space", "LAB")
    one = Pillow.fromarray(COLOURS)
    one.save(tmp_path / "pages.tif", save_all=True, append_images=[one, one])
    refused(tmp_path / "pages.tif", "image.not-3d", "3 pages or frames")
    Pillow.fromarray(COLOURS).save(tmp_path / "x.tif")
    (tmp_path / "x.tif").rename(tmp_path / "x.png")
    refused(tmp_path / "x.png", "image.format", "named as PNG", "those of TIFF")


def test_damage_is_told_wherever_it_lies(tmp_path: Path) -> None:
    Pillow.fromarray(tile(2, 40)).save(tmp_path / "whole.png")
    Pillow.fromarray(tile(2, 40)).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.png").read_bytes()
    for place in range(45, len(content) - 16, 41):
        spoilt = bytearray(content)
        spoilt[place] ^= 16
        (tmp_path / "spoilt.png").write_bytes(spoilt)
        refused(tmp_path / "spoilt.png", "image.damaged")
    for name in ("whole.png", "whole.jpg"):
        half = (tmp_path / name).read_bytes()[:-400]
        (tmp_path / f"half-{name}").write_bytes(half)
        refused(tmp_path / f"half-{name}", "image.damaged")


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    packed = zlib.compress(bytes(10**6))
    (tmp_path / "bomb.png").write_bytes(start + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    limit = Pillow.MAX_IMAGE_PIXELS
    words = ("200000 x 200000 = 40,000,000,000 pixels", "VOXELLA_MAX_PIXELS=40000000000")
    refused(tmp_path / "bomb.png", "image.impossible-size", *words)
    assert limit == Pillow.MAX_IMAGE_PIXELS
    Pillow.fromarray(COLOURS).save(tmp_path / "a.png")
    monkeypatch.setenv("VOXELLA_MAX_PIXELS", "62")
    refused(tmp_path / "a.png", "image.impossible-size", "9 x 7 = 63 pixels")
    monkeypatch.setenv("VOXELLA_MAX_PIXELS", "63")
    assert read_image(tmp_path / "a.png").is_colour


def test_scans_in_colour_are_read_from_every_format(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    fields = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    stored = np.ascontiguousarray(array).view(fields)[..., 0]
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "a.nii.gz")
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0, 3), isVector=True)
    image.SetSpacing((0.5, 0.5, 3.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    for name in ("b.mha", "c.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name))
    for name in ("a.nii.gz", "b.mha", "c.nrrd"):
        found = read_image(tmp_path / name)
        np.testing.assert_array_equal(found.array, array.transpose(3, 0, 1, 2), err_msg=name)
        assert (found.white, found.in_mm) == (255.0, True)
        np.testing.assert_allclose(found.first.spacing_mm, np.array([0.5, 0.5, 3.0]))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    fractions = COLOURS.transpose(2, 1, 0)[:, ::-1, ::-1] / np.float32(255)
    read = read_image(write_image(tmp_path / "a.png", fractions, np.eye(4)))
    np.testing.assert_allclose(read.array[..., 0] / read.white, fractions, atol=1e-7)
    with Pillow.open(tmp_path / "a.png") as shown:  # upright, by another program
        np.testing.assert_array_equal(np.asarray(shown), COLOURS)
    grey = np.random.default_rng(2).random((1, 9, 7), dtype=np.float32)
    read = read_image(write_image(tmp_path / "g.png", grey, np.eye(4)))
    np.testing.assert_allclose(read.array[..., 0] / read.white, grey, atol=0.5 / 65535 + 1e-7)
    solid = np.random.default_rng(3).random((3, 5, 4, 6), dtype=np.float32)
    affine = np.diag([0.5, 0.6, 3.0, 1.0])
    read = read_image(write_image(tmp_path / "s.nii.gz", solid, affine))
    np.testing.assert_array_equal(read.array, solid)
    assert read.white == 1.0
    # To others: the standard's own form.
    header = nib.load(tmp_path / "s.nii.gz").header
    assert (header.get_intent()[0], header["dim"][1:6].tolist()) == ("rgb vector", [5, 4, 6, 1, 3])
    flat = read_image(write_image(tmp_path / "f.nii.gz", solid[..., 0], affine))
    np.testing.assert_array_equal(flat.array[..., 0], solid[..., 0])
    with pytest.raises(Exception, match="cannot be written as PNG"):
        write_image(tmp_path / "no.png", solid, affine)
    with pytest.raises(Exception, match="cannot be written as PNG"):
        write_image(tmp_path / "no.png", 2 * fractions, affine)


def test_a_displacement_field_is_no_colour(tmp_path: Path) -> None:
    field = np.zeros((6, 5, 4, 1, 3), np.float32)
    image = nib.Nifti1Image(field, np.eye(4))
    image.header.set_intent("vector")
    nib.save(image, tmp_path / "d.nii")
    refused(tmp_path / "d.nii", "image.not-3d")
    vectors = sitk.GetImageFromArray(field[..., 0, :].transpose(2, 1, 0, 3), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "d.mha"))
    refused(tmp_path / "d.mha", "image.colour", "vector")


def test_grey_of_colours_is_their_mean() -> None:
    parts = tuple(Volume(np.full((2, 2, 1), v, np.float32), np.eye(4)) for v in (1, 2, 6))
    assert Image(parts).grey().array.max() == 3.0
    assert Image.of(parts[0]).grey() is parts[0]
