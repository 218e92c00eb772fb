"""What tells one image from another without reading it, wherever its line says what decides it.

Does a synthetic training set know of patients who are held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.data.pseudonyms import KEY
from voxella.hashing import sha256_json
from voxella.wording import listed

__all__ = ["identity_of", "leaks", "unmarked_images"]

_SHOWN = 8


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
        return sha256_json(["synthetic", case.hashed()])
    paths = [manifest.image_path(case, name) for name in sorted(case.images)]
    return sha256_json([case.id, *(hashes[path] for path in paths if path in hashes)])


def leaks(real: Manifest, synthetic: Iterable[Case]) -> Iterator[str]:
    """Yield why synthetic cases may not be trained on; nothing where they may.

    A volume is generated from a case's report, label and spacing by a model that has learnt from
    training cases. Made from a held-out case it is a counterpart of what the classifier is tested
    on.

    Args:
        real: The prepared data set, all splits.
        synthetic: Cases to train on.
    """
    by_id = {case.id: case for case in real}
    held_out = {case.group for case in real if case.split != "train"}
    reports = {sha for c in real if c.split != "train" for sha in c.texts_sha256.values()}
    found: dict[str, list[str]] = {}
    for counterpart in synthetic:
        if (why := _reason(counterpart, by_id, held_out, reports)) is not None:
            found.setdefault(why, []).append(counterpart.id)
    for why, ids in found.items():
        yield f"leak: {len(ids)} synthetic case(s) {why} ({listed(ids, _SHOWN)})"


def _reason(
    counterpart: Case, by_id: dict[str, Case], held_out: set[str], reports: set[str]
) -> str | None:
    source_id = counterpart.extra.get("source_case")
    source = by_id.get(str(source_id))
    remedy = "next: voxella sample RECIPE --set sample.split=train"
    if not counterpart.extra.get("synthetic") or source_id is None:
        return "do not say what they were made from; expected: a data set of voxella sample"
    if source is not None and source.split != "train":
        return f"were made from cases of the split {source.split}; {remedy}"
    if counterpart.split != "train":
        return f"are of the split {counterpart.split}; {remedy}"
    patient = counterpart.group.removeprefix("synthetic-")
    if patient in held_out:
        return f"were made for patients of val or test; {remedy}"
    if source is not None:
        return None
    if not patient.startswith("prompt-"):
        return (
            "were made from cases that the real data set does not have, or the key of their run "
            f"is not beside them ({KEY}); next: sample from it, or name RUN/samples itself"
        )
    # A byte-identical report among the data set's own cases is a template; here it is a copy.
    if counterpart.extra.get("prompt_sha256") in reports:
        return "were made from prompts that are reports of val or test; next: take these out"
    return None
