"""`voxella export croissant`: read by MLCommons' own reader, and by hand where it is absent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow
from small_volumes import oblique

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import read_image, read_volume
from voxella_exporters.plugin import croissant

SECRET = "A focus in the left peripheral zone, PI-RADS 4."
MADE = {"synthetic": True, "model": "ab" * 32, "seed": 3, "sampler": "ddim", "steps": 50}
ABOUT: dict[str, Any] = {
    "dataset_name": "prostate",
    "licence": "https://creativecommons.org/licenses/by/4.0/",
    "version": "1.0.0",
    "date": "2026-11-28",
    "citation": "Nobody et al. 2026",
    "creator": "UMC",
    "url": "https://example.org/prostate",
}


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Two synthetic cases of one patient, and a real one whose file says whose it is."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "report.txt").write_text(SECRET)
    cases = []
    for number, (name, group) in enumerate(
        (("c1-s000", "g1"), ("c1-s001", "g1"), ("jansen", "MRN77"))
    ):
        array = np.random.default_rng(number).normal(size=(6, 5, 4)).astype(np.float32)
        image = nib.Nifti1Image(array, oblique((0.5, 0.6, 3.0)))
        image.header["descrip"] = b"JANSEN^P"
        nib.save(image, folder / f"{name}.nii.gz")
        fields: dict[str, Any] = {"id": name, "group": group, "images": {"t2w": f"{name}.nii.gz"}}
        fields |= {"conditions": {"age": 60 + number, "scanner": "Skyra"}, "label": "positive"}
        fields |= {"extra": {**MADE, "spacing_mm": [0.5, 0.6, 3.0]}} if number < 2 else {
            "texts": {"report": "report.txt"}, "split": "test", "extra": {"folder": "jansen"},
        }  # fmt: skip
        cases.append(Case.model_validate(fields))
    Manifest(folder, cases).write()
    return Manifest.read(folder)


def told(out: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((out / "croissant.json").read_text())
    return loaded


def test_the_readers_of_croissant_read_it(
    dataset: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = pytest.importorskip("mlcroissant")
    out = tmp_path / "out"
    croissant(**ABOUT)(dataset, out)
    data = reader.Dataset(jsonld=str(out / "croissant.json"))
    # No error, no warning: neither of its checks nor of its log.
    assert data.metadata.ctx.issues.errors == set()
    assert data.metadata.ctx.issues.warnings == set()
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
    assert data.metadata.conforms_to[0] == "http://mlcommons.org/croissant/1.0"
    assert [str(licence) for licence in data.metadata.license] == [ABOUT["licence"]]
    # Its own names of the fields of RAI.
    assert data.metadata.data_collection_type == ["Synthetic", "Others"]
    assert "seed: 3" in data.metadata.data_collection
    assert len(data.metadata.personal_sensitive_information) == 3
    assert data.metadata.data_limitations
    records = [
        {key.removeprefix("cases/"): value for key, value in record.items()}
        for record in data.records(record_set="cases")
    ]
    assert [record["id"] for record in records] == [b"c1-s000", b"c1-s001", b"P00001-01"]
    assert [record["group"] for record in records] == [b"g1", b"g1", b"P00001"]
    assert [record["synthetic"] for record in records] == [True, True, False]
    assert [record["condition_age"] for record in records] == [60.0, 61.0, 62.0]
    assert [record["condition_scanner"] for record in records] == [b"Skyra"] * 3
    assert [record["spacing_s_mm"] for record in records[:2]] == [3.0, 3.0]
    for case, record in zip(dataset, records, strict=True):
        path = out / record["image_t2w"].decode()
        assert hashlib.sha256(path.read_bytes()).hexdigest().encode() == record["image_t2w_sha256"]
        written = read_volume(path)
        source = read_volume(dataset.image_path(case, "t2w"))
        np.testing.assert_array_equal(written.array, source.array)
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)


def test_a_missing_licence_is_told_by_its_reader_and_by_the_remark(
    dataset: Manifest, tmp_path: Path
) -> None:
    reader = pytest.importorskip("mlcroissant")
    exported = croissant(**{**ABOUT, "licence": None})(dataset, tmp_path / "out")
    data = reader.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))
    assert "license" in str(data.metadata.ctx.issues.warnings)
    assert "readers of Croissant expect licence as well" in "\n".join(exported.remarks)


def test_a_changed_file_is_noticed_by_its_reader(dataset: Manifest, tmp_path: Path) -> None:
    reader = pytest.importorskip("mlcroissant")
    out = tmp_path / "out"
    croissant(**ABOUT)(dataset, out)
    (out / "cases.csv").write_text((out / "cases.csv").read_text().replace("positive", "negative"))
    data = reader.Dataset(jsonld=str(out / "croissant.json"))
    with pytest.raises(Exception, match=r"Download\(cases\.csv\)") as caught:
        list(data.records(record_set="cases"))
    assert "hash" in str(caught.value.__cause__).lower()


def test_files_and_fields_by_hand(dataset: Manifest, tmp_path: Path) -> None:
    """What the specification asks of a data set, without a reader: section by section."""
    out = tmp_path / "out"
    croissant(**ABOUT)(dataset, out)
    data = told(out)
    # "Croissant: Dataset-level information", the required and recommended properties.
    for name in ("@context", "@type", "conformsTo", "description", "license", "name", "url"):
        assert data[name], name
    for name in ("creator", "datePublished", "version", "citeAs"):
        assert data[name], name
    assert data["@type"] == "sc:Dataset"
    assert data["conformsTo"] == [
        "http://mlcommons.org/croissant/1.0",
        "http://mlcommons.org/croissant/RAI/1.0",
    ]
    files = {file["@id"]: file for file in data["distribution"]}
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files.keys() == there - {"croissant.json"}
    for name, file in files.items():
        content = (out / name).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
        assert file["contentUrl"] == name
        assert file["encodingFormat"]
    (records,) = data["recordSet"]
    heading = (out / "cases.csv").read_text().splitlines()[0].split(",")
    assert [field["source"]["extract"]["column"] for field in records["field"]] == heading
    assert {field["source"]["fileObject"]["@id"] for field in records["field"]} == {"cases.csv"}
    assert {field["dataType"] for field in records["field"]} == {
        "sc:Text",
        "sc:Float",
        "sc:Boolean",
    }


def test_the_context_is_the_standard_one(dataset: Manifest, tmp_path: Path) -> None:
    rdf = pytest.importorskip("mlcroissant._src.core.rdf")
    croissant()(dataset, tmp_path / "out")
    assert told(tmp_path / "out")["@context"] == rdf.make_context()


def test_no_id_no_header_and_no_report_leaves(dataset: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported = croissant()(dataset, out)
    assert "the texts of 1 cases are left out; --with-text" in "\n".join(exported.remarks)
    assert "licence, version, date, citation" in "\n".join(exported.remarks)
    for path in out.rglob("*"):
        assert "jansen" not in path.name
        assert not path.is_symlink()
        if path.suffix == ".gz":
            assert bytes(nib.load(path).header["descrip"]).strip(b"\0") == b""
        elif path.is_file():
            text = path.read_text()
            assert not [word for word in ("jansen", "MRN77", SECRET) if word in text]
    croissant(with_text=True)(dataset, tmp_path / "asked")
    assert SECRET in (tmp_path / "asked" / "cases.csv").read_text()
    assert SECRET not in (tmp_path / "asked" / "croissant.json").read_text()
    assert "The table holds reports" in str(told(tmp_path / "asked"))


def test_the_same_data_set_gives_the_same_bytes(dataset: Manifest, tmp_path: Path) -> None:
    for name in ("a", "b"):
        croissant(**ABOUT)(dataset, tmp_path / name)
    one, two = (
        {str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in ("a", "b")
    )
    assert one == two


def test_pictures_stay_pictures(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / "tile.png")
    grey = np.random.default_rng(1).integers(0, 256, (8, 8)).astype(np.uint8)
    Pillow.fromarray(grey).save(tmp_path / "grey.png")
    images = {"he": "tile.png", "grey": "grey.png"}
    dataset = Manifest(tmp_path, [Case(id="a", group="a", images=images, extra=MADE)])
    croissant()(dataset, tmp_path / "out")
    again = np.asarray(Pillow.open(tmp_path / "out" / "images" / "a_he.png"))
    np.testing.assert_array_equal(again, colours)
    for name, file in images.items():
        source, written = (
            read_image(path)
            for path in (tmp_path / file, tmp_path / "out" / "images" / f"a_{name}.png")
        )
        np.testing.assert_allclose(
            written.array / written.white, source.array / source.white, atol=1e-7
        )


def test_the_command_line_and_what_is_refused(
    dataset: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["export", "croissant", str(dataset.folder), "--out", str(out), "--name", "prostate"]
    assert main([*command, "--set", "date=2026-11-28", "--set", "version=1.0"]) == 0
    assert "cases.csv, croissant.json, images/" in capsys.readouterr().out
    data = told(out)
    assert (data["name"], data["datePublished"], data["version"]) == (
        "prostate", "2026-11-28", "1.0",
    )  # fmt: skip
    assert main(command) == 2
    assert "not overwritten" in capsys.readouterr().err
    with pytest.raises(UserError, match="date is no date"):
        croissant(date="soon")
    (dataset.folder / "jansen.nii.gz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="1 cases cannot be exported"):
        croissant()(dataset, tmp_path / "x")
    assert not (tmp_path / "x").exists()
