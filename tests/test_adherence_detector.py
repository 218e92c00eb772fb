"""The phantom's detector on phantoms whose lesions are known, and on volumes that are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from voxella.imaging.prepare import prepare_images
from voxella.imaging.volume import Volume
from voxella.recipe.model import Prepare
from voxella_importers.phantom.detector.accuracy import accuracy_table, look_at_phantom
from voxella_importers.phantom.detector.detect import look_for_lesion
from voxella_importers.phantom.detector.pose import find_gland
from voxella_importers.phantom.facts import CaseFacts, draw_facts
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.settings import PhantomSettings
from voxella_importers.phantom.volume import render

SIZE = [64, 64, 32]
Spacing = tuple[float, float, float]


@pytest.fixture(scope="module")
def settings() -> PhantomSettings:
    importer = phantom(cases=40, seed=21, oblique_share=1.0, second_lesion_share=0.0)
    assert isinstance(importer, PhantomImporter)
    return importer.settings


def prepared(facts: CaseFacts, size: tuple[int, ...]) -> tuple[NDArray[np.floating], Spacing]:
    volume = render(facts, size)
    raw = Volume(volume.image.astype(np.float32), np.asarray(volume.affine, np.float64))
    ready = prepare_images({"t2w": raw}, Prepare(crop_mm=[128.0, 128.0, 96.0], size=SIZE))
    r, a, s = ready.facts["spacing_mm"]
    return ready.images["t2w"], (float(r), float(a), float(s))


@pytest.fixture(scope="module")
def plain(settings: PhantomSettings) -> CaseFacts:
    """A case with one large, dark lesion on one side of the peripheral zone."""
    every = (draw_facts(settings, index) for index in range(40))
    return next(
        facts
        for facts in every
        if facts.lesions
        and facts.lesions[0].zone == "peripheral"
        and facts.lesions[0].conspicuity > 0.8
        and facts.lesions[0].size_mm >= 14
    )


@pytest.fixture(scope="module")
def volume(plain: CaseFacts, settings: PhantomSettings) -> tuple[NDArray[np.floating], Spacing]:
    return prepared(plain, settings.size)


def test_the_gland_is_found_where_it_was_drawn(
    plain: CaseFacts, volume: tuple[NDArray[np.floating], Spacing]
) -> None:
    pose = find_gland(*volume)
    assert pose.gland.volume_ml == pytest.approx(plain.patient.gland.volume_ml, rel=0.2)
    # The scan's slices are tilted against the patient, who is turned himself.
    drawn = plain.scan.rotation_deg[0] - plain.scan.tilt_deg
    assert abs(drawn) > 3
    assert pose.tilt_deg == pytest.approx(drawn, abs=5)
    assert pose.similarity > 0.55


def test_a_plain_lesion_is_seen_with_its_side_zone_and_size(
    plain: CaseFacts, volume: tuple[NDArray[np.floating], Spacing]
) -> None:
    lesion, seen = plain.lesions[0], look_for_lesion(*volume)
    assert seen.present
    assert (seen.side, seen.zone) == (lesion.side, lesion.zone)
    assert seen.size_mm == pytest.approx(lesion.size_mm, abs=5)


def test_in_a_mirror_it_lies_on_the_other_side(
    plain: CaseFacts, volume: tuple[NDArray[np.floating], Spacing]
) -> None:
    image, spacing_mm = volume
    seen = look_for_lesion(np.ascontiguousarray(image[::-1]), spacing_mm)
    assert seen.present
    assert {seen.side, plain.lesions[0].side} == {"left", "right"}


def test_the_same_patient_without_it_shows_none(
    plain: CaseFacts, settings: PhantomSettings
) -> None:
    seen = look_for_lesion(*prepared(replace(plain, lesions=()), settings.size))
    assert seen.gland_seen
    assert not seen.present


@pytest.mark.parametrize("kind", ["noise", "black"])
def test_what_shows_no_gland_shows_no_lesion(kind: str) -> None:
    noise = np.random.default_rng(5).random((32, 32, 16))
    image = noise if kind == "noise" else np.zeros_like(noise)
    seen = look_for_lesion(image, (4.0, 4.0, 6.0))
    assert not seen.gland_seen
    assert (seen.present, seen.side, seen.size_mm) == (False, None, None)


def test_the_table_counts_every_phantom_once(settings: PhantomSettings) -> None:
    looked = [look_at_phantom(settings, index, [32, 32, 16]) for index in range(2)]
    lines = accuracy_table(looked)
    assert len(lines) == 16
    assert lines[0].startswith("presence: ")
    groups = lines[6:11]
    assert sum(int(line.rsplit(" of ", 1)[1]) for line in groups) == 2
