"""A volume's pixels, by SimpleITK, to NIfTI that holds voxels and geometry and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella.limits import VOXELS
from voxella.machine import raise_if_machine
from voxella_importers.dicom.stack import Refusal, Stack

__all__ = ["check_decodable", "write_stack"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A corner of the volume lies this near to where the headers put it, or the reading went wrong.
_NEAR_MM = 0.01


def write_stack(volume: Stack, target: Path) -> None:
    """Read a volume's pixels and write them as NIfTI in RAS order; values are never interpolated.

    Args:
        volume: The volume by its headers.
        target: Ends in ``.nii.gz``.

    Raises:
        Refusal: SimpleITK cannot read it, or sees another geometry than the headers'.
    """
    _require_size(volume)
    with _quiet_itk():
        image = _read(volume)
    affine = _affine(image)
    _compare(affine, image.GetSize(), volume)
    # SimpleITK's arrays are (slice, row, column).
    array = sitk.GetArrayFromImage(image).T
    turned = nib.as_closest_canonical(nib.Nifti1Image(array, _LPS_TO_RAS @ affine))
    voxels = np.asarray(turned.dataobj)
    try:
        write_volume(target, _smallest(voxels), turned.affine)
    except UserError as error:
        raise Refusal(error.problem) from error


def check_decodable(volume: Stack) -> None:
    """Decode compressed pixels once, so that what cannot be is named with all other problems.

    Raises:
        Refusal: SimpleITK cannot decode them, or they are more than the limit.
    """
    _require_size(volume)
    with _quiet_itk():
        for path in dict.fromkeys(one.path for one in volume.slices):
            _execute(path)


def _require_size(volume: Stack) -> None:
    """Refuse more voxels than the limit before any is decoded: compressed files need not be long.

    Raises:
        Refusal: The headers claim more.
    """
    rows, columns = volume.slices[0].size
    count = rows * columns * len(volume.slices)
    if count > VOXELS.most:
        raise Refusal(
            f"its headers claim {columns} x {rows} x {len(volume.slices)} = {count:,} voxels, at "
            f"most {VOXELS.most:,} are read; {VOXELS.remedy(count)}"
        )


def _read(volume: Stack) -> sitk.Image:
    paths = list(dict.fromkeys(one.path for one in volume.slices))
    if (first := volume.slices[0].frame) is not None:
        # The frames are all of one file's, in order or reversed: see dicom_stack.
        frames = _execute(paths[0])
        return frames[:, :, ::-1] if first else frames
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    # Floats, or each slice's own rescale slope would be cut to the first slice's whole numbers.
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise_if_machine(error, paths[0])
        raise _undecodable() from None


def _execute(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError as error:
        raise_if_machine(error, path)
        # Its message quotes the path, which may hold a name.
        raise _undecodable() from None


def _undecodable() -> Refusal:
    return Refusal(
        "SimpleITK cannot decode its pixels (an unknown compression, or damaged); ask the archive "
        "for uncompressed files, or use dcmtk's dcmdjpeg, dcmdjpls or dcmdrle"
    )


def _affine(image: sitk.Image) -> NDArray[np.float64]:
    """Return (column, row, slice) to LPS+ mm as SimpleITK has it."""
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    affine[:3, :3] = direction * np.asarray(image.GetSpacing(), dtype=np.float64)
    affine[:3, 3] = image.GetOrigin()
    return affine


def _compare(affine: NDArray[np.float64], size: tuple[int, ...], volume: Stack) -> None:
    """Hold SimpleITK's geometry against the headers' at the volume's eight corners."""
    rows, columns = volume.slices[0].size
    expected = (columns, rows, len(volume.slices))
    corners = np.array(
        [[*np.multiply(corner, np.subtract(expected, 1)), 1] for corner in np.ndindex(2, 2, 2)]
    )
    apart = np.abs(corners @ (affine - volume.affine).T).max()
    if tuple(size) != expected or apart > _NEAR_MM:
        raise Refusal(
            f"SimpleITK reads another geometry than its headers state ({apart:.3g} mm apart); "
            "convert it with dcm2niix, look at the result, and use the importer table"
        )


def _smallest(voxels: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.int16]:
    """Return whole numbers as int16 where they fit: half the space, and the same values."""
    limits = np.iinfo(np.int16)
    fits = limits.min <= voxels.min() and voxels.max() <= limits.max
    return voxels.astype(np.int16) if fits and (voxels == np.round(voxels)).all() else voxels


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Keep ITK from warning on stderr: what it warns of has been checked."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
