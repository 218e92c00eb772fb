"""Image files to voxels in the file's own axis order: NIfTI by nibabel, the rest by SimpleITK.

SimpleITK would read NIfTI too, but returns garbage without an error when the file is truncated, and
refuses NIfTI-2 and affines that are not quite orthonormal. nibabel interprets the header; the bytes
are read here, so that none is missing and none more is held than the file has.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.imaging.headers import (
    DEFLATE_MOST,
    check_capacity,
    check_deflate,
    read_text_header,
)
from voxella.imaging.nifti_header import HeaderFault, NiftiHeader, read_nifti_header
from voxella.imaging.problem import ImageError, check_size
from voxella.imaging.text_geometry import geometry_problems
from voxella.machine import raise_if_machine

__all__ = ["Affine", "Array", "read_itk", "read_nifti"]

Array = NDArray[np.float32]
Affine = NDArray[np.float64]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_CHUNK_BYTES = 1 << 20


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises over a damaged file into one message that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise_if_machine(error, path)
        # The last line is the reason; SimpleITK's earlier ones are its own source positions.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ImageError(
            f"{path}: cannot be read, truncated or damaged: {reason}",
            code="image.damaged",
            remedy="open it in a viewer, or copy it again from its source",
        ) from error


def read_nifti(path: Path) -> tuple[Array, Affine]:
    """Read a ``.nii`` or ``.nii.gz`` file in its own axis order.

    Raises:
        UserError: As :func:`voxella.imaging.volume.read_volume`, affine and NaN left aside.
    """
    packed = path.name.lower().endswith(".gz")
    with _named(path), _open(path, packed) as stream:
        header = _nifti_header(path, stream)
        kind = header.dtype
        _check_kind(path, colour=kind.fields is not None, is_complex=kind.kind == "c")
        shape = _three_axes(path, header.shape)
        check_size(path, header.shape)
        claimed = int(np.prod(header.shape, dtype=object)) * kind.itemsize
        before = 0 if packed else header.offset
        expansion = DEFLATE_MOST if packed else 1
        check_capacity(path, claimed, path.stat().st_size - before, expansion)
        stream.seek(header.offset)
        stored = np.frombuffer(_read_exactly(stream, claimed), dtype=kind)
        # To the end of the stream: only there is gzip's checksum compared.
        while stream.read(_CHUNK_BYTES):
            pass
    stored = stored.reshape(shape, order="F")
    with np.errstate(all="ignore"):  # what becomes infinite is counted with what was
        if header.scaling is not None:
            stored = apply_read_scaling(stored, *header.scaling)
        return stored.astype(np.float32), header.affine


def _nifti_header(path: Path, stream: BinaryIO) -> NiftiHeader:
    try:
        return read_nifti_header(stream)
    except ValueError as error:
        code = error.code if isinstance(error, HeaderFault) else "image.unreadable"
        raise _unsaid(path, code, str(error)) from error


def _read_exactly(stream: BinaryIO, count: int) -> bytearray:
    """Read without allocating what a header claims before the file has shown that it is there."""
    content = bytearray()
    while len(content) < count:
        chunk = stream.read(min(_CHUNK_BYTES, count - len(content)))
        if not chunk:
            raise ValueError(f"{len(content):,} of {count:,} bytes of voxels can be read")
        content += chunk
    return content


@contextmanager
def _open(path: Path, packed: bool) -> Iterator[BinaryIO]:
    if packed:
        with gzip.open(path, "rb") as unpacked:
            yield unpacked  # type: ignore[misc]  # GzipFile reads and seeks like any BinaryIO
    else:
        with path.open("rb") as plain:
            yield plain


def read_itk(path: Path) -> tuple[Array, Affine]:
    """Read a MetaImage or NRRD file in its own axis order.

    Raises:
        UserError: As :func:`voxella.imaging.volume.read_volume`, affine and NaN left aside.
    """
    header = read_text_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _named(path):
        reader.ReadImageInformation()
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
        is_complex = "complex" in kind
        _check_kind(path, colour=reader.GetNumberOfComponents() > 1, is_complex=is_complex)
        size = tuple(int(count) for count in reader.GetSize())
        shape = _three_axes(path, size)
        if len(size) > 3:
            raise _not_3d(path, size)
        check_size(path, size)
        if unsaid := geometry_problems(header.fields):
            raise _unsaid(path, unsaid[0][0], "; ".join(told for _, told in unsaid))
        bits = re.search(r"(\d+)-bit", kind)
        claimed = int(np.prod(size, dtype=object)) * (int(bits[1]) if bits else 8) // 8
        held = header.data_file.stat().st_size - header.data_offset
        check_capacity(path, claimed, held, header.expansion)
        if header.deflated and not {"line skip", "byte skip"} & header.fields.keys():
            check_deflate(header, claimed, path)
        image = sitk.Cast(reader.Execute(), sitk.sitkFloat32)
    # SimpleITK's arrays are (z, y, x).
    array = sitk.GetArrayFromImage(image).T.reshape(shape)
    return array, _itk_affine(image)


def _unsaid(path: Path, code: str, problem: str) -> ImageError:
    remedy = "convert it from its DICOM again, or copy it again from its source"
    return ImageError(f"{path}: {problem}", code=code, remedy=remedy)


def _itk_affine(image: sitk.Image) -> Affine:
    """Return voxel index to RAS+ mm; ITK's own millimetres are LPS+."""
    axes = image.GetDimension()
    lps = np.eye(4)
    direction = np.asarray(image.GetDirection(), dtype=np.float64).reshape(axes, axes)
    lps[:axes, :axes] = direction * np.asarray(image.GetSpacing(), dtype=np.float64)
    lps[:axes, 3] = image.GetOrigin()
    return np.asarray(_LPS_TO_RAS @ lps, dtype=np.float64)


def _check_kind(path: Path, *, colour: bool, is_complex: bool) -> None:
    if colour:
        raise ImageError(
            f"{path}: colour (RGB) or vector voxels; one number per voxel is needed",
            code="image.colour",
        )
    if is_complex:
        raise ImageError(f"{path}: complex voxels; save the magnitude image", code="image.complex")


def _three_axes(path: Path, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape with exactly three axes: 2D gets one slice, trailing ones are dropped."""
    if 0 in size or any(count < 0 for count in size):
        raise ImageError(f"{path}: an axis without voxels: {size}", code="image.no-voxels")
    kept = size
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if len(kept) > 3 or len(kept) < 2:
        raise _not_3d(path, size)
    return (*kept, 1) if len(kept) == 2 else kept


def _not_3d(path: Path, size: tuple[int, ...]) -> ImageError:
    shape = " x ".join(str(count) for count in size)
    return ImageError(
        f"{path}: {len(size)}D image ({shape}); one 3D volume is needed",
        code="image.not-3d",
        remedy="split a time series or a multi-b-value series into one file per volume",
    )
