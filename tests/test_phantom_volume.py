"""The phantom's voxels against its truth: geometry, contrast, tissue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from voxella_importers.phantom.facts import CaseFacts, draw_facts
from voxella_importers.phantom.grid import patient_axes
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.prostate import LESION_FLOOR
from voxella_importers.phantom.settings import PhantomSettings
from voxella_importers.phantom.truth import LABELS, truth_of
from voxella_importers.phantom.volume import Volume, render

ZONES = [LABELS["peripheral"], LABELS["transition"], LABELS["lesion"]]


def settings() -> PhantomSettings:
    importer = phantom(
        size=[100, 92, 30], spacing_mm=[1.0, 1.0, 3.0], positive_share=1.0, workers=1
    )
    assert isinstance(importer, PhantomImporter)
    return importer.settings


@pytest.fixture(scope="module")
def rendered() -> list[tuple[CaseFacts, Volume]]:
    asked = settings()
    return [
        (facts, render(facts, asked.size)) for facts in (draw_facts(asked, n) for n in range(14))
    ]


def _world(mask: NDArray[np.bool_], affine: NDArray[np.floating]) -> NDArray[np.floating]:
    points: NDArray[np.floating] = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return points


def _masks(facts: CaseFacts, volume: Volume) -> list[NDArray[np.bool_]]:
    """Split the lesion label between the case's lesions by the nearest true centre."""
    lesions = truth_of(facts, files={}, settings_sha256="").lesions
    found = volume.labels == LABELS["lesion"]
    index = np.argwhere(found)
    points = _world(found, volume.affine)
    apart = np.stack(
        [np.linalg.norm((points - one.centre_mm) / one.diameter_mm, axis=1) for one in lesions]
    )
    masks = []
    for number in range(len(lesions)):
        mask = np.zeros(found.shape, bool)
        mask[tuple(index[apart.argmin(axis=0) == number].T)] = True
        masks.append(mask)
    return masks


def test_lesions_are_where_the_truth_says(rendered: list[tuple[CaseFacts, Volume]]) -> None:
    sides = set()
    for facts, volume in rendered:
        truth = truth_of(facts, files={}, settings_sha256="")
        for lesion, mask in zip(truth.lesions, _masks(facts, volume), strict=True):
            points = _world(mask, volume.affine)
            centroid = points.mean(axis=0)
            assert np.linalg.norm(centroid - lesion.centre_mm) < 2.0
            # RAS+: x grows to the patient's right.
            x = centroid[0]
            assert {"right": x > 2, "left": x < -2, "midline": abs(x) < 4}[lesion.side]
            sides.add(lesion.side)
            assert mask.sum() >= 10
            # The largest extent is the diameter, to a voxel or so.
            extent = max(np.linalg.norm(points - point, axis=1).max() for point in points[::3])
            assert lesion.diameter_mm - 3.5 <= extent <= lesion.diameter_mm + 2.5
    assert sides >= {"left", "right"}


def test_lesions_lie_in_their_zone(rendered: list[tuple[CaseFacts, Volume]]) -> None:
    for facts, volume in rendered[:8]:
        bare = render(replace(facts, lesions=()), volume.image.shape)
        for lesion, mask in zip(facts.lesions, _masks(facts, volume), strict=True):
            beneath = bare.labels[mask]
            assert np.isin(beneath, ZONES).all()
            assert np.mean(beneath == LABELS[lesion.zone]) > 0.6


def test_contrast_is_the_conspicuity(rendered: list[tuple[CaseFacts, Volume]]) -> None:
    measured, stated = [], []
    for facts, volume in rendered:
        for lesion, mask in zip(facts.lesions, _masks(facts, volume), strict=True):
            zone = volume.image[volume.labels == LABELS[lesion.zone]].mean()
            contrast = 1 - volume.image[mask].mean() / zone
            patient = facts.patient
            level = {
                "peripheral": patient.peripheral_level,
                "transition": patient.transition_level,
            }[lesion.zone]
            expected = lesion.conspicuity * (1 - LESION_FLOOR / level)
            measured.append(contrast)
            stated.append(expected)
            if lesion.conspicuity > 0.4:
                assert contrast > 0.1
            # Partial volume at the rim and the zone's own texture take from it.
            assert expected - 0.22 < contrast < expected + 0.06
    assert np.corrcoef(measured, stated)[0, 1] > 0.9


def test_a_lesion_changes_the_image_only_about_itself(
    rendered: list[tuple[CaseFacts, Volume]],
) -> None:
    facts, volume = rendered[1]
    bare = render(replace(facts, lesions=()), volume.image.shape)
    changed = _world(volume.image != bare.image, volume.affine)
    lesions = truth_of(facts, files={}, settings_sha256="").lesions
    centres = [lesion.centre_mm for lesion in lesions]
    nearest = np.min([np.linalg.norm(changed - centre, axis=1) for centre in centres], axis=0)
    assert nearest.max() < facts.lesions[0].size_mm / 2 + 6


def test_tissues_have_the_order_of_t2(rendered: list[tuple[CaseFacts, Volume]]) -> None:
    for facts, volume in rendered:
        mean = {
            name: float(np.median(volume.image[volume.labels == code]))
            for name, code in LABELS.items()
            if (volume.labels == code).sum() > 50
        }
        assert mean["peripheral"] > 1.5 * mean["transition"] > 1.5 * mean["muscle"], facts.id
        if "bladder" in mean:
            assert mean["bladder"] > mean["peripheral"], facts.id


def test_gland_volume_and_centre_are_the_truths(rendered: list[tuple[CaseFacts, Volume]]) -> None:
    for facts, volume in rendered:
        gland = np.isin(volume.labels, ZONES)
        millilitres = gland.sum() * abs(np.linalg.det(volume.affine[:3, :3])) / 1000
        assert millilitres == pytest.approx(facts.patient.gland.volume_ml, rel=0.04)
        centroid = _world(gland, volume.affine).mean(axis=0)
        # The taper moves the centroid towards the base by 2/5 of its share of the height.
        assert np.linalg.norm(centroid - facts.scan.centre_mm) < 4.0


def test_the_noise_is_there_and_air_is_rayleigh() -> None:
    asked = settings()
    facts = draw_facts(asked, 0)
    scan = replace(facts.scan, shift_mm=(0.0, 60.0, 0.0), noise=0.02, gain=1000.0)
    image = render(replace(facts, scan=scan), asked.size).image
    air = image[:, -8:, :].astype(float)
    # A Rician magnitude without signal is Rayleigh: mean sigma sqrt(pi / 2), ratio 1.913.
    assert air.mean() == pytest.approx(20 * np.sqrt(np.pi / 2), rel=0.08)
    assert air.mean() / air.std() == pytest.approx(1.913, rel=0.05)


def test_rotation_and_tilt_are_rotations() -> None:
    asked = settings()
    tilted = [facts for n in range(20) if (facts := draw_facts(asked, n)).scan.tilt_deg]
    assert 3 <= len(tilted) <= 10
    for facts in tilted[:3]:
        axes = patient_axes(facts.scan)
        assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1.0)
        affine = render(facts, (30, 30, 10)).affine
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        assert steps == pytest.approx(facts.scan.spacing_mm)
        assert np.degrees(np.arctan2(affine[2, 1], affine[1, 1])) == pytest.approx(
            facts.scan.tilt_deg
        )


def test_rendering_is_repeatable(rendered: list[tuple[CaseFacts, Volume]]) -> None:
    facts, volume = rendered[0]
    again = render(facts, volume.image.shape)
    assert np.array_equal(again.image, volume.image)
    assert np.array_equal(again.labels, volume.labels)
