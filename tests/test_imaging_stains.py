"""Stain normalisation against pictures made of stains that are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from voxella.imaging.prepare import prepare_images
from voxella.imaging.stains import REFERENCE, REFERENCE_AMOUNTS, WHITE, macenko
from voxella.imaging.volume import PIXEL_AFFINE, Image, Volume
from voxella.recipe.model import Intensity, Prepare

Array = NDArray[np.float64]
# Vectors of two laboratories; Ruifrok and Johnston's (2001) are the second.
LABORATORIES = [
    ([0.62, 0.68, 0.39], [0.16, 0.84, 0.52]),
    ([0.65, 0.70, 0.29], [0.07, 0.99, 0.11]),
]


def amounts() -> Array:
    """Return amounts ``(2, 40, 50)``: a tenth of pure pixels of either stain, the rest mixed."""
    rng = np.random.default_rng(3)
    found = rng.uniform(0.4, 1.4, (2, 2000))
    found[1, :200] = 0.0
    found[0, 200:400] = 0.0
    # Eosin takes little of the red: enough of it that every colour is darker than glass.
    found[1, 200:400] = rng.uniform(2.2, 2.6, 200)
    return np.asarray(found.reshape(2, 40, 50))


def picture(stains: object, of: Array) -> Array:
    """Beer and Lambert's law, written out."""
    vectors = np.array(stains, dtype=np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(WHITE * np.exp(-np.einsum("sc,s...->c...", unit, of)))


def expected(of: Array) -> Array:
    """The same amounts in the reference's stains, their 99th percentiles the reference's."""
    most = np.percentile(of.reshape(2, -1), 99, axis=1)
    scaled = of * (np.array(REFERENCE_AMOUNTS) / most)[:, None, None]
    return np.asarray(WHITE * np.exp(-np.einsum("sc,s...->c...", np.array(REFERENCE), scaled)))


def test_known_stains_become_the_references() -> None:
    of = amounts()
    found = macenko(picture(LABORATORIES[0], of))
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(of), atol=1e-6)


def test_two_laboratories_give_one_picture() -> None:
    of = amounts()
    of[1, 4:8] *= 2.0  # the second's eosin takes hardly any red
    first, second = (macenko(picture(stains, of)) for stains in LABORATORIES)
    before = [picture(stains, of) for stains in LABORATORIES]
    assert first is not None
    assert second is not None
    assert np.abs(before[0] - before[1]).max() > 0.2
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_bytes_and_glass_do_not_disturb_it() -> None:
    of = amounts()
    of[:, :, 25:] = 0.0  # half of it glass
    of[0, :, 5:10], of[1, :, 5:10] = 0.0, 2.4
    exact = picture(LABORATORIES[0], of)
    rounded = np.rint(exact * 255) / 255
    first, second = macenko(exact), macenko(rounded)
    assert first is not None
    assert second is not None
    # A byte is 0.004; the reference's haematoxylin is denser than this one, which stretches it.
    assert np.abs(first - second).mean() < 0.01
    np.testing.assert_allclose(first[:, :, 30:], WHITE, atol=1e-3)


def test_glass_or_one_stain_has_nothing_to_find() -> None:
    of = amounts()
    assert macenko(picture(LABORATORIES[0], 0.0 * of)) is None
    of[1] = 0.0
    assert macenko(picture(LABORATORIES[0], of)) is None
    assert macenko(np.ones((3, 8, 8))) is None


def image(values: Array) -> Image:
    channels = tuple(
        Volume(np.rint(colour * 255).astype(np.float32)[..., None], PIXEL_AFFINE)
        for colour in values
    )
    return Image(channels, white=255.0, in_mm=False)


def settings(**rule: object) -> Prepare:
    rules = {"he": Intensity.model_validate({"rule": "colour", **rule})}
    return Prepare(crop_mm=[None, None], size=[40, 50], intensity=rules, interpolation="linear")


def test_a_recipe_asks_for_it_by_sequence() -> None:
    made = image(picture(LABORATORIES[0], amounts()))
    plain = prepare_images({"he": made}, settings())
    assert "stain_normalised" not in plain.facts
    stained = prepare_images({"he": made}, settings(stain="macenko"))
    assert stained.facts["stain_normalised"] == {"he": True}
    assert stained.facts["intensity_window"] == {"he": [0.0, 255.0]}
    wanted = macenko(np.stack([c.array[..., 0] for c in made.channels]) / 255.0)
    assert wanted is not None
    np.testing.assert_allclose(stained.images["he"], wanted, atol=1e-5)
    assert np.abs(stained.images["he"] - plain.images["he"]).max() > 0.05
    glass = image(np.full((3, 40, 50), WHITE) - np.linspace(0, 0.01, 50))
    kept = prepare_images({"he": glass}, settings(stain="macenko"))
    assert kept.facts["stain_normalised"] == {"he": False}
    np.testing.assert_array_equal(
        kept.images["he"], prepare_images({"he": glass}, settings()).images["he"]
    )


def test_only_colours_have_stains() -> None:
    with pytest.raises(ValidationError, match="stain macenko is of colours"):
        Intensity(percentiles=(0, 99), window=None, stain="macenko")
    # What was prepared before the key is still known by its settings.
    assert "stain" not in Intensity(rule="colour", percentiles=None).model_dump()
