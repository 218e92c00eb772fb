"""The kinds of findings about a manifest, splits and copies."""

from __future__ import annotations

from voxella.check.finding import Severity
from voxella.check.kind import Kind

__all__ = ["DATASET_KINDS"]

# code, severity, meaning, remedy
_TABLE: tuple[tuple[str, Severity, str, str], ...] = (
    (
        "manifest.line",
        "error",
        "a line of manifest.jsonl is no JSON object in UTF-8",
        "mend the line, or import again",
    ),
    (
        "manifest.field",
        "error",
        "a field of a case is absent, unknown or of the wrong form",
        "mend the field, or import again",
    ),
    (
        "manifest.duplicate-id",
        "error",
        "two cases have the same id",
        "give each study an id of its own, or take out the second line",
    ),
    (
        "manifest.path",
        "error",
        "a path leads out of the data set's folder",
        "put the file into the data set, or name it by its absolute path",
    ),
    ("manifest.empty", "error", "the manifest holds no case", "import again"),
    (
        "split.patient",
        "error",
        "a patient has cases in two splits, so that a model is tested on whom it was trained on",
        "put all cases of the patient into one split",
    ),
    (
        "duplicate.across-splits",
        "error",
        "the same voxels stand in two splits, so that a model is tested on what it was trained on",
        "take one of the two out, or put both into one split",
    ),
    (
        "duplicate.image",
        "warning",
        "the same voxels stand twice in one split, or twice in one case",
        "take one of the two out, or mend the path that points to the wrong series",
    ),
    (
        "duplicate.near",
        "warning",
        "almost the same image stands in two splits: a rescaled, shifted or noisy copy",
        "compare the two; take one out, or put both into one split",
    ),
)

DATASET_KINDS: dict[str, Kind] = {row[0]: Kind(*row) for row in _TABLE}
