"""Pictures of volumes: three mid-planes side by side, one case per row.

Radiological display: the patient's right is on the picture's left, anterior is up (axial) or left
(sagittal), superior is up. Pixels are square in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from voxella.files import atomic_path

__all__ = ["enlarged", "montage", "three_planes", "write_png"]

Picture = NDArray[np.uint8]

_GAP_PIXELS = 2
_CAPTION_PIXELS = 12


def three_planes(
    volume: NDArray[Any],
    spacing_mm: Sequence[float],
    *,
    pixel_mm: float | None = None,
    window: tuple[float, float] = (0.0, 1.0),
) -> Picture:
    """Return the axial, coronal and sagittal mid-planes in one row, uint8 ``(H, W)``.

    Args:
        volume: ``(R, A, S)``; one slice, or ``(R, A)``, gives its one plane. Or ``(C, R, A, S)``:
            of red, green and blue the picture is ``(H, W, 3)``.
        spacing_mm: Voxel edges along the volume's axes.
        pixel_mm: Edge of a pixel; None: the finest voxel edge.
        window: Values shown as black and white.
    """
    volume = np.asarray(volume)
    if volume.ndim == 4:
        colours = [
            three_planes(one, spacing_mm, pixel_mm=pixel_mm, window=window) for one in volume
        ]
        return colours[0] if len(colours) == 1 else np.stack(colours, axis=-1)
    if volume.ndim == 3 and volume.shape[2] == 1:
        volume = volume[..., 0]
    spacing = [float(edge) for edge in spacing_mm][: volume.ndim]
    edge = pixel_mm if pixel_mm is not None else min(spacing)
    if volume.ndim == 2:
        return _plane(volume, (spacing[0], spacing[1]), edge, window)
    r, a, s = (count // 2 for count in volume.shape)
    dr, da, ds = spacing
    planes = [
        _plane(volume[:, :, s], (dr, da), edge, window),
        _plane(volume[:, a, :], (dr, ds), edge, window),
        _plane(volume[r, :, :], (da, ds), edge, window),
    ]
    return _in_a_row(planes)


def montage(
    volumes: Sequence[NDArray[Any]],
    spacing_mm: Sequence[float] | Sequence[Sequence[float]],
    *,
    labels: Sequence[str] | None = None,
    columns: int = 1,
    window: tuple[float, float] = (0.0, 1.0),
) -> Picture:
    """Return the three mid-planes of every volume as one picture, uint8 ``(H, W)``.

    Args:
        volumes: Each ``(R, A, S)`` or ``(R, A)``; sizes may differ. Or ``(C, R, A, S)``; where any
            is in colours the picture is ``(H, W, 3)``.
        spacing_mm: Voxel edges, for all volumes or one list for each.
        labels: A short caption for each volume (a case id, a class; never report text).
        columns: Volumes beside each other.
        window: Values shown as black and white.

    Raises:
        ValueError: There is no volume, or a list's length differs from the volumes'.
    """
    if not volumes:
        raise ValueError("a montage needs at least one volume")
    spacings = _one_each(spacing_mm, len(volumes))
    if len(spacings) != len(volumes) or (labels is not None and len(labels) != len(volumes)):
        raise ValueError(f"{len(volumes)} volumes need as many spacings and labels")
    if any(_in_colours(volume) for volume in volumes):
        return np.stack(
            [
                montage(
                    [volume[k] if _in_colours(volume) else volume for volume in volumes],
                    spacings,
                    labels=labels,
                    columns=columns,
                    window=window,
                )
                for k in range(3)
            ],
            axis=-1,
        )
    finest = min(float(edge) for spacing in spacings for edge in spacing)
    panels = [
        three_planes(volume, spacing, pixel_mm=finest, window=window)
        for volume, spacing in zip(volumes, spacings, strict=True)
    ]
    if labels is not None:
        panels = [_captioned(panel, text) for panel, text in zip(panels, labels, strict=True)]
    panels = [_padded(panel, panels) for panel in panels]
    rows = [_in_a_row(panels[start : start + columns]) for start in range(0, len(panels), columns)]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, _GAP_PIXELS), (0, width - row.shape[1]))) for row in rows]
    return np.concatenate(rows)[:-_GAP_PIXELS]


def enlarged(picture: Picture, width: int) -> Picture:
    """Return the picture with each pixel repeated, so often that it comes near ``width`` pixels."""
    times = max(1, round(width / picture.shape[1]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def write_png(path: Path, image: Picture) -> Path:
    """Write a grey ``(H, W)`` or colour ``(H, W, 3)`` uint8 picture atomically as PNG."""
    with atomic_path(Path(path)) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")
    return Path(path)


def _in_colours(volume: NDArray[Any]) -> bool:
    return volume.ndim == 4 and len(volume) > 1


def _one_each(
    spacing_mm: Sequence[float] | Sequence[Sequence[float]], count: int
) -> list[list[float]]:
    table = np.asarray(spacing_mm, dtype=np.float64)
    return [table.tolist()] * count if table.ndim == 1 else list(table.tolist())


def _plane(
    plane: NDArray[Any],
    spacing: tuple[float, float],
    pixel_mm: float,
    window: tuple[float, float],
) -> Picture:
    """Turn a plane ``(columns, rows)`` into a picture with square pixels.

    Both axes are flipped: the high ends of R and A (right, anterior) belong on the left, those of A
    and S (anterior, superior) on top.
    """
    low, high = window
    grey = np.clip((plane.astype(np.float32) - low) / (high - low), 0.0, 1.0) * 255.0
    upright = np.rint(grey).astype(np.uint8).T[::-1, ::-1]
    width, height = (
        max(1, round(count * edge / pixel_mm))
        for count, edge in zip(plane.shape, spacing, strict=True)
    )
    picture = Image.fromarray(np.ascontiguousarray(upright))
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8)


def _in_a_row(pictures: Sequence[Picture]) -> Picture:
    height = max(picture.shape[0] for picture in pictures)
    padded = []
    for picture in pictures:
        above = (height - picture.shape[0]) // 2
        below = height - picture.shape[0] - above
        padded.append(np.pad(picture, ((above, below), (0, _GAP_PIXELS))))
    return np.concatenate(padded, axis=1)[:, :-_GAP_PIXELS]


def _padded(panel: Picture, panels: Sequence[Picture]) -> Picture:
    """Widen a panel to the widest, so that columns stand under each other."""
    width = max(other.shape[1] for other in panels)
    return np.pad(panel, ((0, 0), (0, width - panel.shape[1])))


def _captioned(panel: Picture, text: str) -> Picture:
    """Put a line of text above a panel; what does not fit is cut."""
    strip = Image.new("L", (panel.shape[1], _CAPTION_PIXELS))
    # PIL's built-in font knows Latin-1 only.
    shown = text.encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(strip).text((1, 0), shown, fill=255)
    return np.concatenate([np.asarray(strip, dtype=np.uint8), panel])
