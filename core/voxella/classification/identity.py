"""What tells one image from another without reading it, wherever its line says what decides it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.files import sha256_json

__all__ = ["identity_of", "unmarked_images"]


def unmarked_images(manifest: Manifest) -> Iterator[Path]:
    """Yield the images of cases whose line does not say what decides their voxels."""
    for case in manifest:
        if case.extra.get("prepared_sha256") is None and not case.extra.get("synthetic"):
            paths = (manifest.image_path(case, name) for name in sorted(case.images))
            yield from (path for path in paths if path.is_file())


def identity_of(manifest: Manifest, case: Case, hashes: Mapping[Path, str]) -> str:
    """Return a hash that changes with a case's voxels.

    Args:
        manifest: The data set.
        case: One of its cases.
        hashes: Of the files of :func:`unmarked_images`.
    """
    prepared = case.extra.get("prepared_sha256")
    if prepared is not None:
        return sha256_json(["prepared", case.id, prepared])
    if case.extra.get("synthetic"):
        # Its line says which weights made it, from which seed, prompt and settings.
        return sha256_json(["synthetic", case.model_dump(mode="json")])
    paths = [manifest.image_path(case, name) for name in sorted(case.images)]
    return sha256_json([case.id, *(hashes[path] for path in paths if path in hashes)])
