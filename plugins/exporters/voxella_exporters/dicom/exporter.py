"""A data set's volumes as derived MR series: ``CASE/01_t2w/0001.dcm``, and ``series.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxella.case import Case, Manifest
from voxella.case_fields import stored_window
from voxella.data.grouping import Problems
from voxella.errors import UserError
from voxella.files import atomic_path, write_json_atomic
from voxella.hashing import sha256_bytes, sha256_json
from voxella.imaging.volume import Volume, read_image
from voxella.plugins.contracts import Exported
from voxella.wording import named_list
from voxella_exporters.dicom.headers import Series, header, image, patient_id, uid
from voxella_exporters.dicom.slices import cut
from voxella_exporters.dicom.stored import store
from voxella_exporters.names import ExportedName, exported_names, is_synthetic
from voxella_exporters.selection import find_images, refuse_existing, select

__all__ = ["export_dicom"]

INDEX = "series.json"
# What the derivation tells of how a synthetic image was made; codes and numbers, all of them.
_MADE_BY = ("model", "seed", "sampler", "steps", "guidance")


@dataclass(frozen=True)
class _Job:
    case: Case
    name: ExportedName
    sequence: str
    number: int
    path: Path
    voxels_sha256: str

    @property
    def folder(self) -> Path:
        return Path(self.name.case) / f"{self.number:02d}_{self.sequence}"


def export_dicom(
    dataset: Manifest,
    out: Path,
    sequences: Sequence[str] = (),
    *,
    prepared: Manifest | None = None,
) -> Exported:
    """Write every sequence of every case as a series; ``series.json`` is written last.

    Args:
        dataset: Grey volumes with millimetres. Masks are left out.
        out: Folder that is made.
        sequences: Which; none: every image that is no mask. A case may lack some.
        prepared: The same cases on one grid: their images are taken.

    Raises:
        UserError: ``series.json`` is there already, or an image cannot be an MR series: all of
            these cases.
    """
    refuse_existing(out / INDEX)
    cases = list(dataset)
    source = dataset if prepared is None else prepared
    chosen = select(list(source), sequences, ())
    jobs = _jobs(cases, source, chosen.sequences)
    known: dict[str, list[str]] = {}
    for job in jobs:
        known.setdefault(job.case.id, []).append(job.voxels_sha256)
    rows = [_write(job, out, known[job.case.id]) for job in jobs]
    write_json_atomic(out / INDEX, rows)
    made = sum(is_synthetic(case) for case in cases if case.id in known)
    remarks = [
        f"{len(rows)} series of {len(known)} cases, {made} of them synthetic: "
        "(0008,001C) says which"
    ]
    if made < len(known):
        remarks.append("real cases are P00001-01 and so on, in the manifest's order of groups")
    if lacking := len(cases) - len(known):
        remarks.append(f"{lacking} cases have none of these images")
    if chosen.masks and not sequences:
        remarks.append(f"masks are no MR images and left out: {named_list(chosen.masks)}")
    return Exported([out / INDEX], remarks)


def _jobs(cases: Sequence[Case], source: Manifest, sequences: Sequence[str]) -> list[_Job]:
    """Return the series to write, each of which can be one.

    Raises:
        UserError: Some cannot, or there is none.
    """
    names = exported_names(cases)
    problems, jobs = Problems(), []
    found = find_images(
        cases, source, lambda _, there: [name for name in sequences if name in there], problems
    )
    for case in cases:
        for name, path in found.get(case.id, {}).items():
            digest, why = _look(path)
            if why is not None:
                problems.add(case.id, f"{name} {why}")
            number = sequences.index(name) + 1
            jobs.append(_Job(case, names[case.id], name, number, path, digest))
    if problems.cases or not jobs:
        told = [f"{len(problems.cases)} cases cannot be MR series:", *problems.lines()]
        raise UserError(
            "\n".join(told) if problems.cases else "no case has an image to export",
            remedy="leave the image out, --set sequences=[NAME, ...]; pictures and colours are no "
            "MR images: hand them on as NIfTI or PNG",
        )
    return jobs


def _look(path: Path) -> tuple[str, str | None]:
    """Return a hash of an image's voxels, and why it cannot be an MR series, or None."""
    try:
        image = read_image(path)
    except UserError as error:
        return "", error.problem.removeprefix(f"{path}: ")
    why = None
    if image.is_colour:
        why = "is in colours, and MR images are grey"
    elif not image.in_mm:
        why = "is a picture without millimetres, which an MR image needs"
    elif not np.isfinite(image.first.array).all():
        why = "holds NaN or infinity, which a whole number of 16 bits cannot be"
    return sha256_bytes(image.array.tobytes()), why


def _write(job: _Job, out: Path, voxels: Sequence[str]) -> dict[str, Any]:
    """Write one series and return its row of ``series.json``.

    Args:
        job: Which.
        out: The export.
        voxels: Hashes of the voxels of all the case's series.
    """
    from voxella import __version__

    volume = read_image(job.path).first
    slices, told = cut(volume), _told(job, volume, voxels)
    stored = store(slices.voxels)
    common = header(told, slices, stored, __version__)
    for index in range(len(slices.voxels)):
        data = image(common, slices, stored.pixels, index)
        with atomic_path(out / job.folder / f"{index + 1:04d}.dcm") as temporary:
            data.save_as(temporary, enforce_file_format=True)
    return {
        "folder": job.folder.as_posix(),
        "patient": told.patient,
        "case": job.name.case,
        "sequence": job.sequence,
        "synthetic": told.synthetic,
        "StudyInstanceUID": told.study,
        "SeriesInstanceUID": told.series,
        "images": len(slices.voxels),
        "slope": stored.slope,
        "intercept": stored.intercept,
    }


def _told(job: _Job, volume: Volume, voxels: Sequence[str]) -> Series:
    extra = job.case.extra
    synthetic = is_synthetic(job.case)
    # The name stands for the id: a hash of a real id could be found again by trying ids.
    who = [extra.get("model"), extra.get("seed"), job.name.case]
    study = who if synthetic else [job.name.case, sorted(voxels)]
    rule = (extra.get("intensity") or {}).get(job.sequence) or {}
    low, high = stored_window(extra, job.sequence)
    if not synthetic:
        low, high = float(volume.array.min()), float(volume.array.max())
    made = ", ".join(f"{name} {extra[name]}" for name in _MADE_BY if extra.get(name) is not None)
    return Series(
        patient=patient_id(job.name.group),
        study=uid("study", synthetic, study),
        # Of the voxels too: other settings of the sampler make another image of one seed.
        series=uid(
            "series",
            synthetic,
            study,
            job.sequence,
            job.voxels_sha256,
            sha256_json(volume.affine.tolist()),
        ),
        frame=uid("frame", synthetic, study),
        number=job.number,
        description=f"{job.sequence}, synthetic" if synthetic else job.sequence,
        synthetic=synthetic,
        model=str(extra.get("model") or "") if synthetic else "",
        derivation=f"Synthetic image of a latent diffusion model: {made}"
        if synthetic
        else "Research copy of a volume; nothing of its source's header is kept",
        window=(low, high),
        unit=str(rule.get("unit") or "US")[:64].replace("\\", "/"),
    )
