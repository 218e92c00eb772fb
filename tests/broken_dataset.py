"""A data set in which every case is broken in exactly one way, and what a check must say of each.

Files are made with nibabel, SimpleITK and raw bytes, never with the code under test.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["AFFINE", "BrokenDataset", "all_defects", "scan", "write_nifti"]

# 144 x 144 x 120 mm: larger than the default crop of 128 x 128 mm.
SHAPE = (24, 24, 12)
AFFINE = np.diag([6.0, 6.0, 10.0, 1.0])
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n"


def scan(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """Smooth noise of some thousand grey levels: two seeds have nothing in common."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 1.0)
    return np.asarray(1000 + 400 * smooth / smooth.std(), np.float64).clip(0, 4000).astype(np.int16)


def write_nifti(
    path: Path,
    array: NDArray[Any],
    affine: NDArray[Any] = AFFINE,
    *,
    sform: bool = True,
    qform: NDArray[Any] | None = None,
) -> Path:
    """Write NIfTI, by default with an sform only, so that nothing can contradict it."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine if sform else None, code=1 if sform else 0)
    image.set_qform(qform, code=0 if qform is None else 1)
    image.header.set_xyzt_units("mm")
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data, 1, mtime=0) if path.suffix == ".gz" else data)
    return path


class BrokenDataset:
    """Builds the data set and remembers what is wrong with it.

    Attributes:
        folder: The data set.
        expected: (case id or None for the whole, code) of everything that must be found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: set[tuple[str | None, str]] = set()
        self._lines: list[bytes] = []
        self._seed = 0
        for name in ("images", "reports"):
            (folder / name).mkdir(parents=True)

    def case(
        self,
        name: str,
        *codes: str,
        make: Callable[[Path, NDArray[np.int16]], Any] | None = None,
        suffix: str = ".nii.gz",
        more: dict[str, str] | None = None,
        report: str | bytes | None = "",
        **fields: Any,
    ) -> None:
        """Add a case.

        Args:
            name: Its id.
            codes: What must be found in it.
            make: Writes its T2W image from a sound scan; None: as it is.
            suffix: Of that image's file.
            more: Further sequences and their files.
            report: Its text; "": a sound one of its own; None: none.
            fields: Fields of the manifest's line.
        """
        self._seed += 1
        path = self.folder / "images" / f"{name}_t2w{suffix}"
        (make or write_nifti)(path, scan(self._seed))
        entry: dict[str, Any] = {"id": name, "group": f"patient of {name}", "split": "train"}
        entry |= {"images": {"t2w": f"images/{path.name}", **(more or {})}, "label": "positive"}
        if report is not None:
            entry |= self._report(name, report)
        self.expected |= {(name, code) for code in codes}
        self.line(entry | fields)

    def image(self, name: str, array: NDArray[Any], affine: NDArray[Any] = AFFINE) -> str:
        """Write a further image and return its path as a manifest has it."""
        return str(
            write_nifti(self.folder / "images" / name, array, affine).relative_to(self.folder)
        )

    def line(self, entry: dict[str, Any] | bytes) -> None:
        """Add a line to the manifest."""
        self._lines.append(entry if isinstance(entry, bytes) else json.dumps(entry).encode())

    def write(self) -> None:
        """Write the manifest."""
        (self.folder / "manifest.jsonl").write_bytes(b"\n".join(self._lines) + b"\n")

    def _report(self, name: str, report: str | bytes) -> dict[str, str]:
        text = report or f"Lesion of {self._seed + 4} mm in the left peripheral zone. PI-RADS 4."
        data = text if isinstance(text, bytes) else text.encode()
        (self.folder / "reports" / f"{name}.txt").write_bytes(data)
        return {"report": f"reports/{name}.txt", "report_sha256": sha256(data).hexdigest()}


def all_defects(folder: Path) -> BrokenDataset:
    """One of each defect that needs no recipe."""
    data = BrokenDataset(folder)
    for number in range(4):
        data.case(f"sound-{number}")
    _files(data)
    _voxels(data)
    _geometry(data)
    _sequences(data)
    _copies(data)
    _manifest(data)
    _reports(data)
    _labels(data)
    data.write()
    return data


def _files(data: BrokenDataset) -> None:
    def altered(change: Callable[[bytes], bytes]) -> Callable[[Path, NDArray[np.int16]], Any]:
        def make(path: Path, array: NDArray[np.int16]) -> None:
            if path.suffix == ".mha":
                image = sitk.GetImageFromArray(array.T)
                image.SetSpacing([6.0, 6.0, 10.0])
                sitk.WriteImage(image, str(path), useCompression=True)
            else:
                write_nifti(path, array)
            path.write_bytes(change(path.read_bytes()))

        return make

    def picture(mode: str) -> Callable[[Path, NDArray[np.int16]], None]:
        def make(path: Path, array: NDArray[np.int16]) -> None:
            grey = Image.fromarray((array[..., 0] // 16).astype(np.uint8))
            Image.merge(mode, [grey] * len(mode)).save(path)

        return make

    def patched(offset: int, form: str, *values: float) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            packed = struct.pack(form, *values)
            return data[:offset] + packed + data[offset + len(packed) :]

        return change

    data.case("absent", "image.absent", make=lambda path, array: None)
    data.case("other-format", "image.format", make=lambda p, a: p.write_bytes(b"x"), suffix=".gif")
    data.case("cmyk", "image.colour-space", make=picture("CMYK"), suffix=".jpg")
    data.case("see-through", "image.transparent", make=picture("LA"), suffix=".png")
    data.case("empty", "image.empty", make=lambda path, array: path.touch())
    pointer = _POINTER.format("0" * 64)
    data.case(
        "pointer", "image.lfs-pointer", make=lambda p, a: p.write_text(pointer), suffix=".mha"
    )
    half = altered(lambda content: content[: len(content) // 2])
    for kind in (".nii", ".nii.gz", ".mha"):
        data.case(f"half{kind}", "image.truncated", make=half, suffix=kind)
    hole = altered(lambda content: content[:-900] + b"\0" * 300 + content[-600:])
    data.case("hole-gz", "image.damaged", make=hole)
    data.case("hole-mha", "image.damaged", make=hole, suffix=".mha")
    data.case("noise", "image.damaged", make=lambda p, a: p.write_bytes(b"\7" * 999), suffix=".nii")
    claim = altered(
        lambda c: gzip.compress(patched(42, "<3h", 30000, 30000, 30000)(gzip.decompress(c)))
    )
    data.case("terabytes", "image.impossible-size", make=claim)
    flat = altered(patched(42, "<h", 0))
    data.case("no-voxels", "image.no-voxels", make=flat, suffix=".nii")
    longer = altered(lambda content: content + b"\0" * 1152)
    data.case("longer", "image.trailing-bytes", make=longer, suffix=".nii")
    # A code that NIfTI does not know.
    odd = altered(patched(254, "<h", 17))
    data.case("odd-code", "image.unreadable", make=odd, suffix=".nii")
    below = altered(patched(80, "<f", -6.0))
    data.case("negative-edge", "geometry.spacing", make=below, suffix=".nii")
    zero = altered(lambda c: c.replace(b"ElementSpacing = 6 6 10", b"ElementSpacing = 6 0 10"))
    data.case("zero-edge", "geometry.spacing", make=zero, suffix=".mha")
    below = altered(lambda c: c.replace(b"ElementSpacing = 6 6 10", b"ElementSpacing = 6 6 -10"))
    data.case("negative-edge-mha", "geometry.spacing", make=below, suffix=".mha")
    unit = b"DistanceUnits = um\nCompressedData ="
    microns = altered(lambda c: c.replace(b"CompressedData =", unit))
    data.case("microns", "geometry.units", make=microns, suffix=".mha")


def _voxels(data: BrokenDataset) -> None:
    def from_array(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[..., Any]:
        return lambda path, array: write_nifti(path, change(array))

    def colour(path: Path, array: NDArray[np.int16]) -> None:
        grey = (array // 16).astype(np.uint8)
        rgb = np.stack([grey] * 3, axis=-1).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
        write_nifti(path, rgb)

    def vectors(path: Path, array: NDArray[np.int16]) -> None:
        image = sitk.GetImageFromArray(np.stack([array.T, array.T], axis=-1), isVector=True)
        image.SetSpacing([6.0, 6.0, 10.0])
        sitk.WriteImage(image, str(path))

    def with_nan(array: NDArray[Any]) -> NDArray[Any]:
        lost = array.astype(np.float32)
        lost[3, 4, 5] = np.nan
        return lost

    def same_inside(path: Path, array: NDArray[np.int16]) -> None:
        # 40 voxels of 6 mm; the crop takes the 21 in the middle.
        wide = scan(900, (40, 40, 12))
        wide[8:-8, 8:-8] = 700
        write_nifti(path, wide)

    data.case("colour", "image.colour", make=colour)
    data.case("vectors", "image.colour", make=vectors, suffix=".mha")
    data.case("complex", "image.complex", make=from_array(lambda a: a.astype(np.complex64)))
    series = from_array(lambda array: np.stack([array, array + 1], axis=-1))
    data.case("series", "image.not-3d", make=series)
    nothing = from_array(lambda array: np.full(array.shape, np.nan, np.float32))
    data.case("all-nan", "image.no-finite", make=nothing)
    data.case("a-nan", "image.nonfinite", make=from_array(with_nan))
    data.case("constant", "image.constant", make=from_array(lambda a: np.full_like(a, 7)))
    data.case("constant-inside", "image.constant-crop", make=same_inside)
    labels = from_array(lambda array: (array > 1000).astype(np.int16))
    data.case("labels", "image.few-values", make=labels)


def _geometry(data: BrokenDataset) -> None:
    def placed(
        affine: NDArray[Any], shape: tuple[int, ...] = SHAPE, **forms: Any
    ) -> Callable[[Path, NDArray[np.int16]], Any]:
        return lambda path, array: write_nifti(
            path, array if shape == SHAPE else scan(int(array[0, 0, 0]), shape), affine, **forms
        )

    thick, sheared, far = AFFINE.copy(), AFFINE.copy(), AFFINE.copy()
    thick[2, 2] = 30.0
    sheared[0, 1] = 1.0
    far[1, 3] = np.inf
    data.case("thick", "geometry.spacing-absurd", make=placed(thick))
    data.case("sheared", "geometry.sheared", make=placed(sheared))
    data.case("far", "geometry.affine", make=placed(far))
    mirrored = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    data.case("two-forms", "geometry.qform-sform", make=placed(AFFINE, qform=mirrored))
    data.case("no-form", "geometry.no-orientation", make=placed(AFFINE, sform=False))
    coronal = placed(np.diag([6.0, 12.0, 6.0, 1.0]), (24, 12, 24))
    data.case("coronal", "geometry.plane", make=coronal)
    small = placed(np.diag([5.0, 5.0, 10.0, 1.0]))
    data.case("small", "geometry.field-of-view", make=small)
    data.case("one-slice", "geometry.slices", make=placed(AFFINE, (24, 24, 1)))


def _sequences(data: BrokenDataset) -> None:
    def moved(mm: float) -> NDArray[Any]:
        affine = AFFINE.copy()
        affine[0, 3] = mm
        return affine

    finer = np.diag([4.0, 4.0, 10.0, 1.0])
    grids = {
        "geometry.grids-differ": data.image("finer_hbv.nii.gz", scan(901, (36, 36, 12)), finer),
        "geometry.partial-overlap": data.image("aside_hbv.nii.gz", scan(902), moved(60)),
        "geometry.no-overlap": data.image("away_hbv.nii.gz", scan(903), moved(500)),
    }
    for code, path in grids.items():
        data.case(code.split(".")[1], code, more={"hbv": path})
    # In mm²/s, where the default window is in 1e-6 mm²/s.
    adc = data.image("units_adc.nii.gz", scan(904).astype(np.float32) / 1e6)
    data.case("units", "image.units", more={"adc": adc})
    data.case("no-image", "image.no-sequence", images={})
    only = data.image("only_hbv.nii.gz", scan(905))
    data.case("no-t2w", "image.uneven-sequences", images={"hbv": only})


def _copies(data: BrokenDataset) -> None:
    twin, leak, noisy = scan(910), scan(911), scan(912)

    def flipped(path: Path, array: NDArray[np.int16]) -> None:
        # The same voxels in the same places, stored the other way round.
        back = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
        back[0, 3] = 6.0 * 23
        write_nifti(path, twin[::-1], back)

    def copied(path: Path, array: NDArray[np.int16]) -> None:
        disturbed = 0.7 * noisy + np.random.default_rng(1).normal(scale=10, size=noisy.shape) + 50
        write_nifti(path, np.rint(disturbed).astype(np.int16))

    data.case("twin-a", "duplicate.image", make=lambda p, a: write_nifti(p, twin))
    data.case("twin-b", "duplicate.image", make=flipped)
    for split in ("train", "test"):
        name = f"leak-{split}"
        data.case(
            name, "duplicate.across-splits", make=lambda p, a: write_nifti(p, leak), split=split
        )
    data.case("near-train", "duplicate.near", make=lambda p, a: write_nifti(p, noisy))
    data.case("near-test", "duplicate.near", make=copied, split="test")
    for split in ("train", "test"):
        data.case(f"patient-{split}", "split.patient", group="one and the same", split=split)


def _manifest(data: BrokenDataset) -> None:
    data.line(b'{"id": "cut')
    data.line(b'{"id": "latin", "group": "\xe9"}')
    data.expected.add((None, "manifest.line"))
    data.case("wrong-split", "manifest.field", split="training")
    data.case("twice", "manifest.duplicate-id")
    data.case("twice", report=None)
    outside = data.folder.parent / "outside_t2w.nii.gz"
    write_nifti(outside, scan(920))
    data.case("escapes", "manifest.path", images={"t2w": f"../{outside.name}"})


def _reports(data: BrokenDataset) -> None:
    data.case("no-report", "report.none", report=None)
    data.case("two-ways", "patient.alike", group="P 0017")
    data.case("two-ways-b", group="p 0017")
    data.case("unseen", "patient.form", group="17\u200b")
    data.case("lost-report", "report.missing", report="reports/gone.txt", report_sha256=None)
    (data.folder / "reports" / "lost-report.txt").unlink()
    data.case("latin-1", "report.undecodable", report="Läsion, PI-RADS 4.".encode("latin-1"))
    data.case("blank", "report.empty", report=b" \n\t\n")
    data.case("changed", "report.changed", report_sha256="0" * 64)
    data.case("document", "report.document", report=b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n%%EOF\n")
    data.case("placeholder", "report.placeholder", report="N/A")
    # As long as a cell of Excel can be, and no sentence ends there.
    text = "PI-RADS 4 " + "lesions " * 5000
    data.case("cut", "report.cut", report=text[:32767])
    data.case("marked", "report.markers", report="Lesion of 66 mm, seen by [NAME]. PI-RADS 4.")
    data.expected.add((None, "report.markers"))
    data.case("garbled", "report.garbled", report="L\u00c3\u00a4sion of 60 mm. PI-RADS 4.")
    for name, codes in (("same-a", ("report.duplicate",)), ("same-b", ())):
        data.case(name, *codes, report="Lesion of 61 mm on the right. PI-RADS 4.")
    named = "Lesion of 62 mm. PI-RADS 4. Patient phone 020-1234567."
    data.case("named", "report.identifier", report=named)
    data.expected |= {(None, "report.identifiers"), (None, "report.pirads")}


def _labels(data: BrokenDataset) -> None:
    data.case("unlabelled", "label.missing", label=None)
    data.case("third-class", "label.unknown", label="perhaps")
    data.case("table", "label.table", extra={"pirads": 2}, label_source="pirads")
    data.case("range", "label.value", extra={"pirads": 7})
    data.case("contradicted", "label.report", report="No lesion of 63 mm. PI-RADS 1.")
    for number in range(10):
        data.case(f"site-{number}", extra={"site": "A"})
    data.case("negative", label="negative", report="No lesion of 64 mm. PI-RADS 1.")
    # All of the test split is positive; one in some seventy of the training split is not.
    codes = ("split.balance", "split.class-missing", "split.class-rare", "site.one-class")
    data.expected |= {(None, code) for code in codes}
