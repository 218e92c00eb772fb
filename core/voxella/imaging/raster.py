"""PNG, JPEG and TIFF: one picture a file (or a row of a shard), grey or in red, green and blue.

What a file may hold beside plain pixels is decided once, here:

* A photograph turned by its EXIF orientation is read upright, as viewers show it.
* A palette is expanded to colours; one of greys alone is grey.
* Transparency that hides nothing is dropped; a picture with transparent pixels is refused, for what
  lies behind them is nobody's measurement.
* CMYK, Lab and other colour spaces are refused: turning them into red, green and blue needs a
  profile. Colour profiles inside a file are not applied.
* 16 bits stay 16 bits. Pillow would cut colours to 8; SimpleITK reads those.
* Resolution tags (dots per inch) are not read: they tell of printing. Such an image has no spacing.
* Several pages or frames are refused.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from voxella.imaging.headers import image_suffix
from voxella.imaging.problem import ImageError, check_size, reading
from voxella.imaging.shards import open_picture, row_of
from voxella.imaging.transparency import hidden_by_key, refuse_hidden
from voxella.limits import PIXELS

__all__ = ["RasterHeader", "read_raster", "read_raster_header"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
_FIRST_BYTES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F"}
_COLOUR = {"RGB", "RGBA", "RGBa"}
_PALETTE = {"P", "PA"}
_WHITE = {"uint8": 255.0, "uint16": 65535.0}
_PLAIN_BITS = 8
_BITS_TAG, _ORIENTATION_TAG = 258, 274
# A picture turned by a quarter changes places of rows and columns.
_TURNED = {5, 6, 7, 8}
# Of a PNG file: signature, length, "IHDR", width, height; then bit depth and kind of colour.
_PNG_DEPTH = 24
_PNG_GREY_ALPHA = 4
# The whole process has one such setting of Pillow's.
_PILLOW = threading.Lock()
# What is damaged is refused, with a message of our own.
warnings.filterwarnings("ignore", "Corrupt EXIF data|Truncated File Read", module=r"PIL\.")


@dataclass(frozen=True)
class RasterHeader:
    """What a picture says of itself.

    Attributes:
        size: Columns and rows, upright.
        colour: Red, green and blue; else grey.
        bits: Of one number.
        orientation: By EXIF, 1 where the file holds it upright.
        plain: Its pixels are red, green and blue of 8 bits, upright, and none is transparent.
    """

    size: tuple[int, int]
    colour: bool
    bits: int
    orientation: int
    plain: bool


def read_raster_header(path: Path) -> RasterHeader:
    """Read a picture's header; no pixel is decoded.

    Raises:
        ImageError: It is none of the suffix's format or damaged; it claims more pixels than
            :data:`voxella.limits.PIXELS`; its colours are of another space, or it has pages.
    """
    with reading(path), _opened(path) as image:
        return _header(path, image)


def read_raster(path: Path) -> tuple[NDArray[np.float32], float]:
    """Read a picture.

    Returns:
        ``(C, columns, rows)`` float32 as stored, C 1 or 3, columns from left to right and rows from
        top to bottom; and the number that stands for white: 255, 65535, or 1 where the file holds
        fractions or wider integers.

    Raises:
        ImageError: As :func:`read_raster_header`; it cannot be decoded to its end, or has
            transparent pixels.
    """
    with reading(path):
        if image_suffix(path) == ".png":
            with _opened(path) as image:
                image.verify()  # the checksums, which decoding passes over
        with _opened(path) as image:
            header = _header(path, image)
            if header.colour and header.bits > 8:
                pixels = _wide_colours(path, image, header)
            else:
                upright = image if header.orientation == 1 else ImageOps.exif_transpose(image)
                pixels = _pixels(path, upright, header)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    white = _WHITE.get(str(pixels.dtype), 1.0)
    return np.ascontiguousarray(pixels.transpose(2, 1, 0), dtype=np.float32), white


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture under this project's limit of pixels in the place of Pillow's."""
    wanted = _FORMATS[str(image_suffix(path))]
    with _PILLOW:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            # Given a path, Pillow itself closes the file.
            source = path if row_of(path) is None else open_picture(path)
            image = Image.open(source, formats=[wanted])
        except UnidentifiedImageError:
            _refuse_other_format(path, wanted)
            raise
        finally:
            Image.MAX_IMAGE_PIXELS = usual
    with image:
        yield image


def _refuse_other_format(path: Path, wanted: str) -> None:
    with open_picture(path) as file:
        begin = file.read(4)
    found = next((kind for first, kind in _FIRST_BYTES.items() if begin.startswith(first)), None)
    if found != wanted:
        raise ImageError(
            f"{path}: named as {wanted}, and its first bytes are those of "
            f"{found or 'no PNG, JPEG or TIFF'}",
            code="image.format",
            remedy="name it by its format" if found else "export it again as PNG",
        )


def _header(path: Path, image: Image.Image) -> RasterHeader:
    check_size(path, image.size, PIXELS)
    if (frames := int(getattr(image, "n_frames", 1))) > 1:
        raise ImageError(
            f"{path}: {frames} pages or frames; one picture is needed",
            code="image.not-3d",
            remedy="save each as a file of its own; cut a slide into tiles first",
        )
    if image.mode not in _GREY | _COLOUR | _PALETTE:
        raise ImageError(
            f"{path}: colours in {image.mode}; red, green and blue, or grey, are needed",
            code="image.colour-space",
            remedy="convert it to sRGB with the program that made it",
        )
    columns, rows = image.size
    # Pillow gives the size of a TIFF as it is shown, of the others as it is stored.
    if (orientation := _orientation(image)) in _TURNED and image.format != "TIFF":
        columns, rows = rows, columns
    colour = image.mode in _COLOUR or (image.mode in _PALETTE and not _is_grey_palette(image))
    bits = _bits(path, image)
    plain = image.mode == "RGB" and "transparency" not in image.info
    plain = plain and bits == _PLAIN_BITS and orientation == 1
    return RasterHeader((columns, rows), colour, bits, orientation, plain)


def _orientation(image: Image.Image) -> int:
    # Of a PNG without EXIF before its pixels Pillow would decode them to look behind.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(_ORIENTATION_TAG, 1))


def _bits(path: Path, image: Image.Image) -> int:
    if image.mode in {"I", "F"}:
        return 32
    if image.format == "PNG":
        with open_picture(path) as file:
            depth, kind = file.read(_PNG_DEPTH + 2)[_PNG_DEPTH:]
        if depth > 8 and kind == _PNG_GREY_ALPHA:
            # Pillow and SimpleITK both take it for something else.
            raise ImageError(
                f"{path}: grey of 16 bits with transparency, which is not read",
                code="image.format",
                remedy="save it without transparency",
            )
        return max(8, depth)
    tags = getattr(image, "tag_v2", None)
    return max(8, *(int(bits) for bits in (tags.get(_BITS_TAG, (8,)) if tags else (8,))))


def _is_grey_palette(image: Image.Image) -> bool:
    colours = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _pixels(path: Path, image: Image.Image, header: RasterHeader) -> NDArray[np.generic]:
    """Return ``(rows, columns)`` or ``(rows, columns, 3)``."""
    if image.mode in {"LA", "La", "RGBA", "RGBa", "PA"} or "transparency" in image.info:
        wide = image.mode.startswith("I")
        if wide or image.mode == "RGB":
            refuse_hidden(path, hidden_by_key(image))
        else:
            alpha = image.convert("RGBA").getchannel("A")
            refuse_hidden(path, np.asarray(alpha) < np.iinfo(np.uint8).max)
    if image.mode.startswith("I") or image.mode == "F":
        found = np.asarray(image)
        return found.astype(found.dtype.newbyteorder("="), copy=False)
    return np.asarray(image.convert("RGB" if header.colour else "L"))


def _wide_colours(path: Path, image: Image.Image, header: RasterHeader) -> NDArray[np.generic]:
    """Return the ``(rows, columns, 3)`` 16-bit colours, which Pillow would cut to 8 bits."""
    if header.orientation != 1:
        raise ImageError(
            f"{path}: 16-bit colours under an orientation tag, which is not read",
            code="image.format",
            remedy="turn the picture itself and save it again",
        )
    if row_of(path) is not None:
        raise ImageError(
            f"{path}: colours of {header.bits} bits within a shard, which are not read",
            code="image.format",
            remedy="save tiles with 8 bits a colour, or leave them files of their own",
        )
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    if found.ndim != 3 or found.shape[2] not in (3, 4) or found.dtype != np.uint16:
        raise ImageError(
            f"{path}: its colours of {header.bits} bits cannot be read",
            code="image.format",
            remedy="save it as PNG of 8 or 16 bits a colour",
        )
    if found.shape[2] == 4:
        refuse_hidden(path, found[..., 3] < np.iinfo(np.uint16).max)
    elif "transparency" in image.info:
        # Pillow keeps the key as the file has it, of 16 bits.
        refuse_hidden(path, (found == np.asarray(image.info["transparency"])).all(axis=2))
    return np.asarray(found[..., :3])
