"""Which split a patient belongs to."""

from __future__ import annotations

from voxella.case import Split
from voxella.importers.phantom.chance import fraction
from voxella.importers.phantom.facts import patient_of

__all__ = ["split_of"]


def split_of(seed: int, index: int, *, val_share: float, test_share: float) -> Split:
    """Return the split of case ``index``: that of its patient, whatever the number of cases.

    Patients go where a hash of (seed, patient) says, with three fixed: the patients of cases 0, 2
    and 4 train, test and validate. So two cases hold a training case, three a test case too and
    six cases one of each split. A share of zero empties its split, the fixed patient included.
    """
    patient = patient_of(seed, index)
    fixed: dict[str, Split] = {patient_of(seed, 0): "train"}
    if test_share > 0:
        fixed[patient_of(seed, 2)] = "test"
    if val_share > 0:
        fixed[patient_of(seed, 4)] = "val"
    if patient in fixed:
        return fixed[patient]
    place = fraction(seed, "split", patient)
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"
