"""A NIfTI header as it stands in the file, refused where it does not say what is needed.

nibabel's own loader fixes a damaged header: a voxel without size becomes 1 mm, an unknown code of
orientation becomes none. What it fixes it tells the console, without the file's name. Here nibabel
interprets the header (scaling, affine), and nothing is fixed that decides a voxel or a millimetre.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voxella.imaging.affine import edges_problem

__all__ = [
    "HeaderFault",
    "NiftiHeader",
    "is_rgb_vector",
    "mm_per_unit",
    "nifti_fields",
    "nifti_shape",
    "read_nifti_header",
]

_VERSIONS = {348: (nib.Nifti1Header, b"n+1", 352), 540: (nib.Nifti2Header, b"n+2", 544)}
# By these NIfTI-2 tells that no transfer in text mode has touched the file; some leave them out.
_LINE_ENDS = ((13, 10, 26, 10), (0, 0, 0, 0))
_LENGTH_MASK = 7
# Code of the unit of length -> mm; 0 is unknown, which everyone takes for mm.
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_FURTHEST_OFFSET = 1 << 31
# The standard's code for red, green and blue along the fifth axis, of whatever type.
_RGB_VECTOR = 2003


class HeaderFault(ValueError):
    """A header that lacks what it has to say.

    Args:
        code: As :class:`voxella.imaging.problem.ImageError` has it.
        message: What was found.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI file says of itself.

    Attributes:
        shape: As many axes as it claims, one to seven.
        dtype: Of the stored voxels, with their byte order.
        offset: First byte of the voxels.
        scaling: Slope and intercept, or None where the stored values are the intensities.
        affine: ``(4, 4)`` voxel index to RAS+ mm, of the file's own axis order.
        rgb_vector: The fifth axis, of three, holds red, green and blue.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    scaling: tuple[float, float] | None
    affine: NDArray[np.float64]
    rgb_vector: bool = False


def read_nifti_header(stream: BinaryIO) -> NiftiHeader:
    """Read the header of a single-file NIfTI-1 or NIfTI-2 of either byte order.

    Raises:
        HeaderFault: It does not say how large a voxel is or how it lies in the scanner.
        ValueError: It is no such header, or does not say how many, of what kind or where its
            voxels are; says what is wrong.
    """
    start = stream.read(4)
    length = _length(start)
    header = nifti_fields(start + stream.read(length - 4))
    _, magic, least_offset = _VERSIONS[length]
    if bytes(header["magic"]).rstrip(b"\0")[:3] != magic:
        raise ValueError("not a single-file NIfTI (its magic is wrong; .hdr and .img are two)")
    if length == 540 and tuple(header["eol_check"]) not in _LINE_ENDS:
        raise ValueError("changed by a transfer in text mode (NIfTI-2 end-of-line check)")
    if not 1 <= (axes := int(header["dim"][0])) <= 7:
        raise ValueError(f"its header claims {axes} axes")
    shape = nifti_shape(header)
    offset = float(header["vox_offset"])
    if not least_offset <= offset <= _FURTHEST_OFFSET:
        raise ValueError(f"its voxels cannot begin at byte {offset:g}")
    return NiftiHeader(
        shape,
        _dtype(header),
        int(offset),
        _scaling(header),
        _affine(header, shape),
        is_rgb_vector(header, shape),
    )


def nifti_fields(start: bytes) -> Any:  # noqa: ANN401 - nibabel's classes have no types
    """Return the header that a file's first bytes hold, of either byte order; nothing is judged.

    Raises:
        ValueError: They hold no whole header.
    """
    length = _length(start)
    if len(start) < length:
        raise ValueError(f"{len(start)} bytes are no whole NIfTI header")
    order = "<" if struct.pack("<i", length) == start[:4] else ">"
    return _VERSIONS[length][0](start[:length], endianness=order, check=False)


def nifti_shape(header: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    """Return the counts that a header claims, whatever they are."""
    return tuple(int(count) for count in header["dim"][1 : 1 + int(header["dim"][0])])


def _length(start: bytes) -> int:
    for length in _VERSIONS:
        if start[:4] in {struct.pack(f"{order}i", length) for order in "<>"}:
            return length
    raise ValueError("no NIfTI header (its first number is neither 348 nor 540)")


def is_rgb_vector(header: Any, shape: tuple[int, ...]) -> bool:  # noqa: ANN401 - as above
    """Return whether a header declares red, green and blue along its fifth axis."""
    return int(header["intent_code"]) == _RGB_VECTOR and len(shape) == 5 and shape[3:] == (1, 3)


def mm_per_unit(header: Any) -> float | None:  # noqa: ANN401 - as above
    """Return how many mm a header's unit of length has; None where its code is not known."""
    return _MM_PER_UNIT.get(int(header["xyzt_units"]) & _LENGTH_MASK)


def _dtype(header: Any) -> np.dtype[Any]:  # noqa: ANN401 - as above
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (KeyError, HeaderDataError):
        dtype = np.dtype("V")
    # Colour is told from damage, so that the message can say which it is.
    if dtype.kind not in "iufc" and dtype.fields is None:
        raise ValueError(f"its voxels are of the unknown kind {int(header['datatype'])}")
    return dtype


def _scaling(header: Any) -> tuple[float, float] | None:  # noqa: ANN401 - as above
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise ValueError(f"its scaling cannot be right: {error}") from error
    return None if slope is None else (float(slope), float(intercept))


def _affine(header: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:  # noqa: ANN401 - as above
    codes = {name: int(header[name]) for name in ("sform_code", "qform_code")}
    for name, code in codes.items():
        if not 0 <= code <= 5:
            raise ValueError(f"its {name} is {code}, not 0 to 5")
    flat = len(shape) < 3 or shape[2] == 1
    if not any(codes.values()) and not flat:
        raise HeaderFault(
            "geometry.no-orientation",
            "its header does not say how it lies in the scanner (sform and qform codes are 0): "
            "left and right cannot be told apart",
        )
    if (scale := mm_per_unit(header)) is None:
        unit = int(header["xyzt_units"]) & _LENGTH_MASK
        raise HeaderFault("geometry.units", f"its unit of length has the unknown code {unit}")
    # By the standard 0 stands for 1 here; a flat image need not say how thick it is.
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1
    if flat and header["pixdim"][3] == 0:
        header["pixdim"][3] = 1
    # Also where an sform gives the edges: who wrote the one did not know the other.
    wrong = edges_problem([float(edge) for edge in header["pixdim"][1 : 1 + min(len(shape), 3)]])
    if wrong is not None:
        raise HeaderFault(*wrong)
    with np.errstate(all="ignore"):  # what is not finite is refused with the affine
        affine = np.array(header.get_best_affine(), dtype=np.float64)
        affine[:3] *= scale
    return affine
