"""What an image file says of itself, held against the file before a voxel is read.

A header is a claim. It is checked here without allocating what it claims: the suffix, the first
bytes (Git-LFS pointers), where the voxels lie, whether the file could hold that many, whether a
compressed stream is whole. Of a damaged compressed ``.mha`` and a truncated ``.nii`` SimpleITK
returns garbage without an error (measured with 2.5).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from voxella.imaging.problem import ImageError
from voxella.imaging.shards import check_row, row_of
from voxella.imaging.text_fields import HEADER_BYTES, meta_fields, nrrd_fields
from voxella.machine import raise_if_machine

__all__ = [
    "DEFLATE_MOST",
    "RASTER",
    "SUFFIXES",
    "TextHeader",
    "check_capacity",
    "check_deflate",
    "check_image_file",
    "file_parts",
    "image_suffix",
    "is_raster",
    "read_text_header",
]

# PNG, JPEG and TIFF: pictures of two axes that do not say how large their pixels are in mm.
RASTER = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", *RASTER)
# What else medical images come in: what it is, and how it becomes one of the above.
_FOREIGN = {
    (".dcm", ".dcm.gz", ".ima"): ("DICOM", "voxella import dicom FOLDER --out DATASET"),
    (".hdr", ".img"): (
        "two files, NIfTI or Analyze",
        "nib-convert NAME.hdr NAME.nii.gz if it is NIfTI; Analyze does not tell left from right",
    ),
    (".mgz", ".mgh"): ("FreeSurfer", "nib-convert NAME.mgz NAME.nii.gz"),
    (".mnc",): ("MINC", "nib-convert NAME.mnc NAME.nii.gz"),
    (".par", ".rec"): ("Philips PAR/REC", "parrec2nii NAME.PAR"),
    (".svs", ".ndpi", ".mrxs", ".scn"): (
        "a whole slide",
        "voxella import wsi FOLDER --out DATASET",
    ),
    (".gif", ".bmp", ".webp", ".jp2"): ("a picture of another format", "save it as PNG"),
}
_LFS = b"version https://git-lfs"
# Deflate cannot expand one byte to more than this (zlib's technical notes).
DEFLATE_MOST = 1032
# A number of a text-encoded NRRD takes two bytes in the file at least, eight in memory at most.
_TEXT_MOST = 4
_CHUNK_BYTES = 1 << 16


def image_suffix(path: Path) -> str | None:
    """Return which of :data:`SUFFIXES` the file's name ends in, or None."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def is_raster(path: Path) -> bool:
    """Tell by its name whether a file is a PNG, JPEG or TIFF picture."""
    return image_suffix(path) in RASTER


def check_image_file(path: Path) -> None:
    """Look at a file's name and first bytes only; quick enough for every case of an import.

    Raises:
        ImageError: The file is absent, a folder, empty, of another format, or a Git-LFS pointer; or
            a shard does not hold the row.
    """
    if (row := row_of(path)) is not None:
        check_row(path, row)
        return
    if not path.exists():
        raise ImageError(f"{path}: no such file", code="image.absent")
    if not path.is_file():
        raise ImageError(f"{path}: a folder, not an image file", code="image.format")
    if image_suffix(path) is None:
        raise _foreign(path)
    first = _first_bytes(path, len(_LFS))
    if not first:
        raise ImageError(f"{path}: the file is empty", code="image.empty")
    if first == _LFS:
        raise ImageError(
            f"{path}: a Git-LFS pointer, not the image itself (git lfs pull fetches it)",
            code="image.lfs-pointer",
            remedy=f"run git lfs pull in the repository that holds {path.name}",
        )


@dataclass(frozen=True)
class TextHeader:
    """The text that opens a MetaImage or NRRD file.

    Attributes:
        fields: Values by lower-case key.
        data_file: Where the voxels lie: the file itself, or the one file it names.
        data_offset: First byte of the voxels in ``data_file``.
    """

    fields: dict[str, str]
    data_file: Path
    data_offset: int

    @property
    def deflated(self) -> bool:
        """Return whether the voxels are a zlib or gzip stream."""
        encoding = self.fields.get("encoding", "").lower()
        flag = self.fields.get("compresseddata", "").lower()
        return encoding in {"gzip", "gz"} or flag == "true"

    @property
    def expansion(self) -> int:
        """Return how many bytes of voxels one byte of the file can hold at most."""
        encoding = self.fields.get("encoding", "raw").lower()
        if encoding in {"text", "txt", "ascii"}:
            return _TEXT_MOST
        return DEFLATE_MOST if self.deflated or encoding != "raw" else 1


def read_text_header(path: Path) -> TextHeader:
    """Read the header of a ``.mha``, ``.mhd``, ``.nrrd`` or ``.nhdr`` file.

    Raises:
        ImageError: There is no such header, or it is malformed; the voxels lie in several files, or
            in an absent one.
    """
    start = _first_bytes(path, HEADER_BYTES)
    nrrd = image_suffix(path) in {".nrrd", ".nhdr"}
    try:
        fields, length = nrrd_fields(start) if nrrd else meta_fields(start)
    except ValueError as error:
        remedy = "open it in a viewer, or copy it again from its source"
        problem = f"{path}: {error}; the file is damaged or of another format"
        raise ImageError(problem, code="image.damaged", remedy=remedy) from error
    named = fields.get("data file", fields.get("datafile")) if nrrd else fields["elementdatafile"]
    if named is None or named.upper() == "LOCAL":
        return TextHeader(fields, path, length)
    if named.upper().startswith("LIST") or "%" in named:
        problem = f"{path}: its voxels lie in one file per slice, which is not read"
        remedy = "convert it to one .nii.gz or .mha file"
        raise ImageError(problem, code="image.format", remedy=remedy)
    data_file = path.parent / named
    if not _is_file(data_file):
        raise ImageError(
            f"{path}: the file that should hold its voxels is absent: {data_file}",
            code="image.absent",
        )
    if _first_bytes(data_file, len(_LFS)) == _LFS:
        raise ImageError(
            f"{data_file}: a Git-LFS pointer, not voxels (git lfs pull fetches them)",
            code="image.lfs-pointer",
            remedy=f"run git lfs pull in the repository that holds {data_file.name}",
        )
    return TextHeader(fields, data_file, 0)


def file_parts(path: Path) -> list[Path]:
    """Return every file an image lies in: itself and its detached voxels; or a tile's shard.

    Raises:
        ImageError: As :func:`check_image_file` and :func:`read_text_header`.
    """
    check_image_file(path)
    if (row := row_of(path)) is not None:
        return [row.shard]
    if image_suffix(path) not in {".mhd", ".nhdr"}:
        return [path]
    data_file = read_text_header(path).data_file
    return [path] if data_file == path else [path, data_file]


def check_capacity(path: Path, claimed_bytes: int, held_bytes: int, expansion: int) -> None:
    """Refuse a header that claims more voxels than its file could hold.

    Args:
        path: The file to name.
        claimed_bytes: Size of the voxels by the header.
        held_bytes: Bytes of the file that can be voxels.
        expansion: Bytes of voxels per byte of the file, at most.

    Raises:
        ImageError: The claim cannot be true: the file is truncated or its header damaged.
    """
    if claimed_bytes > held_bytes * expansion:
        raise ImageError(
            f"{path}: truncated or damaged: the header claims {claimed_bytes:,} bytes of voxels, "
            f"and {held_bytes:,} bytes of file cannot hold them",
            code="image.truncated",
            remedy="copy or download the file again",
        )


def check_deflate(header: TextHeader, claimed_bytes: int, path: Path) -> None:
    """Run through a compressed stream without keeping it, comparing length and checksum.

    Raises:
        ImageError: The stream is damaged, or shorter or longer than the header says.
    """
    # 47: zlib or gzip, told apart by the stream's first bytes.
    stream = zlib.decompressobj(wbits=47)
    length = 0
    try:
        with header.data_file.open("rb") as handle:
            handle.seek(header.data_offset)
            while not stream.eof and (chunk := handle.read(_CHUNK_BYTES)):
                length += len(stream.decompress(chunk))
    except zlib.error as error:
        raise _damaged(path, "image.damaged", "its compressed voxels cannot be read") from error
    if not stream.eof or length != claimed_bytes:
        told = f"{length:,} of {claimed_bytes:,} bytes of voxels can be read"
        raise _damaged(path, "image.truncated", told)


def _damaged(path: Path, code: str, how: str) -> ImageError:
    problem = f"{path}: truncated or damaged: {how}"
    return ImageError(problem, code=code, remedy="copy or download the file again")


def _foreign(path: Path) -> ImageError:
    problem = f"{path}: not an image format that is read"
    for suffixes, (kind, remedy) in _FOREIGN.items():
        if path.name.lower().endswith(suffixes):
            told, expected = f"{problem}: {kind}", ", ".join(SUFFIXES)
            return ImageError(told, code="image.format", expected=expected, remedy=remedy)
    return ImageError(problem, code="image.format", expected=", ".join(SUFFIXES))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system takes
        return False


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(count)
    except OSError as error:
        raise_if_machine(error, path)
        raise ImageError(f"{path}: cannot be opened: {error.strerror}") from error
