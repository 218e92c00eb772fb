"""Importer `dicom`: voxels lie where headers put them, and what is no volume is refused by name."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_writer import (
    AXIAL,
    CORONAL,
    ENHANCED,
    GAP,
    MR,
    OBLIQUE,
    ORIGIN,
    SAGITTAL,
    SPACING,
    assert_same_voxels,
    enhanced,
    image,
    normal,
    pixels,
    save,
    short,
    uid,
    write_series,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.imaging.volume import read_volume
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.testing import run_contract
from voxella_importers.dicom import importer as dicom_reader
from voxella_importers.dicom import pixels as dicom_pixels
from voxella_importers.dicom.plugin import dicom

Made = Callable[[Path], object]


def run(source: Path, out: Path, **settings: Any) -> Manifest:
    manifest = dicom(source=source, val_share=0, test_share=0, **settings)(out)
    assert Manifest.read(out).cases == manifest.cases
    return manifest


def only(manifest: Manifest, sequence: str = "t2w") -> Path:
    (case,) = manifest
    return manifest.image_path(case, sequence)


def refused(source: Path, out: Path, *words: str, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        dicom(source=source, **settings)(out)
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))
    assert not (out / "manifest.jsonl").exists()
    return str(caught.value)


def test_an_oblique_series_lies_where_its_headers_say(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in", orientation=OBLIQUE)
    # File names say nothing about order.
    for path, name in zip(paths, "dbeca", strict=True):
        path.rename(path.with_name(name))
    manifest = run(tmp_path / "in", tmp_path / "out")
    nifti = only(manifest)
    assert manifest.cases[0].images == {"t2w": f"images/{manifest.cases[0].id}_t2w.nii.gz"}
    assert_same_voxels((tmp_path / "in" / "study-4").iterdir(), nifti)
    volume = nib.load(nifti)
    # Written out: x is the row, y the tilted column, z the normal (0, 0.6, 0.8); RAS negates x, y
    # and turns both axes round, so the origin is the last column and row of the first slice.
    expected: list[list[float]] = [
        [0.5, 0, 0, 12.5 - 4 * 0.5],
        [0, 0.7 * 0.8, -GAP * 0.6, 20.25 - 5 * 0.7 * 0.8],
        [0, 0.7 * 0.6, GAP * 0.8, 7.75 - 5 * 0.7 * 0.6],
        [0, 0, 0, 1],
    ]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-5)
    np.testing.assert_allclose(volume.header.get_sform(), volume.header.get_qform(), atol=1e-5)
    assert volume.get_data_dtype() == np.int16
    assert read_volume(nifti).array.shape == (5, 6, 5)


@settings(max_examples=25, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-1, 1, allow_subnormal=False)] * 4).filter(
        lambda q: sum(x * x for x in q) > 0.01
    ),
    spacing=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
    gap=st.floats(0.5, 12),
    origin=st.tuples(*[st.floats(-300, 300, allow_subnormal=False)] * 3),
    order=st.permutations(range(4)),
)
def test_any_orientation_and_spacing(
    turn: tuple[float, ...],
    spacing: tuple[float, float],
    gap: float,
    origin: tuple[float, ...],
    order: list[int],
) -> None:
    w, x, y, z = np.array(turn) / np.linalg.norm(turn)
    row = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    column = [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [
            save(
                folder / "in" / f"{place}.dcm",
                image(index, orientation=[*row, *column], spacing=spacing, gap=gap, origin=origin),
            )
            for place, index in enumerate(order)
        ]
        rules = {"t2w": {"description": "t2"}}
        assert_same_voxels(paths, only(run(folder / "in", folder / "out", rules=rules)))


def test_rescale_slopes_are_each_slices_own(tmp_path: Path) -> None:
    slopes = ["1", "2.5", "0.125", "1", "3"]
    paths = write_series(tmp_path / "in", RescaleSlope=lambda i: slopes[i], RescaleIntercept="-1.5")
    nifti = only(run(tmp_path / "in", tmp_path / "out"))
    assert_same_voxels(paths, nifti)
    assert nib.load(nifti).get_data_dtype() == np.float32


def test_values_beyond_int16_are_kept(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "BitsStored": 16,
        "HighBit": 15,
        "voxels": pixels(0) + np.uint16(60000),
    }
    paths = write_series(tmp_path / "in", **fields)
    assert_same_voxels(paths, only(run(tmp_path / "in", tmp_path / "out")))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    voxels = [pixels(index).astype(order) for index in range(5)]
    paths = write_series(tmp_path / "in", syntax=syntax, voxels=lambda i: voxels[i])
    assert_same_voxels(paths, only(run(tmp_path / "in", tmp_path / "out")))


def compressed(folder: Path) -> list[Path]:
    # GDCM decodes RLE of eight by eight pixels and more.
    paths = write_series(folder, size=(8, 9))
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    return paths


@pytest.mark.parametrize("scheme", ["RLE", "jp2klossless", "jpeg_ls_lossless"])
def test_compressed_pixels_are_decoded(tmp_path: Path, scheme: str) -> None:
    """pydicom's own test files: one MR image, stored in several compressions and in none."""
    truth = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    packed = pydicom.dcmread(str(get_testdata_file(f"MR_small_{scheme}.dcm", download=False)))
    for name, dataset in (("in", packed), ("plain", truth)):
        for index in range(3):
            dataset.SOPInstanceUID = uid(index)
            dataset.SeriesDescription = "T2"
            dataset.ImagePositionPatient = short([0, 0, GAP * index])
            dataset.ImageOrientationPatient = short(AXIAL)
            save(tmp_path / name / str(index), dataset)
    manifest = run(tmp_path / "in", tmp_path / "out")
    assert_same_voxels((tmp_path / "plain").iterdir(), only(manifest))


@pytest.mark.parametrize("positions", [range(5), range(4, -1, -1)])
def test_enhanced_multi_frame_with_its_frames_in_order(tmp_path: Path, positions: range) -> None:
    save(tmp_path / "in" / "a.dcm", enhanced(positions))
    plain = [save(tmp_path / "plain" / f"{i}.dcm", image(i, orientation=OBLIQUE)) for i in range(5)]
    assert_same_voxels(plain, only(run(tmp_path / "in", tmp_path / "out")))


def localizer(folder: Path) -> None:
    planes = (AXIAL, SAGITTAL, CORONAL)
    write_series(folder, 6, orientation=lambda i: planes[i % 3])


def twice(folder: Path) -> None:
    for path in write_series(folder):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))


def volumes(folder: Path, times: int = 3, **fields: Any) -> None:
    """Several volumes in one series; callable fields are asked for each volume's value."""
    for time in range(times):
        own = {k: v(time) if callable(v) else v for k, v in fields.items()}
        for index in range(4):
            save(folder / f"{time}-{index}.dcm", image(index, vary=(time,), **own))


def cut(folder: Path, keep: int) -> None:
    path = write_series(folder)[2]
    path.write_bytes(path.read_bytes()[:keep])


def broken(folder: Path, data: bytes, name: str = "005.dcm") -> None:
    (write_series(folder)[0].parent / name).write_bytes(data)


def headerless(folder: Path) -> None:
    for index, path in enumerate(write_series(folder)):
        dataset = image(index)
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=True, little_endian=True)


def garbage(folder: Path, syntax: str) -> None:
    for index in range(3):
        dataset = image(index, syntax=syntax, PixelData=encapsulate([b"garbage!" * 4]))
        dataset["PixelData"].is_undefined_length = True
        save(folder / f"{index}.dcm", dataset)


def frames(folder: Path, *positions: int, **fields: Any) -> None:
    save(folder / "a.dcm", enhanced(positions or range(5), **fields))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
CT = "1.2.840.10008.5.1.4.1.1.2"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
BETWEEN = dict(zip(range(6), [0.0, 0.0, 0.0, 800.0, 800.0, 800.0], strict=True))

# what is written, what the refusal says
TRAPS: dict[str, tuple[Made, tuple[str, ...]]] = {
    "missing slice": (
        lambda f: write_series(f, skip=(2,)),
        ("series 4 (axial, 4 images, 't2_tse_tra'): 1 missing slice: a gap of 6 mm after slice 2",),
    ),
    "missing slices": (
        lambda f: write_series(f, 9, skip=(2, 3, 6)),
        ("3 missing slices: a gap of 9 mm after slice 2 of 6, where others are 3 mm",),
    ),
    "uneven": (
        lambda f: write_series(f, origin=lambda i: (0, 0, i % 2 / 2)),
        ("uneven gaps between slices, 2.5 to 3.5 mm",),
    ),
    "b-values": (
        lambda f: volumes(f, SequenceName=lambda t: f"*ep_b{(50, 400, 800)[t]}t"),
        ("several b-values (50, 400, 800); say which",),
    ),
    "time points": (
        lambda f: volumes(f, TemporalPositionIdentifier=lambda t: t + 1),
        ("3 time points in one series (12 images, 4 slices)",),
    ),
    "echoes": (
        lambda f: volumes(f, 2, EchoTime=lambda t: str(10 * t + 5)),
        ("2 echo times in one series (8 images, 4 slices)",),
    ),
    "magnitude and phase": (
        lambda f: volumes(f, 2, ImageType=lambda t: ["ORIGINAL", "PRIMARY", "MP"[t]]),
        ("2 kinds of image (magnitude, phase, ...) in one series",),
    ),
    "repeats": (volumes, ("up to 3 images at one position (12 images, 4 slices)",)),
    "duplicates": (twice, ("5 duplicate slices: the same image lies there more than once",)),
    "localizer": (localizer, ("is a localizer or of mixed orientation (slices in 3 planes)",)),
    "declared localizer": (
        lambda f: write_series(f, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        ("no series fits its rule: series 4 (axial, 5 images, 't2_tse_tra') is a localizer",),
    ),
    "mosaic": (
        lambda f: write_series(f, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
        ("is a mosaic",),
    ),
    "mixed orientation": (
        lambda f: write_series(f, orientation=lambda i: AXIAL if i < 3 else OBLIQUE),
        ("mixed orientation: its slices are not parallel",),
    ),
    "mixed matrix": (
        lambda f: write_series(f, size=lambda i: (6, 5) if i < 3 else (5, 5)),
        ("different matrix sizes among its slices",),
    ),
    "mixed spacing": (
        lambda f: write_series(f, spacing=lambda i: SPACING if i < 3 else (1, 1)),
        ("different pixel spacings among its slices",),
    ),
    "tilted gantry": (
        lambda f: write_series(f, ImagePositionPatient=lambda i: [str(i), "0", str(3 * i)]),
        ("slices shifted sideways (a tilted gantry)",),
    ),
    "skewed axes": (
        lambda f: write_series(f, ImageOrientationPatient=short([1, 0, 0, 0.6, 0.8, 0])),
        ("ImageOrientationPatient is not two unit vectors",),
    ),
    "one slice": (lambda f: write_series(f, 1), ("only one slice",)),
    "no geometry": (
        lambda f: write_series(f, ImagePositionPatient=None),
        ("5 files are without position, orientation or spacing",),
    ),
    "CT": (
        lambda f: write_series(f, Modality="CT", SOPClassUID=CT),
        ("(axial, 5 images, 't2_tse_tra') is not MR but CT",),
    ),
    "screen shots": (
        lambda f: write_series(f, SOPClassUID=CAPTURE), ("is a secondary capture",),
    ),
    "burned in": (
        lambda f: write_series(f, BurnedInAnnotation="YES"), ("text burned into its pixels",),
    ),
    "colour": (
        lambda f: write_series(
            f, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
            voxels=np.zeros((6, 5, 3), np.uint16),
        ),
        ("5 files are colour",),
    ),
    "inverted": (
        lambda f: write_series(f, PhotometricInterpretation="MONOCHROME1"), ("MONOCHROME2",),
    ),
    "truncated pixels": (
        lambda f: cut(f, -7), ("a file is truncated: the file ends before its pixels do",),
    ),
    "truncated header": (
        lambda f: cut(f, 500), ("file 3 of 5: truncated or damaged: its header does not say",),
    ),
    "truncated at once": (lambda f: cut(f, 90), ("file 3 of 5: no DICOM: the mark DICM",)),
    "truncated and compressed": (
        lambda f: [p.write_bytes(p.read_bytes()[:-9]) for p in compressed(f)],
        ("5 files are truncated",),
    ),
    "header-less": (headerless, ("files 1, 2, 3, 4, 5 of 5: header-less: DICOM fields without",)),
    "random bytes": (
        lambda f: broken(f, np.random.default_rng(0).bytes(4000)),
        ("file 6 of 6: no DICOM: the mark DICM is not where it should be",),
    ),
    "empty file": (lambda f: broken(f, b""), ("file 6 of 6: empty",)),
    "LFS pointer": (lambda f: broken(f, POINTER), ("file 6 of 6: a Git-LFS pointer",)),
    "LFS pointer, bare name": (lambda f: broken(f, POINTER, "IM6"), ("a Git-LFS pointer",)),
    "unknown compression": (
        lambda f: garbage(f, HTJ2KLossless), ("series 4", "SimpleITK cannot decode its pixels"),
    ),
    "damaged compression": (
        lambda f: garbage(f, JPEG2000Lossless), ("SimpleITK cannot decode its pixels",),
    ),
    "two candidates": (
        lambda f: [write_series(f, series=n) for n in (4, 9)],
        ("2 series fit its rule: series 4 (axial, 5 images, 't2_tse_tra'), series 9 (", "by pick"),
    ),
    "two patients": (
        lambda f: write_series(f, PatientID=lambda i: f"p{i % 2}"), ("its files name 2 patients",),
    ),
    "enhanced without geometry": (
        lambda f: frames(f, geometry=False), ("multi-frame without the geometry of each frame",),
    ),
    "enhanced with a missing slice": (lambda f: frames(f, 0, 1, 3, 4), ("1 missing slice",)),
    "enhanced out of order": (
        lambda f: frames(f, 0, 2, 1, 3), ("series 4", "frames are not one volume in order"),
    ),
    "enhanced with b-values": (
        lambda f: frames(f, 0, 1, 2, 0, 1, 2, b_values=BETWEEN), ("several b-values (0, 800)",),
    ),
    "enhanced with slopes": (
        lambda f: frames(f, slopes={i: i + 1.0 for i in range(5)}), ("another rescale slope",),
    ),
    # SimpleITK reads both without a word and puts them elsewhere.
    "frames of a single-frame class": (
        lambda f: frames(f, SOPClassUID=MR),
        ("series 4", "SimpleITK reads another geometry than its headers state (22.4 mm apart)"),
    ),
    "slices of a multi-frame class": (
        lambda f: write_series(f, SOPClassUID=ENHANCED),
        ("SimpleITK reads another geometry than its headers state",),
    ),
    "enhanced and truncated": (
        lambda f: (f / "a.dcm").write_bytes(save(f / "a.dcm", enhanced()).read_bytes()[:-1]),
        ("truncated",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_no_volume_is_refused_by_name(tmp_path: Path, trap: str) -> None:
    make, words = TRAPS[trap]
    make(tmp_path / "in")
    refused(tmp_path / "in", tmp_path / "out", *words)


def test_all_is_refused_at_once_and_can_be_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    good = write_series(source, study="good")
    write_series(source, study="a", skip=(2,))
    write_series(source, study="b", orientation=SAGITTAL)
    (source / "stray").mkdir()
    (source / "stray" / "IM1").write_bytes(POINTER)
    message = refused(
        source,
        out,
        "2 of 3 studies cannot be imported:",
        "1 missing slice",
        "(sagittal, 5 images, 't2_tse_tra') is sagittal, not axial",
        "files that cannot be read:\n  file 15 of 15: a Git-LFS pointer",
        "--set skip_bad=true",
    )
    assert "study-" not in message
    assert not out.exists()
    # Where they lie is told on demand only: paths often hold names.
    named = refused(source, out, "it lies in a-4", "(stray/IM1)", show_paths=True)
    assert str(tmp_path) not in named.replace(str(out), "")
    manifest = run(source, out, skip_bad=True)
    assert_same_voxels(good, only(manifest))
    assert "left out:" in capsys.readouterr().err
    assert not (out / ".import-journal.jsonl").exists()


def test_undecodable_pixels_are_named_before_anything_is_written(tmp_path: Path) -> None:
    write_series(tmp_path / "in", study="good")
    garbage(tmp_path / "in" / "bad", HTJ2KLossless)
    refused(tmp_path / "in", tmp_path / "out", "1 of 2 studies", "cannot decode its pixels")
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_may_be_a_slice_of_what_lies_beside_it(tmp_path: Path) -> None:
    """Not known to be one, so geometry is whole; but it may have been the last slice."""
    source = tmp_path / "in"
    broken(source, b"\1" * 500)
    refused(source, tmp_path / "out", "1 of 1 studies", "file 6 of 6: no DICOM", skip_bad=True)


def test_problems_of_series_that_no_rule_wants_are_no_errors(tmp_path: Path) -> None:
    source = tmp_path / "in"
    paths = write_series(source)
    write_series(source, series=1, SeriesDescription="localizer", skip=(1,))
    write_series(source, series=2, SeriesDescription="dce", Modality="CT", SOPClassUID=CT)
    unwanted = write_series(source, series=3, SeriesDescription="t1_tse_tra")
    unwanted[0].write_bytes(unwanted[0].read_bytes()[:-9])
    unwanted[1].write_bytes(b"nonsense" * 99)
    assert_same_voxels(paths, only(run(source, tmp_path / "out")))


def test_a_thickness_that_is_not_the_gap_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_series(tmp_path / "in", gap=3.6)
    nifti = only(run(tmp_path / "in", tmp_path / "out"))
    assert_same_voxels(paths, nifti)
    assert nib.load(nifti).header.get_zooms()[2] == pytest.approx(3.6)
    assert "SliceThickness is 3 mm, the gap 3.6 mm" in capsys.readouterr().err


def test_a_slice_that_may_be_missing_at_an_end_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "in", skip=(0,))
    run(tmp_path / "in", tmp_path / "out")
    assert "instance numbers do not run from 1" in capsys.readouterr().err


def test_files_that_are_no_images_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    paths = write_series(source)
    save(source / "DICOMDIR", image(Rows=None, SOPClassUID="1.2.840.10008.1.3.10"))
    save(source / "report", image(Rows=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"))
    (source / "README.txt").write_text("a note")
    (source / "VIEWER").write_text("a note without a suffix")
    (source / "LOCKFILE").write_bytes(b"")
    (source / ".DS_Store").write_bytes(b"\0" * 9)
    assert_same_voxels(paths, only(run(source, tmp_path / "out")))
    assert "5 of 10 files are no images" in capsys.readouterr().err


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "elsewhere")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "in")
    assert_same_voxels(paths, only(run(tmp_path / "in", tmp_path / "out")))
    (tmp_path / "in" / "gone.dcm").symlink_to(tmp_path / "nowhere")
    words = "file 6 of 6: cannot be opened (No such file or directory)"
    refused(tmp_path / "in", tmp_path / "out2", words)


def test_sources_without_images_are_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    refused(source, out, "no such folder", "voxella import dicom FOLDER")
    source.mkdir()
    refused(source, out, "an empty folder", "voxella import dicom FOLDER")
    (source / "note.txt").write_text("nothing")
    refused(source, out, "none of its 1 files is a DICOM image", "voxella import table")
    refused(source / "note.txt", out, "a file, not a folder")
    refused(source, source / "out", "lies in the source")


def test_an_import_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for study in "abc":
        write_series(source, study=study)
    write = dicom_pixels.write_stack
    written: list[str] = []

    def stopped(volume: Any, target: Path) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(target.name)
        write(volume, target)

    monkeypatch.setattr(dicom_reader, "write_stack", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(source, out)
    # One of the two is harmed meanwhile, so two are to be written, not three and not one.
    (out / "images" / written[0]).write_bytes(b"harmed")
    again: list[str] = []

    def noted(volume: Any, target: Path) -> None:
        again.append(target.name)
        write(volume, target)

    monkeypatch.setattr(dicom_reader, "write_stack", noted)
    assert len(run(source, out)) == 3
    assert len(again) == 2
    assert written[1] not in again


def test_the_contract_holds(tmp_path: Path) -> None:
    write_series(tmp_path / "in")
    write_series(tmp_path / "in", study="other")
    run(tmp_path / "in", tmp_path / "once")
    arguments = {
        "source": tmp_path / "in",
        "key_file": tmp_path / ".voxella-key",
        "val_share": 0,
        "test_share": 0,
    }
    results = list(run_contract("importers", "dicom", arguments))
    assert len(results) >= 4
    assert [result for result in results if result.outcome != "passed"] == []


def test_a_recipe_states_rules(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in", SeriesDescription="unusual name")
    rules = {"t2w": {"description": "^unusual", "plane": "axial"}}
    block = Component(name="dicom", source=tmp_path / "in", rules=rules, val_share=0, test_share=0)
    assert_same_voxels(paths, only(registry.build("importers", block)(tmp_path / "out")))
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text())["images"]


def test_normals_of_the_writer() -> None:
    """The hand-written affine above rests on it."""
    np.testing.assert_allclose(normal(OBLIQUE), [0, 0.6, 0.8])
    assert ORIGIN == (-12.5, -20.25, 7.75)
