"""``voxella.show``: a volume in a notebook or a script, as a picture or in a viewer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.imaging.montage import three_planes
from voxella.imaging.volume import Image, Volume, read_image
from voxella.sampling.synthetic_image import SyntheticImage
from voxella.wording import listed

__all__ = ["show"]

_PERCENTILES = (0.5, 99.5)
_INCHES = 9.0
How = Literal["auto", "montage", "niivue"]
Shown = SyntheticImage | Image | Volume | Path | str | NDArray[Any]


@dataclass(frozen=True)
class _Voxels:
    """``(C, R, A, S)`` in float32, where they lie, and between which values they are shown."""

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    window: tuple[float, float]

    @property
    def spacing_mm(self) -> list[float]:
        return [float(edge) for edge in np.linalg.norm(self.affine[:3, :3], axis=0)]


def show(
    volume: Shown,
    *,
    sequence: str | None = None,
    spacing_mm: Sequence[float] | None = None,
    window: tuple[float, float] | None = None,
    title: str = "",
    how: How = "auto",
) -> Any:  # noqa: ANN401 - of libraries that need not be there
    """Show a volume: its three mid-planes as a figure, or all of it in a viewer.

    Args:
        volume: What a :class:`voxella.Generator` returns; a file; a volume or image as
            :func:`voxella.imaging.volume.read_image` reads it; or an array ``(R, A, S)``,
            ``(R, A)``, or of three colours ``(3, R, A, S)``.
        sequence: Which one of a generated image; None: the first.
        spacing_mm: Edges of an array's voxels; None: equal ones. Others know theirs.
        window: Values that are black and white; None: the 0.5th and the 99.5th percentile, of
            colours 0 and white.
        title: Above the figure.
        how: ``montage``: a matplotlib figure, radiological: the patient's right is on the left.
            ``niivue``: a widget of ipyniivue, for a notebook. ``auto``: the widget in a notebook
            where ipyniivue is installed, else the figure.

    Returns:
        The figure or the widget; a notebook shows what its cell returns.

    Raises:
        UserError: It is no volume, the file cannot be read, or what shows it is not installed.
    """
    voxels = _voxels(volume, sequence, spacing_mm, window)
    if how not in ("auto", "montage", "niivue"):
        raise UserError(f"how={how!r}", expected="auto, montage, niivue")
    is_picture = voxels.array.shape[3] == 1 or len(voxels.array) > 1
    if how == "auto":
        viewer = _in_notebook() and find_spec("ipyniivue") is not None and not is_picture
        how = "niivue" if viewer else "montage"
    if how == "niivue":
        return _widget(voxels)
    return _figure(voxels, title)


def _voxels(
    volume: Shown,
    sequence: str | None,
    spacing_mm: Sequence[float] | None,
    window: tuple[float, float] | None,
) -> _Voxels:
    if isinstance(volume, str | Path):
        volume = read_image(Path(volume))
    if isinstance(volume, SyntheticImage):
        name = sequence or volume.sequences[0]
        if name not in volume.channels:
            raise UserError(f"sequence={name!r}", expected=listed(volume.sequences))
        array, affine, white = volume.quantity(name), volume.affine, 1.0
    elif isinstance(volume, Image | Volume):
        image = Image.of(volume)
        array, affine, white = image.array, image.first.affine, image.white
    elif isinstance(volume, np.ndarray):
        array, affine = _array(volume), np.diag([*_edges(spacing_mm), 1.0])
        white = 255.0 if array.max(initial=0) > 1 else 1.0
    else:
        raise UserError(
            f"a {type(volume).__name__} is no volume",
            expected="what a Generator returns, a file, or an array (R, A, S)",
        )
    solid = np.asarray(array, dtype=np.float32)
    solid = solid.reshape(*solid.shape, *[1] * (4 - solid.ndim))
    if window is None and len(solid) == 1:
        known = solid[np.isfinite(solid)]
        low, high = np.percentile(known, _PERCENTILES) if known.size else (0.0, 1.0)
        window = float(low), float(high)
    return _Voxels(solid, np.asarray(affine, dtype=np.float64), window or (0.0, white))


def _array(given: NDArray[Any]) -> NDArray[Any]:
    """Return an array with its channels first."""
    fits = given.ndim in (2, 3) or (given.ndim == 4 and given.shape[0] in (1, 3))
    if not fits or given.size == 0 or not np.issubdtype(given.dtype, np.number):
        raise UserError(
            f"an array {given.dtype} of {given.shape} is no volume",
            expected="numbers (R, A, S), (R, A), or (3, R, A, S) of colours",
        )
    if np.iscomplexobj(given):
        raise UserError("an array of complex numbers is no volume", expected="abs(volume)")
    return given if given.ndim == 4 else given[None]


def _edges(spacing_mm: Sequence[float] | None) -> list[float]:
    edges = [float(edge) for edge in spacing_mm or ()]
    if spacing_mm is not None and (
        len(edges) not in (2, 3) or not all(0 < edge < np.inf for edge in edges)
    ):
        raise UserError(f"spacing_mm={spacing_mm!r}", expected="two or three numbers above 0")
    return edges + [1.0] * (3 - len(edges))


def _figure(voxels: _Voxels, title: str) -> Any:  # noqa: ANN401 - matplotlib's figure
    if find_spec("matplotlib") is None:
        raise UserError("a figure needs matplotlib", remedy="pip install 'voxella[notebook]'")
    from matplotlib.figure import Figure

    low, high = voxels.window
    finite = np.nan_to_num(voxels.array, nan=low, posinf=high, neginf=low)
    # A window of no width would divide by zero: everything is black.
    planes = three_planes(finite, voxels.spacing_mm, window=(low, max(high, low + 1e-9)))
    inches = _INCHES * planes.shape[0] / planes.shape[1]
    # Not pyplot: it would keep every figure, and choose a window system.
    figure = Figure(figsize=(_INCHES, min(inches, _INCHES) + (0.4 if title else 0.0)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.imshow(planes, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title)
    return figure


def _widget(voxels: _Voxels) -> Any:  # noqa: ANN401 - ipyniivue's widget
    if find_spec("ipyniivue") is None:
        raise UserError(
            "the viewer needs ipyniivue",
            remedy="pip install 'voxella[notebook]', or show(..., how='montage')",
        )
    from ipyniivue import NiiVue

    if len(voxels.array) > 1:
        raise UserError("ipyniivue shows no colours", remedy="show(..., how='montage')")
    image = nib.Nifti1Image(voxels.array[0], voxels.affine)
    image.header.set_xyzt_units("mm")
    low, high = voxels.window
    widget = NiiVue(height=400)
    given = {"data": bytes(image.to_bytes()), "name": "volume.nii"}
    widget.load_volumes([{**given, "cal_min": low, "cal_max": high}])
    return widget


def _in_notebook() -> bool:
    """Return whether a kernel runs this, which can show a widget."""
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return found is not None and hasattr(found, "kernel")
