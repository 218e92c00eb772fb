"""The importer: cases to files, in parallel, resumable, with a manifest at the end.

Which split a patient belongs to.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.case import Case, Manifest, Split
from voxella.case.texts import REPORT
from voxella.errors import UserError
from voxella.files import atomic_path, make_folder, write_json_atomic, write_text_atomic
from voxella.hashing import sha256_file
from voxella.progress import Steps
from voxella_importers.phantom.facts import case_id, draw_facts, patient_of
from voxella_importers.phantom.making import is_whole, made
from voxella_importers.phantom.report import write_report
from voxella_importers.phantom.settings import PhantomSettings, fraction
from voxella_importers.phantom.truth import read_truth, truth_of
from voxella_importers.phantom.volume import render

__all__ = ["PhantomImporter", "make_case", "split_of"]


class PhantomImporter:
    """Writes a phantom data set; cases that are already there and whole are kept.

    Args:
        settings: Checked settings.
    """

    def __init__(self, settings: PhantomSettings) -> None:
        self.settings = settings

    def __call__(self, out: Path) -> Manifest:
        """Write images, reports, truth and the manifest under ``out`` and return the manifest."""
        out = Path(out)
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file, not a folder", remedy="give --out another path")
        make_folder(out)
        total = self.settings.cases
        missing = [n for n in range(total) if not _is_whole(self.settings, n, out)]
        with Steps("phantom cases", total, first=total - len(missing)) as steps:
            for _ in self._made(missing, out):
                steps.advance()
        manifest = Manifest(out, [self._case(index, out) for index in range(total)])
        manifest.write()
        return manifest

    def _made(self, missing: list[int], out: Path) -> Iterator[int]:
        """Make the missing cases, yielding each when its files are there."""
        # A process takes about as long to start as two cases to make.
        workers = min(self.settings.workers, len(missing) // 3)
        return made(
            make_case,
            self.settings,
            missing,
            out,
            workers=workers,
            importer="phantom",
            what="cases",
        )

    def _case(self, index: int, out: Path) -> Case:
        """Return the manifest's entry, from the truth on disk."""
        settings, paths = self.settings, _Paths(case_id(index))
        truth = read_truth(out / paths.truth)
        return Case(
            id=truth.id,
            group=truth.patient,
            images={"t2w": paths.image},
            texts={REPORT: paths.report} if truth.has_report else {},
            texts_sha256={REPORT: truth.files[paths.report]} if truth.has_report else {},
            label=truth.label,
            label_source="phantom",
            split=split_of(
                settings.seed,
                index,
                val_share=settings.val_share,
                test_share=settings.test_share,
            ),
            truth=paths.truth,
            conditions={
                "age": float(truth.age),
                "psa": truth.psa,
                "volume": truth.gland.volume_ml,
            },
            extra={"pirads": truth.pirads, "age": truth.age},
        )


@dataclass(frozen=True)
class _Paths:
    """A case's files, relative to the data set."""

    id: str

    @property
    def image(self) -> str:
        return f"images/{self.id}_t2w.nii.gz"

    @property
    def report(self) -> str:
        return f"reports/{self.id}.txt"

    @property
    def labels(self) -> str:
        return f"truth/{self.id}_labels.nii.gz"

    @property
    def truth(self) -> str:
        return f"truth/{self.id}.json"


def make_case(settings: PhantomSettings, index: int, out: Path) -> int:
    """Write case ``index`` under ``out`` and return the index.

    The truth is written last and holds the other files' hashes: it marks the case as whole.
    """
    facts = draw_facts(settings, index)
    paths = _Paths(facts.id)
    (out / paths.truth).unlink(missing_ok=True)
    volume = render(facts, settings.size)
    _write_nifti(out / paths.image, volume.image, volume.affine)
    _write_nifti(out / paths.labels, volume.labels, volume.affine)
    written = [paths.image, paths.labels]
    if facts.has_report:
        write_text_atomic(out / paths.report, write_report(facts, settings.report_style))
        written.append(paths.report)
    else:
        (out / paths.report).unlink(missing_ok=True)
    hashes = {name: sha256_file(out / name) for name in written}
    truth = truth_of(facts, files=hashes, settings_sha256=settings.case_hash())
    write_json_atomic(out / paths.truth, truth.model_dump(mode="json"))
    return index


def _is_whole(settings: PhantomSettings, index: int, out: Path) -> bool:
    """Return whether the case lies there already, made from the same settings and unharmed."""
    return is_whole(read_truth, out / _Paths(case_id(index)).truth, out, settings.case_hash())


def _write_nifti(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.floating]) -> None:
    """Write a NIfTI whose qform and sform agree; the same voxels give the same bytes."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        # No time and no name in the gzip header, or equal cases would differ by their bytes.
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=2, mtime=0))


def split_of(seed: int, index: int, *, val_share: float, test_share: float) -> Split:
    """Return the split of case ``index``: that of its patient, whatever the number of cases.

    Patients go where a hash of (seed, patient) says, with three fixed: the patients of cases 0, 2
    and 4 train, test and validate. So two cases hold a training case, three a test case too and
    six cases one of each split. A share of zero empties its split, the fixed patient included.
    """
    patient = patient_of(seed, index)
    fixed: dict[str, Split] = {patient_of(seed, 0): "train"}
    if test_share > 0:
        fixed[patient_of(seed, 2)] = "test"
    if val_share > 0:
        fixed[patient_of(seed, 4)] = "val"
    if patient in fixed:
        return fixed[patient]
    place = fraction(seed, "split", patient)
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"
