"""A NIfTI header as it stands in the file: nibabel mends spacings on the way, a check must not."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from voxella.check.image_header import HeaderProblem, ImageHeader
from voxella.imaging.headers import DEFLATE_MOST
from voxella.imaging.nifti_header import HeaderFault, mm_per_unit, read_nifti_header
from voxella.imaging.problem import Problem
from voxella.imaging.volume import Affine

__all__ = ["nifti_header"]

_NIFTI_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


def nifti_header(path: Path) -> ImageHeader:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        HeaderProblem: It is no NIfTI header. Whatever nibabel raises over a damaged one.
    """
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        start = stream.read(540)
    kind = next(
        (
            kind
            for size, kind in _NIFTI_SIZES.items()
            if size in (int.from_bytes(start[:4], order) for order in ("little", "big"))
        ),
        None,
    )
    if kind is None:
        raise HeaderProblem("image.damaged", "no NIfTI header; damaged or of another format")
    header = kind(start[: kind.template_dtype.itemsize], check=False)
    dtype = header.get_data_dtype()
    # A unit that is not known is refused, whatever the scale.
    scale = mm_per_unit(header) or 1.0
    forms = _nifti_forms(header, scale)
    offset = int(header["vox_offset"])
    shape = tuple(int(count) for count in header["dim"][1 : 1 + int(header["dim"][0])])
    return ImageHeader(
        shape=shape,
        colour=dtype.fields is not None,
        complex=dtype.kind == "c",
        voxel_bytes=dtype.itemsize,
        held_bytes=path.stat().st_size - (0 if packed else offset),
        expansion=DEFLATE_MOST if packed else 1,
        affine=next(iter(forms.values()), _scaled(_base_affine(header, shape), scale)),
        stream_offset=offset if packed else 0,
        refused=_refusal(start),
        others=dict(list(forms.items())[1:]),
    )


def _refusal(start: bytes) -> tuple[Problem, ...]:
    try:
        read_nifti_header(io.BytesIO(start))
    except HeaderFault as fault:
        return ((fault.code, str(fault)),)
    except (ValueError, HeaderDataError) as error:
        return (("image.unreadable", str(error)),)
    return ()


def _nifti_forms(header: Any, scale: float) -> dict[str, Affine]:  # noqa: ANN401 - untyped nibabel
    """Return the affines that the header vouches for, the one that is used first."""
    forms: dict[str, Affine] = {}
    if int(header["sform_code"]) > 0:
        forms["sform"] = _scaled(header.get_sform(), scale)
    if int(header["qform_code"]) > 0:
        try:
            forms["qform"] = _scaled(_with_abs_spacing(header).get_qform(), scale)
        except Exception:  # nibabel's own error for a quaternion that is none
            forms["qform"] = np.full((4, 4), np.nan)
    return forms


def _with_abs_spacing(header: Any) -> Any:  # noqa: ANN401 - untyped nibabel
    """Mend the spacing as nibabel does on reading; that it was wrong is a finding of its own."""
    mended = header.copy()
    edges = np.abs(mended["pixdim"][1:4])
    mended["pixdim"][1:4] = np.where(edges == 0, 1.0, edges)
    return mended


def _base_affine(header: Any, shape: tuple[int, ...]) -> Affine:  # noqa: ANN401 - untyped nibabel
    """Return the affine of a header without orientation; NaN where its axes make none."""
    if not shape or min(shape) < 1:
        return np.full((4, 4), np.nan)
    return np.asarray(_with_abs_spacing(header).get_base_affine(), dtype=np.float64)


def _scaled(affine: Any, scale: float) -> Affine:  # noqa: ANN401 - untyped nibabel
    return np.diag([scale, scale, scale, 1.0]) @ np.asarray(affine, dtype=np.float64)
