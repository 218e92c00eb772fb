"""Small valid image files of every format that is read, and many ways to damage them.

Everything is a function of the number of the damage, so a failure can be looked at again alone.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

__all__ = ["BYTE_KINDS", "IMAGE_KINDS", "REWRITTEN", "SHAPE", "damaged", "make_bases"]

SHAPE = (12, 10, 6)
_AFFINE = np.array(
    [[0.7, 0.0, 0.1, -20.0], [0.0, 0.9, 0.0, 7.0], [-0.05, 0.0, 1.4, 3.0], [0.0, 0.0, 0.0, 1.0]]
)
# Kinds of damage after which a compressed file's checksum is right again.
REWRITTEN = frozenset({"field", "extremes"})
# Offset and struct format of NIfTI-1's fields that decide what is read and where it lies.
_NIFTI_1 = {
    "sizeof_hdr": (0, "i"),
    "dim_info": (39, "b"),
    **{f"dim{k}": (40 + 2 * k, "h") for k in range(8)},
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    **{f"pixdim{k}": (76 + 4 * k, "f") for k in range(8)},
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "b"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    **{f"quatern{k}": (256 + 4 * k, "f") for k in range(6)},
    **{f"srow{k}": (280 + 4 * k, "f") for k in range(12)},
    "extension": (348, "i"),
    "extension_size": (352, "i"),
}
_NIFTI_2 = {
    "sizeof_hdr": (0, "i"),
    "datatype": (12, "h"),
    "bitpix": (14, "h"),
    **{f"dim{k}": (16 + 8 * k, "q") for k in range(8)},
    **{f"pixdim{k}": (104 + 8 * k, "d") for k in range(8)},
    "vox_offset": (168, "q"),
    "scl_slope": (176, "d"),
    "scl_inter": (184, "d"),
    **{f"srow{k}": (400 + 8 * k, "d") for k in range(12)},
}
_LIMITS = {"b": 7, "h": 15, "i": 31, "q": 63}
_REALS = (0.0, -1.0, 1e-30, 1e30, -3e38, 2.5, float("nan"), float("inf"), -float("inf"), 1e9)
_WORDS = (
    *(
        "",
        "0",
        "-1",
        "1",
        "3",
        "17",
        "1e308",
        "-1e308",
        "nan",
        "inf",
        "1e-300",
        "99999999999999999",
    ),
    *("0 0 0", "-4 5 6", "65535 65535 65535", "12 10", "12 10 6 1", "12 10 6 9", "1 0 0 0 1 0 0 0"),
    *(
        "nan nan nan",
        "1e300 1e300 1e300",
        "0 0 0 0 0 0 0 0 0",
        "MET_DOUBLE",
        "MET_NOSUCH",
        "double",
    ),
    *("True", "LIST", "slice%03d.raw 1 9 1", "../../../etc/hostname", "/dev/zero", ".", "gzip"),
    *("bzip2", "raw", "block", "(1,0,0) (0,1,0) (0,0,1)", "(1,0,0) (1,0,0) (1,0,0)", "%n%s%x"),
    *("right-anterior-superior", "scanner-xyz", "9" * 5000, "(nan,0,0) (0,1e300,0) (0,0,0)"),
)


def make_bases(folder: Path) -> dict[str, list[Path]]:
    """Write the valid files; return the parts of each by the name it is read by."""
    folder.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    scaled = nib.Nifti1Image(array, _AFFINE)
    scaled.header.set_slope_inter(0.5, 10.0)
    swapped = nib.Nifti1Image(array.astype(">f4"), _AFFINE, nib.Nifti1Header(endianness=">"))
    for name, image in (
        ("slope.nii", scaled),
        ("packed.nii.gz", scaled),
        ("swapped.nii", swapped),
        ("second.nii", nib.Nifti2Image(array, _AFFINE)),
    ):
        nib.save(image, folder / name)
    itk = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    itk.SetSpacing((0.7, 0.9, 1.4))
    for name, packed in (
        *(("plain.mha", False), ("packed.mha", True), ("apart.mhd", False), ("zipped.mhd", True)),
        *(("plain.nrrd", False), ("packed.nrrd", True), ("apart.nhdr", False)),
    ):
        sitk.WriteImage(itk, str(folder / name), packed)
    bases: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".raw", ".zraw"}:
            bases[path.name] = [path, *path.parent.glob(f"{path.stem}.*raw")]
    return bases


def damaged(bases: dict[str, list[Path]], number: int, folder: Path) -> tuple[Path, str]:
    """Write damage ``number`` into the folder; return the file to read and the kind of damage."""
    random = np.random.default_rng([20260714, number])
    name = list(bases)[number % len(bases)]
    kind = list(_KINDS)[int(random.integers(len(_KINDS)))]
    parts = bases[name]
    # Mostly the header, where files have a part for it; their voxels one time in four.
    victim = parts[0] if len(parts) == 1 or random.random() < 0.75 else parts[1]
    for part in parts:
        data = part.read_bytes()
        if part == victim:
            data = _KINDS[kind](data, random)
        (folder / part.name).write_bytes(data)
    return folder / name, kind


def _place(data: bytes, random: np.random.Generator, ends: int | None = None) -> int:
    return int(random.integers(max(1, min(len(data), ends or len(data)))))


def _flip(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    ends = int(random.choice([60, 400, len(data)]))
    for _ in range(int(random.choice([1, 1, 4, 30]))):
        changed[_place(data, random, ends)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _truncate(data: bytes, random: np.random.Generator) -> bytes:
    return data[: _place(data, random)]


def _splice(data: bytes, random: np.random.Generator) -> bytes:
    at, length = _place(data, random), int(random.choice([1, 3, 64, 700]))
    if random.random() < 0.5:
        return data[:at] + data[at + length :]
    return data[:at] + random.bytes(length) + data[at:]


def _zero(data: bytes, random: np.random.Generator) -> bytes:
    at, length = _place(data, random), int(random.choice([2, 16, 200, 5000]))
    return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]


def _repeat(data: bytes, random: np.random.Generator) -> bytes:
    at, length = _place(data, random), int(random.choice([4, 40, 512]))
    return data[: at + length] + data[at : at + length] * int(random.integers(1, 6)) + data[at:]


def _noise(data: bytes, random: np.random.Generator) -> bytes:
    kept = int(random.choice([0, 4, 8, 352]))
    return data[:kept] + random.bytes(int(random.choice([10, 400, 3000])))


def _field(data: bytes, random: np.random.Generator) -> bytes:
    """Give a field of the header an extreme value, with every checksum made right again."""
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(_field(gzip.decompress(data), random), mtime=0)
    if data[:6] == b"NRRD00" or data[:10] == b"ObjectType":
        return _text_field(data, random)
    order = ">" if data[:1] == b"\0" else "<"
    fields = _NIFTI_2 if struct.unpack(f"{order}i", data[:4])[0] == 540 else _NIFTI_1
    changed = bytearray(data)
    for _ in range(int(random.choice([1, 1, 2, 5]))):
        offset, code = fields[str(random.choice(list(fields)))]
        if offset + struct.calcsize(code) <= len(changed):
            struct.pack_into(order + code, changed, offset, _extreme(code, random))
    return bytes(changed)


def _extreme(code: str, random: np.random.Generator) -> float | int:
    if code in "fd":
        return float(random.choice(_REALS))
    top = 1 << _LIMITS[code]
    return int(random.choice([0, 1, -1, 2, 7, 40, top - 1, -top, 16, 128, 1792, 2304, -2])) % top


def _text_field(data: bytes, random: np.random.Generator) -> bytes:
    end = re.search(rb"\n\n|ElementDataFile[^\n]*\n", data)
    cut = len(data) if end is None else end.end()
    lines = data[:cut].split(b"\n")
    at = int(random.integers(len(lines)))
    match int(random.integers(5)):
        case 0:
            del lines[at]
        case 1:
            lines.insert(int(random.integers(len(lines))), lines[at])
        case _:
            key = re.match(rb"[^:=]*[:=]+ ?", lines[at])
            word = str(random.choice(_WORDS)).encode()
            lines[at] = (b"" if key is None else key[0]) + word
    return b"\n".join(lines) + data[cut:]


def _trailer(data: bytes, random: np.random.Generator) -> bytes:
    """Change a compressed stream's first or last bytes: its flags, its checksum, its length."""
    changed = bytearray(data)
    at = int(random.integers(12)) if random.random() < 0.5 else -1 - int(random.integers(12))
    changed[max(at, -len(changed)) % len(changed)] = int(random.integers(256))
    return bytes(changed)


_KINDS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flip": _flip,
    "truncate": _truncate,
    "splice": _splice,
    "zero": _zero,
    "repeat": _repeat,
    "noise": _noise,
    "field": _field,
    "extremes": _field,
    "trailer": _trailer,
}
IMAGE_KINDS = _KINDS
# Those that ask nothing of the file.
BYTE_KINDS = {
    name: _KINDS[name] for name in ("flip", "truncate", "splice", "zero", "repeat", "noise")
}
