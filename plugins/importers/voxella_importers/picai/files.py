"""PI-CAI's images on disk: found by name, in the layouts that they come in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from voxella.data.drafts import CaseDraft
from voxella.data.grouping import Problems, image_problem
from voxella.errors import UserError

__all__ = ["SEQUENCES", "find_studies"]

SEQUENCES = ("t2w", "adc", "hbv", "sag", "cor")
_FILE = re.compile(r"(\d+)_(\d+)_(t2w|adc|hbv|sag|cor|000[0-2])\.(?:mha|nii\.gz)")
# nnU-Net numbers its channels; in PI-CAI's own conversion they are these.
_CHANNELS = {"0000": "t2w", "0001": "adc", "0002": "hbv"}


def find_studies(source: Path, sequences: Sequence[str]) -> tuple[list[CaseDraft], Problems]:
    """Return a draft for every study found, and what is wrong with incomplete ones.

    Args:
        source: ``<patient>/<patient>_<study>_<sequence>.mha`` below it; or the unpacked fold
            folders with that in them; or nnU-Net's copy, ``<patient>_<study>_0000.nii.gz``.
        sequences: The wanted ones.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    found: dict[str, dict[str, Path]] = {}
    problems = Problems()
    for path, patient, study, sequence in _files(source):
        images = found.setdefault(f"{patient}_{study}", {})
        if sequence in images:
            problems.add(f"{patient}_{study}", f"{sequence} is there twice")
        images[sequence] = path
    drafts: list[CaseDraft] = []
    for case, images in sorted(found.items()):
        for name in sequences:
            problem = image_problem(name, images[name]) if name in images else f"no {name}"
            if problem:
                problems.add(case, problem)
        wanted = {name: images[name] for name in sequences if name in images}
        drafts.append(CaseDraft(id=case, group=case.split("_")[0], images=wanted))
    return drafts, problems


def _files(source: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield (path, patient, study, sequence) of every image below the source."""
    root = source / "images" if (source / "images").is_dir() else source
    if not root.is_dir():
        raise UserError(f"{source}: no such folder")
    matches = [
        (path, match)
        # nnU-Net's flat folder; <patient>/file; one level more where folds were not merged.
        for pattern in ("*", "*/*", "*/*/*")
        for path in sorted(root.glob(pattern))
        if (match := _FILE.fullmatch(path.name))
    ]
    if not matches:
        raise UserError(
            f"{source}: no PI-CAI image found",
            expected="<patient>/<patient>_<study>_<sequence>.mha, sequence one of "
            f"{', '.join(SEQUENCES)}; or <patient>_<study>_0000.nii.gz",
            remedy="give the folder that the public fold archives were unpacked into",
        )
    for path, match in matches:
        yield path, match[1], match[2], _CHANNELS.get(match[3], match[3])
