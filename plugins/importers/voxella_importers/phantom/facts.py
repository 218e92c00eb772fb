"""Everything that is true of a case, drawn before any voxel: the volume and the report follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from voxella_importers.phantom.gland import Gland
from voxella_importers.phantom.lesions import Lesion, draw_lesion
from voxella_importers.phantom.settings import PhantomSettings, fraction, in_share, stream

__all__ = [
    "CaseFacts",
    "Patient",
    "Scan",
    "case_id",
    "draw_facts",
    "draw_positive_lesion",
    "patient_of",
]

_SECOND_STUDY = 0.1  # share of the odd-numbered cases that are the previous case's patient again


@dataclass(frozen=True)
class Patient:
    """What stays the same between a patient's studies.

    Attributes:
        id: Named after the patient's first case.
        age: Years.
        gland: Shape of the prostate.
        habitus: Scale of the pelvis about 1.
        fat_mm: Thickness of the fat under the skin, mm.
        peripheral_level: Signal of the peripheral zone, relative to urine.
        transition_level: Mean signal of the transition zone, likewise.
    """

    id: str
    age: int
    gland: Gland
    habitus: float
    fat_mm: float
    peripheral_level: float
    transition_level: float


@dataclass(frozen=True)
class Scan:
    """One acquisition.

    Attributes:
        spacing_mm: Voxel spacing along the grid's own axes.
        centre_mm: The gland's centre in world coordinates (RAS+).
        rotation_deg: Turns of the patient about R, A and S.
        shift_mm: Centre of the field of view relative to the gland's, along R, A, S.
        tilt_deg: Tilt of the slices about R; 0 where the scan is straight.
        tesla: Field strength.
        gain: Intensity of a voxel at level 1.
        noise: Standard deviation of the noise of each channel, as a share of level 1.
    """

    spacing_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    tilt_deg: float
    tesla: float
    gain: float
    noise: float


@dataclass(frozen=True)
class CaseFacts:
    """One study, without its voxels and without its words.

    Attributes:
        id: Case id.
        seed: The phantom's seed.
        patient: Whose study it is.
        lesions: Largest category first; at most two.
        scan: How it was acquired.
        psa: ng/ml.
        bladder: How full the bladder is, 0 to 1.
        rectum: What the rectum holds: ``gas``, ``stool`` or ``empty``.
        has_report: False where the report is missing.
        label: The recorded class, which is not always the true one.
    """

    id: str
    seed: int
    patient: Patient
    lesions: tuple[Lesion, ...]
    scan: Scan
    psa: float
    bladder: float
    rectum: str
    has_report: bool
    label: str

    @property
    def pirads(self) -> int:
        """Return the highest category of any lesion, 1 where there is none."""
        return max((lesion.pirads for lesion in self.lesions), default=1)

    @property
    def true_class(self) -> str:
        """Return the class that PI-RADS gives: 1 and 2 negative, 3 to 5 positive."""
        return "positive" if self.pirads >= 3 else "negative"


def case_id(index: int) -> str:
    """Return the id of case ``index``."""
    return f"phantom-{index:05d}"


def patient_of(seed: int, index: int) -> str:
    """Return the patient of case ``index``; a few odd cases are the case before's patient again."""
    again = index % 2 == 1 and fraction(seed, "second study", str(index)) < _SECOND_STUDY
    return f"patient-{index - again:05d}"


def draw_facts(settings: PhantomSettings, index: int) -> CaseFacts:
    """Draw case ``index``: a function of the seed and the index, and of no other case."""
    seed, name = settings.seed, case_id(index)
    patient = _draw_patient(seed, patient_of(seed, index))
    positive = in_share(seed, "positive", index, settings.positive_share)
    lesions = _draw_lesions(stream(seed, name, "lesions"), patient.gland, positive, settings)
    rng = stream(seed, name, "study")
    worst = max((lesion.conspicuity * lesion.size_mm for lesion in lesions), default=0.0)
    truth = "positive" if positive else "negative"
    other = "negative" if positive else "positive"
    wrong = in_share(seed, "label_noise", index, settings.label_noise)
    return CaseFacts(
        id=name,
        seed=seed,
        patient=patient,
        lesions=lesions,
        psa=round(float(0.11 * patient.gland.volume_ml + 0.25 * worst + rng.gamma(2.0, 1.0)), 1),
        bladder=float(rng.beta(2.0, 2.0)),
        rectum=str(rng.choice(["gas", "stool", "empty"], p=[0.4, 0.35, 0.25])),
        scan=_draw_scan(rng, settings, in_share(seed, "oblique", index, settings.oblique_share)),
        has_report=not in_share(seed, "missing_report", index, settings.missing_reports),
        label=other if wrong else truth,
    )


@lru_cache(maxsize=64)
def _draw_patient(seed: int, patient: str) -> Patient:
    rng = stream(seed, patient)
    volume = float(np.clip(rng.lognormal(np.log(44.0), 0.42), 20.0, 100.0))
    enlarged = (volume - 20.0) / 80.0
    gland = Gland.of_volume(
        volume,
        depth=float(rng.uniform(0.70, 0.80)),
        height=float(rng.uniform(0.82, 0.98)),
        taper=float(rng.uniform(0.12, 0.24)),
        bend=float(rng.uniform(0.10, 0.22)),
        transition=float(np.clip(0.67 + 0.2 * enlarged + rng.normal(0.0, 0.03), 0.63, 0.89)),
        asymmetry=float(rng.normal(0.0, 0.05)),
    )
    return Patient(
        id=patient,
        age=int(rng.integers(48, 81)),
        gland=gland,
        habitus=float(rng.normal(1.0, 0.04)),
        fat_mm=float(rng.uniform(11.0, 24.0)),
        peripheral_level=float(rng.uniform(0.54, 0.74)),
        transition_level=float(rng.uniform(0.26, 0.32)),
    )


def _draw_lesions(
    rng: np.random.Generator, gland: Gland, positive: bool, settings: PhantomSettings
) -> tuple[Lesion, ...]:
    """Draw the case's lesions: the class decides the first one's conspicuity."""
    smallest, largest = settings.lesion_size_mm
    lesions: list[Lesion] = []
    count = 1 + (rng.random() < settings.second_lesion_share)
    if not positive:
        count = int(rng.random() < settings.benign_focus_share)
    for number in range(count):
        if not positive:
            conspicuity, limit = float(rng.uniform(0.2, 0.35)), min(largest, 12)
        elif settings.lesion_conspicuity is not None:
            low, high = settings.lesion_conspicuity
            conspicuity, limit = float(rng.uniform(low, high)), largest
        elif rng.random() < 0.25:
            conspicuity, limit = float(rng.uniform(0.40, 0.58)), min(largest, 16)
        else:
            conspicuity, limit = float(rng.uniform(0.62, 1.0)), largest
        # Small lesions are commoner than large ones, and a second one is the smaller.
        share = float(rng.beta(1.3, 1.7)) * (0.6 if number else 1.0)
        lesion = draw_lesion(
            rng,
            gland,
            size_mm=smallest + round(share * max(limit - smallest, 0)),
            conspicuity=conspicuity,
            smallest_mm=smallest,
            peripheral_share=settings.peripheral_share,
            others=lesions,
        )
        if lesion is not None:
            lesions.append(lesion)
    return tuple(sorted(lesions, key=lambda found: (-found.pirads, -found.size_mm)))


def draw_positive_lesion(
    rng: np.random.Generator, gland: Gland, settings: PhantomSettings
) -> Lesion:
    """Draw a lesion as the first one of a positive case is drawn."""
    return _draw_lesions(rng, gland, True, settings)[0]


def _draw_scan(rng: np.random.Generator, settings: PhantomSettings, oblique: bool) -> Scan:
    in_plane, through = rng.uniform(0.93, 1.07), rng.uniform(0.97, 1.05)
    r, a, s = settings.spacing_mm
    tilt = float(rng.uniform(4.0, 16.0))
    return Scan(
        spacing_mm=(
            round(r * in_plane, 4),
            round(a * in_plane, 4),
            round(s * through, 4),
        ),
        centre_mm=_triple(rng.uniform([-1.0, -12.0, -25.0], [1.0, 12.0, 25.0])),
        rotation_deg=_triple(rng.normal(0.0, [2.5, 1.5, 2.0])),
        shift_mm=_triple(rng.uniform([-4.0, -4.0, -3.0], [4.0, 4.0, 3.0])),
        tilt_deg=tilt if oblique else 0.0,
        tesla=3.0 if rng.random() < 0.75 else 1.5,
        gain=float(rng.uniform(550.0, 1100.0)),
        noise=float(rng.uniform(0.010, 0.022)),
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 3) for value in values)
    return x, y, z
