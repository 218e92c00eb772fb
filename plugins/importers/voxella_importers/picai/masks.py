"""PI-CAI's masks: whole gland, zones and lesions, joined to the studies on whose T2W grid they lie.

Most folders cover every study, none is without exceptions: some masks are cropped or drawn on the
diffusion grid, some lie a little beside the T2W, some studies have none. Whatever stands in a mask
folder besides ``<case>.nii.gz`` (a README, say) is not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from voxella.data.drafts import CaseDraft, warn
from voxella.data.grouping import Problems, image_problem
from voxella.data.mask_grids import Grid, off_grid, read_grid
from voxella.errors import UserError
from voxella.wording import quoted

__all__ = ["MASKS", "add_masks", "mask_problems"]

_EXPERT = "csPCa_lesion_delineations/human_expert"
_FOLDERS = {
    "Bosma22b": "anatomical_delineations/whole_gland/AI/Bosma22b",
    "Guerbet23": "anatomical_delineations/whole_gland/AI/Guerbet23",
    "Yuan23": "anatomical_delineations/zonal_pz_tz/AI/Yuan23",
    "HeviAI23": "anatomical_delineations/zonal_pz_tz/AI/HeviAI23",
    "resampled": f"{_EXPERT}/resampled",
    "Pooch25": f"{_EXPERT}/Pooch25",
    "Bosma22a": "csPCa_lesion_delineations/AI/Bosma22a",
}
# What each mask may be asked for as, and the folders tried for it, best first. HeviAI23 is off the
# T2W grid in 346 of 1500 studies. The 205 studies that `resampled` lacks are those of Pooch25,
# which does not tell ISUP grades apart.
MASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gland": ("gland", ("Bosma22b", "Guerbet23")),
    "zones": ("zones", ("Yuan23", "HeviAI23")),
    "lesion": ("lesion", ("resampled", "Pooch25")),
    "Bosma22b": ("gland", ("Bosma22b",)),
    "Guerbet23": ("gland", ("Guerbet23",)),
    "Yuan23": ("zones", ("Yuan23",)),
    "HeviAI23": ("zones", ("HeviAI23",)),
    "resampled": ("lesion", ("resampled",)),
    "Pooch25": ("lesion", ("Pooch25",)),
    "Bosma22a": ("lesion", ("Bosma22a",)),
}
# Said to be wrong by the README of picai_labels.
_FAULTY = {("Bosma22b", "11050_1001070")}


def mask_problems(masks: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the argument ``masks``."""
    taken: dict[str, str] = {}
    for name in masks:
        if name not in MASKS:
            yield f"masks: {quoted(name)} is none of {', '.join(MASKS)}"
        elif (kind := MASKS[name][0]) in taken:
            yield f"masks: {taken[kind]} and {name} are both a mask of the {kind}"
        else:
            taken[kind] = name


def add_masks(
    drafts: Sequence[CaseDraft], labels: Path, masks: Sequence[str], tolerance_mm: float
) -> list[CaseDraft]:
    """Return the drafts with those masks that are there and on the T2W grid; count the others.

    Args:
        drafts: Studies, each with a ``t2w`` image.
        labels: The ``picai_labels`` folder.
        masks: Of :data:`MASKS`.
        tolerance_mm: How far a voxel may lie from the T2W image's.

    Raises:
        UserError: A mask folder is absent.
    """
    absent = {
        str(labels / _FOLDERS[folder])
        for name in masks
        for folder in MASKS[name][1][:1]
        if not (labels / _FOLDERS[folder]).is_dir()
    }
    if absent:
        raise UserError(
            "\n".join(f"{folder}: no such folder" for folder in sorted(absent)),
            remedy="give labels the whole picai_labels repository, or fewer masks",
        )
    problems: dict[str, Problems] = defaultdict(Problems)
    done = [_masked(draft, labels, masks, tolerance_mm, problems) for draft in drafts]
    for name, found in problems.items():
        told = "\n".join(found.lines())
        warn(f"{len(found.cases)} of {len(drafts)} studies have no {name} mask:\n{told}")
    return done


def _masked(
    draft: CaseDraft,
    labels: Path,
    masks: Sequence[str],
    tolerance_mm: float,
    problems: dict[str, Problems],
) -> CaseDraft:
    images, extra = dict(draft.images), dict(draft.extra)
    try:
        grid = read_grid(draft.images["t2w"])
    except UserError:
        for name in masks:
            problems[MASKS[name][0]].add(draft.id, "the header of t2w cannot be read")
        return draft
    for name in masks:
        kind, folders = MASKS[name]
        wrong: dict[str, str] = {}
        for folder in folders:
            path = labels / _FOLDERS[folder] / f"{draft.id}.nii.gz"
            problem = _wrong(draft.id, folder, path, grid, tolerance_mm)
            if problem is None:
                images[kind], extra[f"{kind}_mask"] = path, folder
                break
            wrong[folder] = problem
        else:
            said = "; ".join(f"{folder} {problem}" for folder, problem in wrong.items())
            problems[kind].add(draft.id, said)
    return replace(draft, images=images, extra=extra)


def _wrong(case: str, folder: str, path: Path, grid: Grid, tolerance_mm: float) -> str | None:
    """Return why a mask cannot be used, or None."""
    if (folder, case) in _FAULTY:
        return "is known to be faulty"
    if not path.exists():
        return "has none"
    if problem := image_problem("its file", path):
        return f"has {problem}"
    try:
        differs = off_grid(read_grid(path), grid, tolerance_mm)
    except UserError:
        return "has one whose header cannot be read"
    return differs and f"is off the T2W grid, {differs}"
