"""Every kind of finding by its code; docs/reference/check.md is held to this table by a test.

The kinds of findings about a manifest, splits and copies.
"""

from __future__ import annotations

from voxella.check.finding import Finding, Kind, Severity
from voxella.check.kinds_images import IMAGE_KINDS
from voxella.check.kinds_texts import TEXT_KINDS

__all__ = ["CATALOGUE", "found"]

# code, severity, meaning, remedy
_TABLE: tuple[tuple[str, Severity, str, str], ...] = (
    (
        "manifest.line",
        "error",
        "a line of manifest.jsonl is no JSON object in UTF-8",
        "fix the line, or import again",
    ),
    (
        "manifest.field",
        "error",
        "a field of a case is absent, unknown or of the wrong form",
        "fix the field, or import again",
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
        "a group (patient, slide) has cases in two splits, so that a model is tested on whom it "
        "was trained on",
        "put all cases of the group into one split",
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
        "the same voxels appear twice in one split, or twice in one case",
        "take one of the two out, or fix the path that points to the wrong series",
    ),
    (
        "duplicate.near",
        "warning",
        "almost the same image stands in two splits: a rescaled, shifted or noisy copy",
        "compare the two; take one out, or put both into one split",
    ),
)

DATASET_KINDS: dict[str, Kind] = {row[0]: Kind(*row) for row in _TABLE}

CATALOGUE: dict[str, Kind] = DATASET_KINDS | IMAGE_KINDS | TEXT_KINDS


def found(code: str, message: str, *, case: str | None = None, where: str | None = None) -> Finding:
    """Return a finding of a kind in the catalogue; its severity and remedy are the kind's."""
    return CATALOGUE[code].found(message, case=case, where=where)
