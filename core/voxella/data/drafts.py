"""From what an importer found to a data set folder: the last steps, the same for all importers.

Splits by patient, the same on every machine and for every order of the cases.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.case import Case, ConditionValue, Manifest, Split
from voxella.case.manifest import MANY
from voxella.case.texts import REPORT
from voxella.case_fields import field_problem
from voxella.data.reports import Report, write_report
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.old_names import old_names
from voxella.terminal import complain
from voxella.texts.ids import alike
from voxella.wording import listed

__all__ = ["CaseDraft", "DatasetWriter", "split_of", "warn"]

if not TYPE_CHECKING:
    _OLD_NAMES = {"Draft": "CaseDraft", "Assembly": "DatasetWriter"}
    __getattr__ = old_names(__name__, _OLD_NAMES, globals())

_SMALL = 10
_HOLD_NONE = "hold none out: --set val_share=0 --set test_share=0   (another draw: --set seed=1)"


@dataclass
class CaseDraft:
    """One case as an importer found it.

    Attributes:
        id: The case's id, allowed in a manifest.
        group: Whose it is: its patient, its slide.
        images: Source file by sequence.
        report: Its report, or None.
        texts: Its other texts by name, such as ``impression``.
        label: Its class, or None.
        label_source: Where the label comes from.
        split: Its split, or None: decided by a hash of the group.
        conditions: What a model may be conditioned on, by name: numbers and words.
        extra: What else the manifest keeps; numbers and short codes, never free text.
    """

    id: str
    group: str
    images: dict[str, Path]
    report: Report | None = None
    label: str | None = None
    label_source: str | None = None
    split: Split | None = None
    texts: dict[str, Report] = field(default_factory=dict)
    conditions: dict[str, ConditionValue] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetWriter:
    """How drafts become a data set.

    Attributes:
        copy: Copy images into the data set; otherwise the manifest names them where they are.
        seed: Of the split.
        val_share: Share of patients held out for validation, where drafts have no split.
        test_share: Share of patients held out for testing, where drafts have no split.
        parquet_above: More cases than these become a Parquet manifest.
    """

    copy: bool = False
    seed: int = 0
    val_share: float = 0.1
    test_share: float = 0.1
    parquet_above: int = MANY

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        return check_shares(self.val_share, self.test_share)

    def write(self, drafts: Sequence[CaseDraft], out: Path) -> Manifest:
        """Write reports, images where they are copied, and the manifest, last.

        Raises:
            UserError: A field holds what may be free text, no case is left for training, ids differ
                in letter case only, or detached voxels would be left behind.
        """
        _refuse_sentences(drafts, copied=self.copy)
        splits = {draft.id: draft.split or self._split(draft.group) for draft in drafts}
        _check_splits(drafts, splits)
        _refuse_case_only(drafts)
        _warn_alike(drafts, splits)
        if self.copy:
            _refuse_detached(drafts)
        manifest = Manifest(out, [self._case(draft, splits[draft.id], out) for draft in drafts])
        manifest.write(parquet_above=self.parquet_above)
        return manifest

    def _split(self, patient: str) -> Split:
        shares = {"val_share": self.val_share, "test_share": self.test_share}
        return split_of(patient, seed=self.seed, **shares)

    def _case(self, draft: CaseDraft, split: Split, out: Path) -> Case:
        files: dict[str, str] = {}
        hashes: dict[str, str] = {}
        extra = dict(draft.extra)
        texts = draft.texts if draft.report is None else {REPORT: draft.report, **draft.texts}
        for name, text in texts.items():
            files[name], hashes[name] = write_report(out, draft.id, text, name)
            extra[f"{name}_encoding"] = text.encoding
        return Case(
            id=draft.id,
            group=draft.group,
            images={name: self._image(draft.id, name, p, out) for name, p in draft.images.items()},
            texts=files,
            texts_sha256=hashes,
            label=draft.label,
            label_source=draft.label_source if draft.label is not None else None,
            split=split,
            conditions=draft.conditions,
            extra=extra,
        )

    def _image(self, case: str, sequence: str, path: Path, out: Path) -> str:
        if path.is_relative_to(out):
            return path.relative_to(out).as_posix()  # the importer has put it there
        if not self.copy:
            return str(path.resolve())
        # The last two suffixes at most: a name may hold dots of its own.
        suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
        relative = f"images/{case}_{sequence}{suffix}"
        with atomic_path(out / relative) as temporary:
            shutil.copyfile(path, temporary)
        return relative


def warn(line: str) -> None:
    """Tell the user, on stderr, what was left out or assumed. Counts and ids, never report text."""
    complain(f"warning: {line}")


def _refuse_sentences(drafts: Sequence[CaseDraft], *, copied: bool) -> None:
    """Refuse what may be a report's text: all fields of all cases at once, none of it quoted."""
    found: dict[str, list[str]] = {}
    for draft in drafts:
        fields = {
            "group": draft.group,
            # A copy is called after its case.
            "images": {n: "" if copied else str(p.resolve()) for n, p in draft.images.items()},
            "label": draft.label,
            "label_source": draft.label_source,
            "conditions": draft.conditions,
            "extra": draft.extra,
        }
        for name, value in fields.items():
            if (why := field_problem(name, value)) is not None:
                found.setdefault(f"{name} {why}", []).append(draft.id)
    if found:
        lines = [f"{what} (cases {listed(sorted(cases))})" for what, cases in found.items()]
        raise UserError(
            "\n".join(["free text is not kept in a manifest:", *lines]),
            remedy="give codes: ids, classes, files' names; the text of a report belongs into the "
            "column or the files of reports",
        )


def _check_splits(drafts: Sequence[CaseDraft], splits: Mapping[str, Split]) -> None:
    """Refuse a data set that trains on nothing; say when a small one trains on little."""
    held = sum(split != "train" for split in splits.values())
    drawn = any(draft.split is None for draft in drafts)
    if held == len(drafts):
        raise UserError(
            f"none of the {held} cases falls into the split train",
            remedy=_HOLD_NONE if drawn else "put cases into train where the splits come from",
        )
    if held and drawn and len(drafts) < _SMALL:
        warn(f"{held} of only {len(drafts)} cases are held out for val or test; {_HOLD_NONE}")


def _refuse_case_only(drafts: Sequence[CaseDraft]) -> None:
    """Ids name files, and many file systems (Windows, macOS, shares) would write one for both."""
    groups: dict[str, list[str]] = {}
    for draft in drafts:
        groups.setdefault(draft.id.lower(), []).append(draft.id)
    same = [" and ".join(ids) for ids in groups.values() if len(set(ids)) > 1]
    if same:
        raise UserError(
            "\n".join(f"cases {ids} differ in letter case only" for ids in same),
            remedy="give each study an id of its own, whatever the case of its letters",
        )


def _warn_alike(drafts: Sequence[CaseDraft], splits: Mapping[str, Split]) -> None:
    """Warn of patients who may be one: then a model is tested on whom it was trained on."""
    for group in alike(draft.group for draft in drafts):
        cases = [draft.id for draft in drafts if draft.group in group]
        within = sorted({splits[case] for case in cases})
        where = f"; they stand in the splits {', '.join(within)}" if len(within) > 1 else ""
        # The patients are not named: some hospitals' numbers identify.
        warn(
            f"cases {listed(sorted(cases))} have {len(group)} patients whose ids differ only in "
            f"letter case, padding, parting or signs that cannot be seen{where}; write them alike "
            "if they are one patient"
        )


def _refuse_detached(drafts: Sequence[CaseDraft]) -> None:
    """A ``.mhd`` or ``.nhdr`` copied by itself would lose its voxels."""
    bad = [
        f"case {draft.id}: {name} has its voxels in a file of their own ({path.name})"
        for draft in drafts
        for name, path in draft.images.items()
        if path.suffix.lower() in {".mhd", ".nhdr"}
    ]
    if bad:
        raise UserError("\n".join(bad), remedy="leave copy off, or convert them to .nii.gz")


def split_of(patient: str, *, seed: int, val_share: float, test_share: float) -> Split:
    """Return a patient's split, from a hash of seed and patient.

    A patient stays where it is when others join or leave; in return the shares are met on average,
    not exactly.
    """
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"


def check_shares(val_share: float, test_share: float) -> list[str]:
    """Return what is wrong with two shares."""
    if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
        return [
            f"val_share {val_share:g} and test_share {test_share:g} have to be 0 or more and "
            "together below 1"
        ]
    return []
