"""What asks for more than a machine has is refused before it is allocated; limits can be raised."""

from __future__ import annotations

import gzip
import re
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dicom_writer import image
from openpyxl import Workbook
from test_cli import _keep_signals, refused
from tiny_run import REPOSITORY

from voxella import limits
from voxella.case import Case, Manifest
from voxella.check.headers import read_header
from voxella.cli import main
from voxella.data.rows.read import read_table
from voxella.errors import UserError
from voxella.imaging.problem import ImageError
from voxella.imaging.volume import read_volume
from voxella.limits import CELLS, MERGED_CELLS, RECIPE_BYTES, TEXT_BYTES, Limit
from voxella.recipe.load import load_recipe
from voxella.sampling.prompt_files import prompt_cases
from voxella.sampling.prompt_values import PromptRules

__all__ = ["_keep_signals"]  # a fixture of the command line's tests

SIDE = 1600
FEW_BYTES = 1 << 24


def little_memory(act: Callable[[], Any]) -> UserError:
    """Run what has to be refused; no part of what is asked for may be allocated on the way."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            act()
        assert tracemalloc.get_traced_memory()[1] < FEW_BYTES
    finally:
        tracemalloc.stop()
    return caught.value


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound header of 1600 x 1600 x 1600 int16 voxels before zeros, of which deflate makes 4 MB.

    What is made here is a tenth of that: nobody should come to read it.
    """
    header = nib.Nifti1Header()
    header.set_data_shape((SIDE, SIDE, SIDE))
    header.set_data_dtype(np.int16)
    header["pixdim"][1:4] = 0.2
    header["vox_offset"] = 352
    header.set_sform(np.diag([0.2, 0.2, 0.2, 1.0]), code=1)
    header.set_xyzt_units("mm")
    path = tmp_path_factory.mktemp("bomb") / "cube.nii.gz"
    zeros = gzip.compress(bytes(1 << 26), 9)
    # Members that follow each other are one stream.
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4)) + zeros * 122)
    assert path.stat().st_size * 1032 > 2 * SIDE**3
    return path


def test_a_cube_of_1600_voxels_is_refused_unread(bomb: Path) -> None:
    error = little_memory(lambda: read_volume(bomb))
    assert isinstance(error, ImageError)
    assert error.code == "image.impossible-size"
    assert f"1600 x 1600 x 1600 = {SIDE**3:,} voxels" in error.problem
    assert f"VOXELLA_MAX_VOXELS={SIDE**3}" in str(error.remedy)


def test_the_check_and_prepare_say_the_same(
    bomb: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = Case(id="a", group="a", images={"t2w": str(bomb)}, split="train")
    Manifest(tmp_path / "dataset", [case]).write()
    assert main(["check", str(tmp_path / "dataset"), "--workers", "1"]) == 2
    assert "image.impossible-size" in capfd.readouterr().out
    recipe = str(REPOSITORY / "recipes" / "base.yaml")
    words = ["--dataset", str(tmp_path / "dataset"), "--out", str(tmp_path / "run")]
    said = refused(capfd, "prepare", recipe, *words, "--workers", "1")
    assert "image.impossible-size" in said or "1600 x 1600 x 1600" in said


def test_a_limit_is_raised_by_its_name(
    bomb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.eye(4)), tmp_path / "small.nii")
    monkeypatch.setenv("VOXELLA_MAX_VOXELS", "119")
    with pytest.raises(UserError, match=r"4 x 5 x 6 = 120 voxels\n  expected: at most 119"):
        read_volume(tmp_path / "small.nii")
    monkeypatch.setenv("VOXELLA_MAX_VOXELS", "120")
    assert read_volume(tmp_path / "small.nii").array.size == 120
    monkeypatch.setenv("VOXELLA_MAX_VOXELS", str(SIDE**3))
    assert read_header(bomb).shape == (SIDE,) * 3
    for wrong in ("many", "-3", "1e9", "9" * 40, ""):
        monkeypatch.setenv("VOXELLA_MAX_VOXELS", wrong)
        with pytest.raises(UserError, match="VOXELLA_MAX_VOXELS is no whole number"):
            read_volume(tmp_path / "small.nii")


def test_the_other_formats_claim_no_more_either(tmp_path: Path) -> None:
    fields = "ObjectType = Image\nNDims = 3\nDimSize = 40000 40000 40000\nElementType = MET_SHORT\n"
    placed = "ElementSpacing = 1 1 1\nOffset = 0 0 0\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    (tmp_path / "a.mha").write_text(f"{fields}{placed}ElementDataFile = LOCAL\n")
    nrrd = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        "sizes: 40000 40000 40000\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        "kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(nrrd.encode() + bytes(8))
    for name in ("a.mha", "a.nrrd"):
        path = tmp_path / name
        error = little_memory(lambda path=path: read_volume(path))  # type: ignore[misc]
        assert "40000 x 40000 x 40000 = 64,000,000,000,000 voxels" in error.problem


def test_dicom_of_more_voxels_than_the_limit_is_refused_undecoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for index in range(3):
        image(index).save_as(tmp_path / f"{index}.dcm", enforce_file_format=True)
    monkeypatch.setenv("VOXELLA_MAX_VOXELS", "89")  # 5 x 6 x 3 are 90
    monkeypatch.setattr("voxella_importers.dicom.pixels._read", None)
    said = refused(capfd, "import", "dicom", str(tmp_path), "--out", f"{tmp_path}-out")
    assert "5 x 6 x 3 = 90 voxels, at most 89 are read" in said
    assert "VOXELLA_MAX_VOXELS=90" in said


def _sheet(tmp_path: Path, act: Callable[[Any], None]) -> Path:
    book = Workbook()
    sheet: Any = book.active
    sheet.append(["id", "t2w"])
    sheet.append(["a", "a.nii.gz"])
    act(sheet)
    book.save(tmp_path / "cases.xlsx")
    return tmp_path / "cases.xlsx"


def _last_cell(sheet: Any) -> None:
    sheet["XFD1048576"] = "x"


def test_one_cell_at_the_end_of_a_sheet(tmp_path: Path) -> None:
    path = _sheet(tmp_path, _last_cell)
    assert path.stat().st_size < 6000
    with pytest.raises(UserError) as caught:
        read_table(path, ["id", "t2w"])
    assert "cells" in caught.value.problem
    assert "VOXELLA_MAX_CELLS=17179869184" in str(caught.value.remedy)


@pytest.mark.parametrize("area", ["A1:XFD1048576", "C1:C1000000", "$C$3:$A$400000"])
def test_a_merge_of_a_million_cells(tmp_path: Path, area: str) -> None:
    path = _sheet(tmp_path, lambda sheet: None)
    merged = f'</sheetData><mergeCells count="1"><mergeCell ref="{area}"/></mergeCells>'
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data.replace(b"</sheetData>", merged.encode()))
    error = little_memory(lambda: read_table(path, ["id", "t2w"]))
    assert "cells in merged ranges" in error.problem
    assert MERGED_CELLS.name in str(error.remedy)


def test_a_workbook_that_unpacks_to_more_than_memory(tmp_path: Path) -> None:
    path = _sheet(tmp_path, lambda sheet: None)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/sharedStrings2.xml", "w", force_zip64=True) as entry,
    ):
        for _ in range(600):
            entry.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    error = little_memory(lambda: read_table(path, ["id", "t2w"]))
    assert "bytes when unpacked" in error.problem


def test_a_table_of_more_cells_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CELLS.name, "7")
    (tmp_path / "a.csv").write_text("id,t2w\na,b\nc,d\ne,f\n")
    with pytest.raises(UserError, match="lines 1 to 4: 8 cells"):
        read_table(tmp_path / "a.csv", ["id"])
    monkeypatch.setenv(CELLS.name, "8")
    assert len(read_table(tmp_path / "a.csv", ["id"]).rows) == 3


def test_a_file_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    small = Limit("VOXELLA_MAX_TRIED", 3_000_000, "bytes")
    with pytest.raises(UserError, match="bytes"):
        small.read(Path("/dev/zero"))  # which has no end, and no size
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    assert len(small.read(tmp_path / "a")) == 3_000_000
    with (tmp_path / "a").open("r+b") as file:
        file.truncate(1 << 40)  # a terabyte that takes no room
    error = little_memory(lambda: small.read(tmp_path / "a"))
    assert f"{1 << 40:,} bytes" in error.problem


@pytest.mark.parametrize("what", ["recipe", "manifest", "prompts", "table"])
def test_text_files_of_terabytes(tmp_path: Path, what: str) -> None:
    path = tmp_path / {"manifest": "manifest.jsonl", "table": "a.csv"}.get(what, f"{what}.yaml")
    with path.open("wb") as file:
        file.truncate(1 << 40)
    recipe = load_recipe(
        REPOSITORY / "recipes" / "ccella.yaml", ["smoke"], [f"sample.prompts={path}"]
    )
    facts: Any = type("Facts", (), {"spacing_mm": None, "classes": ["negative", "positive"]})
    acts: dict[str, Callable[[], object]] = {
        "recipe": lambda: load_recipe(path),
        "manifest": lambda: Manifest.read(tmp_path),
        "prompts": lambda: prompt_cases(recipe.sample, PromptRules.of(recipe, facts)),
        "table": lambda: read_table(path, ["id"]),
    }
    error = little_memory(acts[what])
    limit = RECIPE_BYTES if what == "recipe" else TEXT_BYTES
    assert f"at most {limit.usual:,}" in str(error.expected)


ABSURD = [
    "sample.per_case=100000000",
    "sample.batch_size=100000000",
    "sample.steps=1000000000",
    "sample.sweep={steps: [1, 99999999]}",
    "evaluate.bootstrap=1000000000000",
    "evaluate.fid_bootstrap=1000000000000",
    "evaluate.baseline_halves=1000000000000",
    "evaluate.ms_ssim_pairs=1000000000000",
    "evaluate.feature_dim=1000000000",
    "evaluate.feature_seed=18446744073709551616",
    "seed=18446744073709551616",
    "seed=-1",
    "prepare.size=[100000, 100000, 100000]",
    "prepare.size=[16000, 16000, 16000]",
    "latent.size=[1000000, 16, 8]",
    "latent.channels=1000000",
    "latent.tiling=[1000000, 16, 16]",
    "autoencoder_training.patch_size=[1000000, 16, 16]",
    "autoencoder_training.batch_size=1000000000",
    "autoencoder_training.steps=1000000000000",
    "autoencoder_training.adversarial={layers: 40}",
    "text.max_tokens=1000000000",
    "text.width=1000000000",
    "train.steps=1000000000000",
    "train.panel_steps=1000000000",
    "diffusion.steps=1000000000",
    "optimizer.warmup_steps=1000000000000",
    "optimizer.lr=.inf",
    "loss.class_weight=.nan",
    "backbone.channels=[9999999999999999999, 8]",
    "deepspeed.gradient_clipping=.nan",
    "deepspeed.train_batch_size=99999999999999999999999",
]


@pytest.mark.parametrize("setting", ABSURD)
def test_numbers_that_nobody_means(setting: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(REPOSITORY / "recipes" / "ccella.yaml", ["smoke"], [setting])
    said, key = str(caught.value), setting.partition("=")[0]
    assert f"--set {setting}: {key}" in said.replace("...", setting.partition("=")[2])
    assert re.search(r"expected: |less than|at most|more than 64 bits|greater than", said)


def test_every_limit_is_told_on_the_page_of_limits() -> None:
    page = (REPOSITORY / "docs" / "reference" / "limits.md").read_text()
    every = [value for value in vars(limits).values() if isinstance(value, Limit)]
    assert len(every) == len(limits.__all__) - 1
    for limit in every:
        assert f"| `{limit.name}` | {limit.usual:,} |" in page
