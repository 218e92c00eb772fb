"""Case and manifest: what every importer writes and every stage reads."""

from voxella.case.faults import Fault, relations
from voxella.case.lines import MANIFEST
from voxella.case.manifest import Manifest, manifest_file, read_cases
from voxella.case.model import Case, ConditionValue, Split

__all__ = [
    "MANIFEST",
    "Case",
    "ConditionValue",
    "Fault",
    "Manifest",
    "Split",
    "manifest_file",
    "read_cases",
    "relations",
]
