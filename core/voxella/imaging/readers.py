"""Image files to voxels in the file's own axis order: NIfTI by nibabel, MetaImage and NRRD by ITK.

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
from typing import BinaryIO, NamedTuple

import numpy as np
import SimpleITK as sitk
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from voxella.imaging.headers import (
    DEFLATE_MOST,
    check_capacity,
    check_deflate,
    read_text_header,
)
from voxella.imaging.nifti_header import HeaderFault, NiftiHeader, read_nifti_header
from voxella.imaging.problem import ImageError, check_size, reading
from voxella.imaging.text_geometry import geometry_problems

__all__ = ["Affine", "Array", "Stored", "read_itk", "read_nifti"]

Array = NDArray[np.float32]
Affine = NDArray[np.float64]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_CHUNK_BYTES = 1 << 20
_WHITE = 255.0
# Names of a NIfTI voxel's numbers: one number, or colours of 8 bits.
_NIFTI_KINDS = (None, ("R", "G", "B"))
# Three of these are a colour; of other kinds they are a vector, such as a displacement.
_ITK_COLOURS = {
    "vector of 8-bit unsigned integer": _WHITE,
    "vector of 16-bit unsigned integer": 65535.0,
}


class Stored(NamedTuple):
    """An image as its file has it.

    Attributes:
        array: ``(C, *axes)`` float32, three axes in the file's own order; C is 1, or 3 for red,
            green and blue.
        affine: ``(4, 4)`` voxel index to RAS+ mm.
        white: The number that stands for white where voxels are shown as they are: 255 or 65535 for
            colours of 8 or 16 bits and for pictures, else 1.
    """

    array: Array
    affine: Affine
    white: float = 1.0


def read_nifti(path: Path) -> Stored:
    """Read a ``.nii`` or ``.nii.gz`` file in its own axis order.

    Raises:
        UserError: As :func:`voxella.imaging.volume.read_volume`, affine and NaN left aside.
    """
    packed = path.name.lower().endswith(".gz")
    with reading(path), _open(path, packed) as stream:
        header = _nifti_header(path, stream)
        kind = header.dtype
        _check_kind(path, is_vector=kind.names not in _NIFTI_KINDS, is_complex=kind.kind == "c")
        shape = _three_axes(path, header.shape[:3] if header.rgb_vector else header.shape)
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
    if kind.names is not None:
        bytes_by_colour = [stored[name].reshape(shape, order="F") for name in kind.names]
        return Stored(np.stack(bytes_by_colour).astype(np.float32), header.affine, _WHITE)
    # The vector's axis is the last: Fortran's order, turned to the front.
    stored = np.moveaxis(stored.reshape((*shape, -1), order="F"), -1, 0)
    with np.errstate(all="ignore"):  # what becomes infinite is counted with what was
        if header.scaling is not None:
            stored = apply_read_scaling(stored, *header.scaling)
        return Stored(stored.astype(np.float32), header.affine)


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


def read_itk(path: Path) -> Stored:
    """Read a MetaImage or NRRD file in its own axis order.

    Raises:
        UserError: As :func:`voxella.imaging.volume.read_volume`, affine and NaN left aside.
    """
    header = read_text_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with reading(path):
        reader.ReadImageInformation()
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
        colours = int(reader.GetNumberOfComponents())
        is_vector = colours > 1 and not (colours == 3 and kind in _ITK_COLOURS)
        _check_kind(path, is_vector=is_vector, is_complex="complex" in kind)
        size = tuple(int(count) for count in reader.GetSize())
        shape = _three_axes(path, size)
        if len(size) > 3:
            raise _not_3d(path, size)
        check_size(path, size)
        if unsaid := geometry_problems(header.fields):
            raise _unsaid(path, unsaid[0][0], "; ".join(told for _, told in unsaid))
        bits = re.search(r"(\d+)-bit", kind)
        claimed = colours * int(np.prod(size, dtype=object)) * (int(bits[1]) if bits else 8) // 8
        held = header.data_file.stat().st_size - header.data_offset
        check_capacity(path, claimed, held, header.expansion)
        if header.deflated and not {"line skip", "byte skip"} & header.fields.keys():
            check_deflate(header, claimed, path)
        image = reader.Execute()
    # SimpleITK's arrays are (z, y, x), and colours are behind.
    if colours > 1:
        planes = sitk.GetArrayFromImage(image).T.reshape(colours, *shape)
        return Stored(planes.astype(np.float32), _itk_affine(image), _ITK_COLOURS[kind])
    image = sitk.Cast(image, sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(image).T.reshape(1, *shape)
    return Stored(array, _itk_affine(image))


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


def _check_kind(path: Path, *, is_vector: bool, is_complex: bool) -> None:
    if is_vector:
        raise ImageError(
            f"{path}: colour (RGB) or vector voxels; one number per voxel is needed, or red, green "
            "and blue of 8 or 16 bits",
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
