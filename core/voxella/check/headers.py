"""An image's header, read without a voxel: by its format, or why there is none to be had.

A MetaImage's or NRRD's header as it stands in the file: SimpleITK fixes spacings on the way.

A NIfTI header as it stands in the file: nibabel fixes spacings on the way, a check must not.
"""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import HeaderDataError

from voxella.check.image_header import HeaderProblem, ImageHeader
from voxella.errors import UserError
from voxella.imaging.headers import (
    DEFLATE_MOST,
    TextHeader,
    check_image_file,
    image_suffix,
    is_raster,
    read_text_header,
)
from voxella.imaging.nifti_header import (
    HeaderFault,
    is_rgb_vector,
    mm_per_unit,
    nifti_fields,
    nifti_shape,
    read_nifti_header,
)
from voxella.imaging.problem import ImageError, Problem
from voxella.imaging.raster import read_raster_header
from voxella.imaging.shards import row_of
from voxella.imaging.text_geometry import geometry_problems
from voxella.imaging.volume import PIXEL_AFFINE, Affine
from voxella.machine import raise_if_machine

__all__ = ["read_header", "without_path"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_header(path: Path) -> ImageHeader:
    """Read an image's header.

    Raises:
        HeaderProblem: There is no such file, or it is no image, or its header cannot be read.
    """
    try:
        check_image_file(path)
        if str(image_suffix(path)).startswith(".nii"):
            return nifti_header(path)
        if is_raster(path):
            return raster_header(path)
        return itk_header(path, read_text_header(path))
    except HeaderProblem:
        raise
    except ImageError as error:
        raise_if_machine(error)
        raise HeaderProblem(error.code, without_path(error, path)) from error
    except Exception as error:
        raise_if_machine(error, path)
        # Whatever a parser raises over a damaged header; its words may quote the header.
        problem = f"truncated or damaged: its header cannot be read ({type(error).__name__})"
        raise HeaderProblem("image.damaged", problem) from error


def raster_header(path: Path) -> ImageHeader:
    """Read the header of a PNG, JPEG or TIFF file.

    Raises:
        ImageError: As :func:`voxella.imaging.raster.read_raster_header`.
    """
    found, row = read_raster_header(path), row_of(path)
    # Of compressed pixels the size of the file says nothing.
    return ImageHeader(
        shape=found.size,
        colour=found.colour,
        complex=False,
        voxel_bytes=0,
        held_bytes=path.stat().st_size if row is None else row.length,
        expansion=1,
        affine=PIXEL_AFFINE,
        offset_known=False,
        in_mm=False,
    )


def itk_header(path: Path, text: TextHeader) -> ImageHeader:
    """Read the header of a file whose opening text has been found sound.

    Raises:
        RuntimeError: SimpleITK's, over a damaged header.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    bits = re.search(r"(\d+)-bit", kind)
    components = int(reader.GetNumberOfComponents())
    spacing = tuple(float(edge) for edge in reader.GetSpacing())
    axes = len(spacing)
    lps = np.eye(4)
    kept = min(axes, 3)
    direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(axes, axes)
    lps[:kept, :kept] = (direction * np.asarray(spacing))[:kept, :kept]
    lps[:kept, 3] = reader.GetOrigin()[:kept]
    return ImageHeader(
        shape=tuple(int(count) for count in reader.GetSize()),
        colour=components > 1 and "complex" not in kind,
        complex="complex" in kind,
        voxel_bytes=components * (int(bits[1]) if bits else 8) // 8,
        held_bytes=text.data_file.stat().st_size - text.data_offset,
        expansion=text.expansion,
        affine=np.asarray(_LPS_TO_RAS @ lps, dtype=np.float64),
        refused=tuple(geometry_problems(text.fields)),
        offset_known=not {"headersize", "line skip", "byte skip"} & text.fields.keys(),
    )


def nifti_header(path: Path) -> ImageHeader:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        HeaderProblem: It is no NIfTI header. Whatever nibabel raises over a damaged one.
    """
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        start = stream.read(540)
    try:
        header = nifti_fields(start)
    except ValueError as error:
        problem = "no NIfTI header; damaged or of another format"
        raise HeaderProblem("image.damaged", problem) from error
    dtype = header.get_data_dtype()
    # A unit that is not known is refused, whatever the scale.
    scale = mm_per_unit(header) or 1.0
    forms = _nifti_forms(header, scale)
    offset = int(header["vox_offset"])
    shape = nifti_shape(header)
    in_vectors = is_rgb_vector(header, shape)
    shape = shape[:3] if in_vectors else shape
    return ImageHeader(
        shape=shape,
        colour=dtype.fields is not None or in_vectors,
        complex=dtype.kind == "c",
        voxel_bytes=dtype.itemsize * (3 if in_vectors else 1),
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
    """Fix the spacing as nibabel does on reading; that it was wrong is a finding of its own."""
    fixed = header.copy()
    edges = np.abs(fixed["pixdim"][1:4])
    fixed["pixdim"][1:4] = np.where(edges == 0, 1.0, edges)
    return fixed


def _base_affine(header: Any, shape: tuple[int, ...]) -> Affine:  # noqa: ANN401 - untyped nibabel
    """Return the affine of a header without orientation; NaN where its axes make none."""
    if not shape or min(shape) < 1:
        return np.full((4, 4), np.nan)
    return np.asarray(_with_abs_spacing(header).get_base_affine(), dtype=np.float64)


def _scaled(affine: Any, scale: float) -> Affine:  # noqa: ANN401 - untyped nibabel
    return np.diag([scale, scale, scale, 1.0]) @ np.asarray(affine, dtype=np.float64)


def without_path(error: UserError, path: Path) -> str:
    """Return what an error says, less the folder: findings name case and sequence."""
    return error.problem.replace(f"{path}: ", "").replace(f"{path.parent}/", "")
