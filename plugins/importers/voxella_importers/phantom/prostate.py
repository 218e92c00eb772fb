"""The gland in voxels: zones with their textures, nodules, urethra, capsule and lesions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.facts import CaseFacts, Patient
from voxella_importers.phantom.gland import PERIPHERAL, TRANSITION, Gland
from voxella_importers.phantom.lesions import Lesion
from voxella_importers.phantom.tissue import Texture, paint

__all__ = ["LESION", "LESION_FLOOR", "paint_prostate"]

Floats = NDArray[np.floating]

LESION = 3  # in the label map; 1 and 2 are the zones
# A lesion of conspicuity k lies at the share k of the way from its zone's level down to this.
LESION_FLOOR = 0.09
_EDGE_MM = 1.2


def paint_prostate(
    image: Floats,
    labels: NDArray[np.uint8],
    facts: CaseFacts,
    xyz: tuple[Floats, Floats, Floats],
    texture: Texture,
    rng: np.random.Generator,
) -> None:
    """Paint the gland into ``image`` and ``labels``, in place.

    Args:
        image: Relative T2 signal, float32 ``(R, A, S)``.
        labels: Label map, same shape.
        facts: Of the case.
        xyz: Coordinates in the gland's frame, mm, same shape each.
        texture: Noise for these voxels.
        rng: For the nodules.
    """
    gland = facts.patient.gland
    u, v, w = gland.unit(*xyz)
    surface = gland.depth(u, v, w)
    central = gland.transition_depth(u, v, w)
    fine, medium, coarse = texture(1.6), texture(4.0), texture(8.0)
    bright = facts.patient.peripheral_level * (1.03 + 0.08 * coarse + 0.08 * medium + 0.06 * fine)
    inside = bright * (1.0 - 0.30 * _septa(u, v, texture))
    paint(inside, central - 0.9, 0.13, _EDGE_MM, 0.75)  # the surgical capsule
    nodules = _nodules(facts.patient, rng, xyz, central, fine, medium, coarse)
    paint(inside, central, nodules, _EDGE_MM)
    _stroma(inside, u, v, xyz, gland, fine)
    _urethra(inside, xyz, gland)
    membership = [
        _lesion(inside, lesion, facts.patient, xyz, surface, fine) for lesion in facts.lesions
    ]
    paint(image, surface - 1.1, 0.15 + 0.02 * fine, 1.0, 0.85)  # the capsule
    paint(image, surface, inside, _EDGE_MM)
    labels[surface < 0.0] = PERIPHERAL
    labels[(surface < 0.0) & (central < 0.0)] = TRANSITION
    for lesion, member in zip(facts.lesions, membership, strict=True):
        _label_lesion(labels, lesion, member, xyz)


def _septa(u: Floats, v: Floats, texture: Texture) -> Floats:
    """Return the septa that radiate to the capsule, 0 to 0.4."""
    folds = np.cos(17.0 * np.arctan2(v, u) + 1.6 * texture(12.0))
    return np.maximum(folds - np.float32(0.6), 0.0)


def _nodules(
    patient: Patient,
    rng: np.random.Generator,
    xyz: tuple[Floats, Floats, Floats],
    central: Floats,
    fine: Floats,
    medium: Floats,
    coarse: Floats,
) -> Floats:
    """Benign hyperplasia: each voxel takes the level of its nearest nodule, with dark rims.

    Glandular nodules are bright, stromal ones dark; rims lie where two nodules are equally near.
    """
    gland = patient.gland
    level = np.full(central.shape, patient.transition_level, np.float32)
    near = central < 2.0
    count = int(8 + gland.volume_ml * 0.45)
    unit = rng.normal(size=(count, 3))
    unit *= (gland.transition * rng.random(count) ** (1 / 3) / np.linalg.norm(unit, axis=1))[
        :, None
    ]
    unit[:, 1] += 0.9 * (1.0 - gland.transition)
    seeds = gland.millimetres(unit).astype(np.float32)
    # Dark stromal nodules outnumber bright ones; the mean is the zone's.
    kinds = patient.transition_level * (0.72 + rng.gamma(1.5, 0.25, size=count)).astype(np.float32)
    points = np.stack([axis[near] for axis in xyz], axis=1)
    points = points + np.stack([1.3 * medium[near], 1.3 * coarse[near], medium[near]], axis=1)
    reach = rng.uniform(-2.5, 2.5, size=count).astype(np.float32)
    first = np.full(len(points), np.inf, np.float32)
    second, owner = first.copy(), np.zeros(len(points), np.intp)
    for number, seed in enumerate(seeds):
        apart = points - seed
        distance = np.sqrt((apart * apart).sum(axis=1)) - reach[number]
        closer = distance < first
        second = np.where(closer, first, np.minimum(second, distance))
        owner[closer] = number
        first = np.where(closer, distance, first)
    rim = np.clip(1.0 - (second - first) / 1.6, 0.0, 1.0)
    grain = 1.0 + 0.16 * fine[near] + 0.12 * medium[near]
    level[near] = kinds[owner] * grain * (1.0 - 0.4 * rim)
    return level


def _stroma(
    inside: Floats,
    u: Floats,
    v: Floats,
    xyz: tuple[Floats, Floats, Floats],
    gland: Gland,
    fine: Floats,
) -> None:
    """The anterior fibromuscular stroma: a dark apron in front, in the midline."""
    apron = (np.sqrt((u / 0.42) ** 2 + ((v - 1.05) / 0.30) ** 2) - 1.0) * 0.3 * gland.b
    paint(inside, apron, 0.11 * (1 + 0.2 * fine), 2.5)
    # The central zone about the ejaculatory ducts, behind the base.
    x, y, z = xyz
    ducts = np.sqrt((x / 9.0) ** 2 + ((y + 0.45 * gland.b) / 4.5) ** 2)
    ducts = np.maximum((ducts - 1.0) * 5.0, 0.35 * gland.c - z)
    paint(inside, ducts, 0.20 * (1 + 0.2 * fine), 3.0, 0.75)


def _urethra(inside: Floats, xyz: tuple[Floats, Floats, Floats], gland: Gland) -> None:
    """The urethra: a bright lumen in a dark muscular ring, plain at the apex, faint above."""
    x, y, z = xyz
    tube = np.sqrt(x * x + (y - 0.12 * gland.b - 0.12 * z) ** 2)
    plain = np.clip(0.55 - z / gland.c, 0.15, 1.0)
    ring = np.clip(1.6 - np.abs(tube - 4.0), 0.0, 1.0) * plain
    inside += 0.75 * ring * (0.12 - inside)
    lumen = np.clip(2.6 - tube, 0.0, 1.0) * plain
    inside += 0.8 * lumen * (0.62 - inside)


def _lesion(
    inside: Floats,
    lesion: Lesion,
    patient: Patient,
    xyz: tuple[Floats, Floats, Floats],
    surface: Floats,
    fine: Floats,
) -> NDArray[np.bool_]:
    """Paint one lesion and return the voxels it holds: its ellipsoid within the capsule."""
    peripheral = lesion.zone == "peripheral"
    zone = patient.peripheral_level if peripheral else patient.transition_level
    level = zone + lesion.conspicuity * (LESION_FLOOR - zone)
    radius = lesion.radius(*xyz)
    distance = (radius - 1.0) * min(lesion.radii)
    # Homogeneous: what marks a tumour in the transition zone is the loss of its nodules.
    cover = np.clip(0.8 - distance / 1.2, 0.0, 1.0)
    inside += cover * (level * (1.0 + 0.06 * fine) - inside)
    return (radius < 1.0) & (surface < 0.0)


def _label_lesion(
    labels: NDArray[np.uint8],
    lesion: Lesion,
    member: NDArray[np.bool_],
    xyz: tuple[Floats, Floats, Floats],
) -> None:
    """Mark a lesion in the label map; one that slips between coarse voxels marks the nearest."""
    if not member.any():
        x, y, z = (axis - c for axis, c in zip(xyz, lesion.centre, strict=True))
        member = np.zeros(labels.shape, bool)
        member.flat[int(np.argmin(x * x + y * y + z * z))] = True
    labels[member] = LESION
