"""A data set as nnU-Net's version 2 reads it before it plans and trains.

Its documentation (``dataset_format.md``) and ``verify_dataset_integrity`` say what that is:
``imagesTr/CASE_0000.nii.gz`` by channel, ``labelsTr/CASE.nii.gz``, ``imagesTs`` and
``dataset.json``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from voxella.case import Case, Manifest
from voxella.data.grouping import Problems
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.plugins.contracts import Exported
from voxella.wording import named_list
from voxella_exporters.nnunet.cases import ENDING, CaseFiles, case_problems, write_case
from voxella_exporters.nnunet.labels import BACKGROUND, Labels
from voxella_exporters.selection import Selection, find_images, refuse_existing, select

__all__ = ["NnunetExport", "export_nnunet"]

DATASET = "dataset.json"
SPLITS = "splits_final.json"
_FOLDER = re.compile(r"Dataset\d{3}_.+")


@dataclass(frozen=True)
class NnunetExport:
    """How a data set is exported.

    Attributes:
        sequences: The channels, in order; none: every image that is no mask.
        mask: Name of the image that is the segmentation; None: the only mask there is.
        labels: The mask's values by name; None: every value that occurs.
        incomplete: Refuse cases that nnU-Net could not read, or list them and leave them out.
        tolerance_mm: How far voxels of two images may lie apart that count as one grid.
        name: ``name`` in ``dataset.json``.
    """

    sequences: tuple[str, ...] = ()
    mask: str | None = None
    labels: Mapping[str, int | Sequence[int]] | None = None
    incomplete: Literal["refuse", "leave_out"] = "refuse"
    tolerance_mm: float = 0.5
    name: str = "voxella"


def export_nnunet(
    dataset: Manifest, out: Path, settings: NnunetExport, *, prepared: Manifest | None = None
) -> Exported:
    """Write a raw data set of nnU-Net; ``dataset.json`` is written last.

    Cases of the splits train and val that have a mask become training cases; those of the split
    test, and all cases of a data set without masks, are cases to predict (``imagesTs``).

    Args:
        dataset: Cases, splits and masks.
        out: Folder that is made.
        settings: How.
        prepared: The same cases on one grid: their images are taken.

    Raises:
        UserError: ``dataset.json`` is there already; there are several masks and none is named; or
            cases lack images or masks, or have them on several grids: all of these cases.
    """
    refuse_existing(out / DATASET)
    source = dataset if prepared is None else prepared
    masks = () if settings.mask is None else (settings.mask,)
    # Prepared cases have the sequences of the recipe alone.
    chosen = select([case for case in source], settings.sequences, masks)
    mask = _one_mask(chosen)
    problems = Problems()
    files = _files(list(dataset), source, chosen, mask, problems)
    values = {}
    for one in files:
        told, values[one.case] = case_problems(one, settings.tolerance_mm)
        for problem in told:
            problems.add(one.case, problem)
    labels = _labels(mask, settings.labels, values, problems)
    remarks = _judge(problems, len(dataset), settings.incomplete)
    kept = [one for one in files if one.case not in problems.cases]
    by_id = {case.id: case for case in dataset}
    training = [one.case for one in kept if _is_training(by_id[one.case], mask)]
    for one in kept:
        write_case(one, out, "Tr" if one.case in training else "Ts", labels)
    written = [out / DATASET]
    if any(by_id[case].split == "val" for case in training):
        written.insert(0, write_json_atomic(out / SPLITS, _fold(training, by_id)))
    write_json_atomic(out / DATASET, _description(chosen, labels, len(training), settings.name))
    remarks += _remarks(out, training, by_id, mask, labels)
    return Exported(written, remarks, sorted(path for path in out.iterdir() if path.is_dir()))


def _one_mask(chosen: Selection) -> str | None:
    if len(chosen.masks) > 1:
        raise UserError(
            f"several images are masks: {named_list(chosen.masks)}; nnU-Net takes one",
            remedy=f"--set mask={chosen.masks[0]}",
        )
    return chosen.masks[0] if chosen.masks else None


def _is_training(case: Case, mask: str | None) -> bool:
    return mask is not None and case.split != "test"


def _files(
    cases: Sequence[Case], source: Manifest, chosen: Selection, mask: str | None, problems: Problems
) -> list[CaseFiles]:
    """Return the files of the cases that have all that they need."""

    def wanted(case: Case, there: Collection[str]) -> list[str]:
        # A case to predict needs no mask; where it has one, that is written as well.
        if mask is None or not (mask in there or _is_training(case, mask)):
            return list(chosen.sequences)
        return [*chosen.sequences, mask]

    found = find_images(cases, source, wanted, problems)
    return [
        CaseFiles(
            case,
            {name: paths[name] for name in chosen.sequences},
            None if mask is None else paths.get(mask),
        )
        for case, paths in found.items()
        if case not in problems.cases
    ]


def _labels(
    mask: str | None,
    given: Mapping[str, int | Sequence[int]] | None,
    values: Mapping[str, set[int]],
    problems: Problems,
) -> Labels | None:
    if mask is None:
        return None
    if given is None:
        return Labels.found(mask, set().union(*values.values()))
    labels = Labels.given(given)
    for case, own in values.items():
        for value in sorted(own - labels.values.keys()):
            problems.add(case, f"the mask holds {value}, which has no name in labels")
    return labels


def _judge(problems: Problems, total: int, incomplete: str) -> list[str]:
    """Return a remark on what is left out, or refuse it.

    Raises:
        UserError: There are problems that are not to be left out, or nothing else.
    """
    bad = len(problems.cases)
    if not bad:
        return []
    told = "\n".join([f"{bad} of {total} cases have what nnU-Net cannot read:", *problems.lines()])
    if incomplete == "refuse" or bad == total:
        raise UserError(
            told,
            remedy="put sequences on one grid, voxella prepare RECIPE --dataset DATASET --out RUN, "
            "and give --prepared RUN/prepared; or leave these cases out: "
            "--set incomplete=leave_out",
        )
    return [f"left out: {told}"]


def _fold(training: Sequence[str], by_id: Mapping[str, Case]) -> list[dict[str, list[str]]]:
    """Return the data set's own split as the one fold of nnU-Net's ``splits_final.json``."""
    parts = {name: [c for c in training if by_id[c].split == name] for name in ("train", "val")}
    return [parts]


def _description(
    chosen: Selection, labels: Labels | None, training: int, name: str
) -> dict[str, Any]:
    from voxella import __version__

    return {
        "channel_names": {str(n): sequence for n, sequence in enumerate(chosen.sequences)},
        "labels": {BACKGROUND: 0} if labels is None else labels.declared(),
        "numTraining": training,
        "file_ending": ENDING,
        "name": name,
        "converted_by": f"voxella {__version__}",
    }


def _remarks(
    out: Path,
    training: Sequence[str],
    by_id: Mapping[str, Case],
    mask: str | None,
    labels: Labels | None,
) -> list[str]:
    remarks = []
    if mask is None:
        remarks.append(
            "no case has a mask: all are in imagesTs, for nnUNetv2_predict; nothing to train on"
        )
    if labels is not None and labels.are_renumbered:
        told = ", ".join(f"{value} is {label}" for value, label in labels.values.items())
        remarks.append(f"labels have no gaps in nnU-Net; of the mask's values {told}")
    groups = Counter(by_id[case].group for case in training)
    if any(by_id[case].split == "val" for case in training):
        remarks.append(f"{SPLITS} holds train and val as fold 0: copy it to nnUNet_preprocessed/")
    elif any(count > 1 for count in groups.values()):
        remarks.append("some patients have several cases, and nnU-Net's own folds part them")
    if not _FOLDER.fullmatch(out.absolute().name):
        remarks.append("nnU-Net reads folders called DatasetNNN_NAME, such as Dataset501_VOXELLA")
    return remarks
