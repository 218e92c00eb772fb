"""What is true of a case, beside its files: what generated volumes are later measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from voxella.errors import UserError
from voxella_importers.phantom.canvas import BLADDER, BONE, MUSCLE, RECTUM
from voxella_importers.phantom.facts import CaseFacts
from voxella_importers.phantom.grid import patient_axes
from voxella_importers.phantom.lesions import Lesion
from voxella_importers.phantom.prostate import LESION

__all__ = ["LABELS", "GlandTruth", "LesionTruth", "Truth", "read_truth", "truth_of"]

LABELS = {
    "background": 0,
    "peripheral": 1,
    "transition": 2,
    "lesion": LESION,
    "bladder": BLADDER,
    "rectum": RECTUM,
    "muscle": MUSCLE,
    "bone": BONE,
}
Triple = tuple[float, float, float]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class LesionTruth(_Model):
    """One lesion.

    Attributes:
        side: The patient's side. Right is +x of RAS+ world coordinates.
        zone: Zone of its centre.
        level: Third of the gland.
        centre_mm: World coordinates, RAS+.
        diameter_mm: Largest diameter.
        radii_mm: Semi-axes along the capsule, across it, and along S.
        conspicuity: Share of the way from the zone's signal to the darkest, 0 to 1.
        pirads: Category, 1 to 5.
    """

    side: Literal["right", "left", "midline"]
    zone: Literal["peripheral", "transition"]
    level: Literal["base", "mid", "apex"]
    centre_mm: Triple
    diameter_mm: float
    radii_mm: Triple
    conspicuity: float
    pirads: int


class GlandTruth(_Model):
    """The gland.

    Attributes:
        volume_ml: Its volume.
        size_mm: Extent along the patient's R, A, S.
        centre_mm: World coordinates, RAS+.
        axes: Rotation whose columns are the patient's R, A and S in world coordinates.
    """

    volume_ml: float
    size_mm: Triple
    centre_mm: Triple
    axes: tuple[Triple, Triple, Triple]


class Truth(_Model):
    """Everything known of a phantom case; report text is not in here.

    Attributes:
        id: Case id.
        patient: Patient id.
        seed: The phantom's seed.
        true_class: ``negative`` or ``positive``.
        label: The recorded class; it differs from the true one where label noise struck.
        pirads: Highest category, 1 where there is no lesion.
        gland: Shape and place.
        lesions: Highest category first.
        age: Years.
        psa: ng/ml.
        rectum: ``gas``, ``stool`` or ``empty``.
        bladder: How full, 0 to 1.
        has_report: False where the report is missing.
        files: SHA-256 of each file of the case, by path in the data set.
        settings_sha256: Hash of the settings that decide the case's content.
        labels: Label map's values.
    """

    id: str
    patient: str
    seed: int
    true_class: Literal["negative", "positive"]
    label: Literal["negative", "positive"]
    pirads: int
    gland: GlandTruth
    lesions: tuple[LesionTruth, ...]
    age: int
    psa: float
    rectum: str
    bladder: float
    has_report: bool
    files: dict[str, str]
    settings_sha256: str
    labels: dict[str, int]


def truth_of(facts: CaseFacts, *, files: dict[str, str], settings_sha256: str) -> Truth:
    """Return the truth of a case, with lesions in world coordinates."""
    gland = facts.patient.gland
    axes = patient_axes(facts.scan)
    extent: Any = (2 * gland.a, 2 * gland.b, 2 * gland.c)
    return Truth(
        id=facts.id,
        patient=facts.patient.id,
        seed=facts.seed,
        true_class="positive" if facts.pirads >= 3 else "negative",
        label="positive" if facts.label == "positive" else "negative",
        pirads=facts.pirads,
        gland=GlandTruth(
            volume_ml=round(gland.volume_ml, 2),
            size_mm=_rounded(extent),
            centre_mm=facts.scan.centre_mm,
            axes=(_rounded(axes[0], 8), _rounded(axes[1], 8), _rounded(axes[2], 8)),
        ),
        lesions=tuple(_lesion_truth(facts, lesion) for lesion in facts.lesions),
        age=facts.patient.age,
        psa=facts.psa,
        rectum=facts.rectum,
        bladder=round(facts.bladder, 3),
        has_report=facts.has_report,
        files=files,
        settings_sha256=settings_sha256,
        labels=LABELS,
    )


def _lesion_truth(facts: CaseFacts, lesion: Lesion) -> LesionTruth:
    world = patient_axes(facts.scan) @ lesion.centre + facts.scan.centre_mm
    return LesionTruth(
        side=lesion.side,
        zone=lesion.zone,
        level=lesion.level,
        centre_mm=_rounded(world),
        diameter_mm=round(lesion.size_mm, 2),
        radii_mm=_rounded(lesion.radii),
        conspicuity=round(lesion.conspicuity, 4),
        pirads=lesion.pirads,
    )


def _rounded(values: Any, digits: int = 3) -> Triple:  # noqa: ANN401 - any three numbers
    x, y, z = (round(float(value), digits) for value in values)
    return x, y, z


def read_truth(path: Path) -> Truth:
    """Read ``truth/<id>.json`` (``Case.truth`` of a phantom's manifest).

    Raises:
        UserError: When the file is absent or is not a phantom's truth.
    """
    try:
        return Truth.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        problem = f"no truth here: {path} does not exist"
    except (ValidationError, UnicodeDecodeError):
        problem = f"{path} is not the truth of a phantom case, or of another generation"
    raise UserError(
        problem, remedy="voxella import phantom --out FOLDER writes it beside the cases"
    )
