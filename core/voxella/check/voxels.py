"""What is wrong with an image's voxels, and what is kept of them to compare images by."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from voxella.check.image_header import ImageHeader
from voxella.check.similarity import Floats, thumbnail
from voxella.imaging.headers import image_suffix, is_raster, read_text_header
from voxella.imaging.intensity import finite
from voxella.imaging.montage import three_planes
from voxella.imaging.problem import Problem
from voxella.imaging.volume import Image, Volume

__all__ = ["content_hash", "picture", "scan_problems", "stream_problem", "thumbnail_of"]

# As many distinct values as a label map may have; a scan has hundreds.
_FEW_VALUES = 16
_PICTURE_PIXELS = 128
_PICTURE_QUALITY = 60
_WINDOW = (1.0, 99.5)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Stream:
    """How far a compressed stream can be read."""

    length: int
    whole: bool
    damaged: bool


def scan_problems(image: Image) -> Iterator[Problem]:
    """Judge an image by its values; it has at least one finite voxel."""
    array = image.array
    sound = np.isfinite(array)
    lost = array.size - int(sound.sum())
    if lost:
        share = 100 * lost / array.size
        yield "image.nonfinite", f"{lost:,} voxels ({share:.2g} %) are NaN or infinite"
    values = array[sound] if lost else array
    low, high = float(values.min()), float(values.max())
    if low == high:
        yield "image.constant", f"all voxels are {low:g}"
    elif count := _few_values(values):
        yield "image.few-values", f"{count} distinct values from {low:g} to {high:g}"


def _few_values(values: NDArray[np.float32]) -> int:
    """Return how many distinct values there are, 0 where they are more than a few."""
    # Most scans show more at a glance, which saves sorting all voxels.
    for chosen in (values.ravel()[:: max(1, values.size // 4096)], values):
        count = int(np.unique(chosen).size)
        if count > _FEW_VALUES:
            return 0
    return count


def content_hash(image: Volume | Image) -> str:
    """Return a hash of the voxels in RAS order: equal for one scan in any format and order."""
    channels = Image.of(image).channels
    digest = hashlib.sha256(repr(channels[0].array.shape).encode())
    for channel in channels:
        digest.update(np.ascontiguousarray(channel.array).data)
    return digest.hexdigest()


def thumbnail_of(image: Volume | Image) -> Floats | None:
    """Return what near-duplicates are found by; None where the image has no contrast."""
    array = finite(Image.of(image).grey())[0].array
    try:
        return thumbnail(array)
    except ValueError:
        return None


def picture(image: Image) -> bytes:
    """Return the three mid-planes as a small JPEG; colours are shown as they are."""
    arrays = [finite(channel)[0].array for channel in image.channels]
    spacing = image.first.spacing_mm
    edge = float((spacing * arrays[0].shape).max()) / _PICTURE_PIXELS
    low, high = (float(value) for value in np.percentile(arrays[0], _WINDOW))
    window = (low, high if high > low else low + 1.0)
    shown = (0.0, image.white) if image.is_colour else window
    planes = three_planes(np.stack(arrays), spacing.tolist(), pixel_mm=edge, window=shown)
    written = io.BytesIO()
    Pillow.fromarray(planes).save(written, format="JPEG", quality=_PICTURE_QUALITY)
    return written.getvalue()


def stream_problem(path: Path, header: ImageHeader) -> Problem | None:
    """Say what is wrong with the voxels of a compressed file; None: nothing that this can tell.

    The stream is run through and not kept.
    """
    if header.expansion == 1 or is_raster(path):
        return None
    offset, data_file = 0, path
    claimed = header.stream_offset + header.claimed_bytes
    if not str(image_suffix(path)).startswith(".nii"):
        text = read_text_header(path)
        offset, data_file = text.data_offset, text.data_file
    stream = _run_through(data_file, offset)
    if stream.damaged:
        return "image.damaged", "its compressed voxels cannot be unpacked"
    if not stream.whole or stream.length < claimed:
        held = min(stream.length, claimed)
        return "image.truncated", f"{held:,} of {claimed:,} bytes of voxels can be read"
    return None


def _run_through(path: Path, offset: int) -> _Stream:
    # 47: zlib or gzip, told apart by the stream's first bytes.
    stream = zlib.decompressobj(wbits=47)
    length = 0
    try:
        with path.open("rb") as handle:
            handle.seek(offset)
            while not stream.eof and (chunk := handle.read(_CHUNK_BYTES)):
                while chunk:
                    # Bounded: a megabyte can hold a gigabyte.
                    length += len(stream.decompress(chunk, _CHUNK_BYTES))
                    chunk = stream.unconsumed_tail
    except zlib.error:
        return _Stream(length, whole=False, damaged=True)
    return _Stream(length, whole=stream.eof, damaged=False)
