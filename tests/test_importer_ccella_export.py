"""`voxella export ccella`: what the released code would read, and the way back."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from PIL import Image as Pillow

from voxella.cache.text import CaseText, TextWriter, merge_text, text_key
from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.hashing import sha256_bytes
from voxella.imaging import write
from voxella.plugins.component import Component
from voxella.recipe.model import Text
from voxella_importers.ccella.export import CcellaExport, export_ccella
from voxella_importers.ccella.plugin import ccella

SECRET = "Laesie in de perifere zone, PI-RADS 4.\n"


def write_image(path: Path, spacing: tuple[float, float, float] = (0.5, 0.5, 3.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 2), np.int16), np.diag([*spacing, 1.0])), path)
    return path


def case(folder: Path, name: str, text: str | None = None, **more: Any) -> Case:
    """A case whose image and report lie in the data set's folder or beside it."""
    if text is not None:
        (folder / "reports").mkdir(exist_ok=True)
        (folder / "reports" / f"{name}.txt").write_text(text, encoding="utf-8")
    settings: dict[str, Any] = {
        "group": name,
        "images": {"t2w": str(write_image(folder.parent / "raw" / f"{name}.nii.gz").resolve())},
        "report": None if text is None else f"reports/{name}.txt",
        "report_sha256": None if text is None else sha256_bytes(text.encode()),
        "label": "negative",
        "label_source": "pirads",
        "extra": {"dataset": "UMC"},
    }
    return Case(id=name, **(settings | more))


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    folder = tmp_path / "dataset"
    folder.mkdir()
    adc = {
        "t2w": str(write_image(tmp_path / "raw" / "b.nii.gz").resolve()),
        "adc": str(write_image(tmp_path / "raw" / "b_adc.nii.gz").resolve()),
    }
    manifest = Manifest(
        folder,
        [
            case(folder, "a", SECRET, group="p1", label="positive"),
            case(folder, "b", group="p1", label_source="isup", images=adc),
            case(folder, "c", "Ä “text”", split="val", label_source="lesion_drawn"),
            case(folder, "d", split="test", label="positive", extra={"dataset": "X", "isup": 1}),
            case(folder, "e", SECRET, split="test", label=None, label_source=None),
        ],
    )
    manifest.write()
    return Manifest.read(folder)


def load(path: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def test_the_released_code_would_find_everything(dataset: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = export_ccella(dataset, out, CcellaExport(with_text=True))
    assert [path.name for path in written] == ["cases.xlsx", "train.json", "val.json", "test.json"]
    first, second = load(out / "train.json")
    assert first == {
        "axt2": "./a/axt2.nii.gz",
        "dataset": "UMC",
        "folder": "a",
        "pirads": [0, 1],
        "spacing": [0.5, 0.5, 3.0],
        "text": SECRET,
        "text_isnull": 0,
    }
    assert (second["text"], second["text_isnull"], second["pirads"]) == ("", 1, [1, 0])
    assert second["adc"] == "./b/adc.nii.gz"
    for entry in [first, second, *load(out / "test.json")]:
        # As the released code joins them.
        image = nib.load(os.path.join(out / "images", entry["axt2"]))
        assert image.header.get_zooms() == pytest.approx(entry["spacing"])
    page = load_workbook(out / "cases.xlsx")["cases"]
    assert [list(row) for row in page.iter_rows(values_only=True)] == [
        ["folder", "PosPIRADS", "PosISUP", "Label", "patient", "label_source"],
        ["a", 1, None, "train", "p1", "pirads"],
        ["b", None, 0, "train", "p1", "isup"],
        ["c", 0, None, "val", "c", "lesion_drawn"],
        ["d", 1, 0, "test", "d", "pirads"],
    ]
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_way_back_gives_the_same_data_set(dataset: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_ccella(dataset, out, CcellaExport(with_text=True))
    back = ccella(source=out, labels=out / "cases.xlsx")(tmp_path / "back")
    labelled = [one for one in dataset if one.label is not None]
    assert len(back) == len(labelled)
    for one, again in zip(labelled, back, strict=True):
        held = ("id", "group", "label", "label_source", "split", "report_sha256")
        assert [getattr(one, k) for k in held] == [getattr(again, k) for k in held]
        assert again.extra["dataset"] == one.extra["dataset"]
        assert again.images["t2w"] == one.images["t2w"]
        assert back.read_report(again) == dataset.read_report(one)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            # A carriage return comes back as a line feed.
            st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=40
            ),
            st.sampled_from(["negative", "positive"]),
            st.sampled_from(["pirads", "isup", "table", "lesion_drawn"]),
            st.sampled_from(["train", "val", "test"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_report_and_label_comes_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "dataset"
    folder.mkdir()
    cases = [
        # Words first: what has no letter is a placeholder, and counts as no report.
        case(folder, f"c{n}", f"Lesion {text}" if text.strip() else None, label=label,
             label_source=source, split=split)
        for n, (text, label, source, split) in enumerate(drawn)
    ]  # fmt: skip
    cases.append(case(folder, "last"))
    dataset, out = Manifest(folder, cases), folder.parent / "out"
    export_ccella(dataset, out, CcellaExport(with_text=True))
    back = ccella(source=out, labels=out / "cases.xlsx")(folder.parent / "back")
    found = {one.id: (one.label, one.label_source, one.split, one.report_sha256) for one in back}
    assert found == {
        one.id: (one.label, one.label_source, one.split, one.report_sha256) for one in cases
    }


def test_reports_stay_where_they_are_unless_asked_for(dataset: Manifest, tmp_path: Path) -> None:
    export_ccella(dataset, tmp_path / "out", CcellaExport())
    for path in (tmp_path / "out").glob("*.json"):
        assert "Laesie" not in path.read_text()
        assert {(entry["text"], entry["text_isnull"]) for entry in load(path)} == {("", 1)}


def test_images_are_links_or_copies(dataset: Manifest, tmp_path: Path) -> None:
    export_ccella(dataset, tmp_path / "links", CcellaExport())
    export_ccella(dataset, tmp_path / "copies", CcellaExport(copy=True))
    linked, copied = (tmp_path / o / "images" / "a" / "axt2.nii.gz" for o in ("links", "copies"))
    assert linked.is_symlink()
    assert not copied.is_symlink()
    assert (
        linked.read_bytes()
        == copied.read_bytes()
        == Path(dataset.cases[0].images["t2w"]).read_bytes()
    )


def test_prepared_images_are_taken(dataset: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    cases = []
    for one in dataset:
        write_image(folder / "images" / f"{one.id}.nii.gz", (0.5, 0.5, 0.75))
        images = {"t2w": f"images/{one.id}.nii.gz"}
        cases.append(one.model_copy(update={"images": images, "texts": {}}))
    Manifest(folder, cases).write()
    export_ccella(dataset, tmp_path / "out", CcellaExport(), prepared=Manifest.read(folder))
    (first, *_) = load(tmp_path / "out" / "train.json")
    assert first["spacing"] == [0.5, 0.5, 0.75]
    linked = tmp_path / "out" / "images" / "a" / "axt2.nii.gz"
    assert linked.resolve() == (folder / "images" / "a.nii.gz").resolve()


def text_cache(folder: Path, dataset: Manifest, **settings: Any) -> Path:
    """Features of 4 tokens and width 6; a report's are its first letter's number."""
    encoder = Component(name="tiny")
    text = Text(encoder=encoder, width=6, max_tokens=4, dtype="float32", **settings)
    keys = {one.id: text_key(dataset.read_report(one), "tiny") for one in dataset}
    values = {keys[one.id]: ord(one.id) if one.report else 0 for one in dataset}
    with TextWriter(folder, "float32", key="k", texts=list(values)) as writer:
        for key, value in values.items():
            writer.add(key, torch.full((4, 6), float(value)))
    cases = {one.id: CaseText(keys[one.id], one.report is not None, 4, 0) for one in dataset}
    merge_text(folder, text, key="k", fingerprint="tiny", cases=cases)
    return folder


def test_features_are_written_and_come_back_by_name(dataset: Manifest, tmp_path: Path) -> None:
    cache, out = text_cache(tmp_path / "text", dataset, padding="max"), tmp_path / "out"
    export_ccella(dataset, out, CcellaExport(), text_cache=cache)
    first, second = load(out / "train_merged.json")
    assert (first["text_isnull"], second["text_isnull"]) == (0, 1)
    features = np.load(first["text"])
    assert (features.dtype, features.shape) == (np.float32, (4, 6))
    # "e", which has no label, has the same report: one copy of the features, the later letter's.
    assert features[0, 0] == ord("e")
    assert np.load(second["text"]).max() == 0
    assert stat.S_IMODE(Path(first["text"]).stat().st_mode) == 0o600
    assert load(out / "train.json")[0]["text"] == ""
    back = ccella(source=out, labels=out / "cases.xlsx")(tmp_path / "back")
    assert [one.extra["text_features"] for one in back][:2] == [first["text"], second["text"]]
    # Features that a data set only names go out again.
    export_ccella(back, tmp_path / "again", CcellaExport())
    again = [load(folder / "train_merged.json") for folder in (tmp_path / "again", out)]
    again[1][1].pop("adc")  # was not imported
    assert again[0] == again[1]


def test_features_that_are_not_padded_are_refused(dataset: Manifest, tmp_path: Path) -> None:
    cache = text_cache(tmp_path / "text", dataset)
    with pytest.raises(UserError, match=r"text\.padding=max"):
        export_ccella(dataset, tmp_path / "out", CcellaExport(), text_cache=cache)


def test_nothing_is_overwritten(dataset: Manifest, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "test.json").write_text("mine")
    with pytest.raises(UserError, match=r"test.json is there already(.|\n)*another --out"):
        export_ccella(dataset, tmp_path / "out", CcellaExport())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test.json"]


def test_what_cannot_be_exported_is_named_together(dataset: Manifest, tmp_path: Path) -> None:
    a, b, c, d, e = dataset.cases
    (tmp_path / "raw" / "x.mha").write_bytes(b"ObjectType = Image")
    changed = [
        a.model_copy(update={"images": {"t2w": str(tmp_path / "raw" / "x.mha")}}),
        b.model_copy(update={"images": {"adc": b.images["adc"]}}),
        c.model_copy(update={"images": {"t2w": str(tmp_path / "none.nii.gz")}}),
        *(d, e),
    ]
    with pytest.raises(UserError) as caught:
        export_ccella(Manifest(dataset.folder, changed), tmp_path / "out", CcellaExport())
    message = str(caught.value)
    assert "3 cases cannot be exported:" in message
    for line in ("t2w is no .nii.gz file", "no t2w image: 1 (b)", "no t2w: 1 (c)", "--prepared"):
        assert line in message
    with pytest.raises(UserError, match=r"labels of other classes(.|\n)*--classes"):
        export_ccella(dataset, tmp_path / "out", CcellaExport(classes=("no", "yes")))
    with pytest.raises(UserError, match="no case has a label"):
        export_ccella(Manifest(dataset.folder, [e]), tmp_path / "out", CcellaExport())
    assert not (tmp_path / "out").exists()


def test_pictures_slices_and_colours_are_no_volumes_of_the_released_code(
    dataset: Manifest, tmp_path: Path
) -> None:
    a, b, c, d, _ = dataset.cases
    Pillow.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "a.png")
    nib.save(
        nib.Nifti1Image(np.eye(8, dtype=np.float32)[..., None], np.eye(4)), tmp_path / "b.nii.gz"
    )
    rgb = np.zeros((8, 8, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "c.nii.gz")
    write.write_image(tmp_path / "d.nii.gz", np.zeros((3, 8, 8, 4), np.float32), np.eye(4))
    files = ("a.png", "b.nii.gz", "c.nii.gz", "d.nii.gz")
    changed = [
        case.model_copy(update={"images": {"t2w": str(tmp_path / name)}})
        for case, name in zip((a, b, c, d), files, strict=True)
    ]
    with pytest.raises(UserError) as caught:
        export_ccella(Manifest(dataset.folder, changed), tmp_path / "out", CcellaExport())
    message = str(caught.value)
    for line in (
        "4 cases cannot be exported:",
        "t2w is a picture (PNG, JPEG, TIFF), and the released code reads volumes only: 1 (a)",
        "t2w is a single slice, and the released code reads volumes only: 1 (b)",
        "t2w is in colours, and the released code reads grey volumes only: 2 (c, d)",
    ):
        assert line in message
    assert not (tmp_path / "out").exists()


def test_the_command_line(
    dataset: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", "ccella", str(dataset.folder), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "3 reports are left out; --with-text" in printed.out
    assert f"--set labels={out / 'cases.xlsx'}" in printed.out
    assert "1 cases without a label are left out: e" in printed.err
    assert main(["export", "ccella", str(dataset.folder), "--out", str(out)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    more = ["--with-text", "--copy", "--name", "Q", "--classes", "negative", "positive"]
    other = str(tmp_path / "other")
    assert main(["export", "ccella", str(dataset.folder), "--out", other, *more]) == 0
    assert "Laesie" not in "".join(capsys.readouterr())
