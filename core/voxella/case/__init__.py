"""Case and manifest: what every importer writes and every stage reads."""

from voxella.case.faults import Fault, relations
from voxella.case.lines import MANIFEST, read_cases
from voxella.case.manifest import Manifest
from voxella.case.model import Case, ConditionValue, Split

__all__ = [
    "MANIFEST",
    "Case",
    "ConditionValue",
    "Fault",
    "Manifest",
    "Split",
    "read_cases",
    "relations",
]
