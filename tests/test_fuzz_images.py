"""Two thousand damaged image files: each is read, or named; none crashes, hangs or takes memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from image_damage import make_bases

from voxella.errors import UserError
from voxella.imaging.headers import read_text_header
from voxella.imaging.volume import read_volume

DRIVER = Path(__file__).with_name("fuzz_images.py")
DAMAGES = 2000


def test_two_thousand_damaged_files_end_in_a_volume_or_a_named_problem(tmp_path: Path) -> None:
    command = [sys.executable, str(DRIVER), str(tmp_path), "0", str(DAMAGES)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=300)
    last = (tmp_path / "now").read_text()
    assert child.returncode == 0, f"ended at damage {last}:\n{child.stderr[-2000:]}"
    assert "Traceback" not in child.stderr
    found = json.loads((tmp_path / "outcomes.json").read_text())
    assert found["wrong"] == []
    assert sum(found["outcomes"].values()) == DAMAGES
    # The damage is of the kind that matters: of every format, some files are refused, some not.
    names = set(make_bases(tmp_path / "again"))
    assert len(names) == 11
    for name in names:
        refused = found["outcomes"][f"{name} refused"]
        read = sum(n for key, n in found["outcomes"].items() if key.startswith(name)) - refused
        assert refused > 50
        assert read > 5


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        # Each of these ended the process inside SimpleITK 2.5, or asked for all memory.
        ("plain.nrrd", "space origin: (0,0,0)", "space origin: " + "9" * 5000, "5000 characters"),
        ("packed.nrrd", "encoding: gzip", "encoding: " + "9" * 5000, "5000 characters"),
        ("plain.mha", "NDims = 3", "NDims = 1e300 1e300", "no sound field ndims"),
        ("packed.mha", "CompressedDataSize = ", "CompressedDataSize = -", "compresseddatasize"),
        ("plain.mha", "DimSize = 12 10 6", "DimSize = 12 10", "dimsize is malformed"),
        ("plain.mha", "ElementSpacing", "DimSize = 1 1 1\nElementSpacing", "is duplicated"),
        ("plain.nrrd", "(0,0,1.39", "(0,0,x1.39", "space directions is malformed"),
        ("plain.nrrd", "dimension: 3\n", "", "no sound field dimension"),
        ("apart.nhdr", "encoding: raw\n", "encoding: raw\n" + "9" * 5000, "5012 characters"),
        ("apart.nhdr", "apart.raw\n", "apart.raw\n" + "9" * 5000, "a line that is no field"),
        ("apart.nhdr", "apart.raw\n", "apart.raw\n" + "# x\n" * 20000, "no NRRD header"),
    ],
)
def test_headers_that_simpleitk_cannot_be_shown_are_refused(
    tmp_path: Path, name: str, old: str, new: str, words: str
) -> None:
    path = make_bases(tmp_path)[name][0]
    data = path.read_bytes()
    assert data.count(old.encode()) == 1
    path.write_bytes(data.replace(old.encode(), new.encode()))
    with pytest.raises(UserError, match=words):
        read_volume(path)


def test_a_last_line_may_lack_its_end(tmp_path: Path) -> None:
    path = make_bases(tmp_path)["apart.mhd"][0]
    whole = read_volume(path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    np.testing.assert_array_equal(read_volume(path).array, whole.array)


def test_text_headers_as_other_programs_write_them(tmp_path: Path) -> None:
    """Forms that are allowed and not SimpleITK's own, with SimpleITK to say what they mean."""
    bases = make_bases(tmp_path)
    changes = {
        "plain.mha": {
            b"Offset = 0 0 0": b"Position = 1 -2.5e0 +3",
            b"TransformMatrix = 1 0 0 0 1 0 0 0 1": b"Rotation = 0 1 0 1 0 0 0 0 -1",
            b"NDims = 3\n": b"Comment = " + b"made by hand " * 20 + b"\nNDims = 3\n",
        },
        "plain.nrrd": {
            b"space: left-posterior-superior": b"space: RAS\nmeasurement frame: (1,0,0) (0,1,0) "
            b"(0,0,1)\ncontent: " + b"a scan " * 300,
            b"kinds: domain": b'# a remark\nsite:=here\nspace units: "mm" "mm" "mm"\nkinds: domain',
        },
    }
    for name, edits in changes.items():
        path = bases[name][0]
        data = path.read_bytes()
        for old, new in edits.items():
            assert data.count(old) == 1, old
            data = data.replace(old, new)
        path.write_bytes(data)
        image = sitk.ReadImage(str(path))
        volume = read_volume(path)
        origin = volume.affine @ (*(0 if d > 0 else n - 1 for d, n in _directions(image)), 1.0)
        assert origin[:3] * (-1, -1, 1) == pytest.approx(image.GetOrigin())
        assert sorted(volume.spacing_mm) == pytest.approx(sorted(image.GetSpacing()))
        assert read_text_header(path).data_offset > 0


def _directions(image: sitk.Image) -> list[tuple[float, int]]:
    """Per R, A, S: the sign of the stored axis that runs along it, and its voxels."""
    matrix = [image.GetDirection()[row * 3 : row * 3 + 3] for row in range(3)]
    found = []
    for row, to_ras in enumerate((-1, -1, 1)):
        axis = max(range(3), key=lambda k: abs(matrix[row][k]))
        found.append((to_ras * matrix[row][axis], image.GetSize()[axis]))
    return found
