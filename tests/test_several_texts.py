"""Cases with several texts: named, kept apart on disk, read by one rule, drawn by another."""

from __future__ import annotations

import csv
import json
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor

from voxella.cache.encode_text import TextEncoding
from voxella.cache.latents import LatentCache
from voxella.cache.text import TextCache, text_settings
from voxella.case import MANIFEST, Case, Manifest
from voxella.case.texts import draw_text, in_order, split_text_id, text_id, texts_of
from voxella.check.reports.texts import check_texts
from voxella.check.training import check_training_reports
from voxella.data.reports import read_reports
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.hashing import sha256_file, sha256_json
from voxella.imaging.volume import write_volume
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.plugins import registry
from voxella.recipe.model import Recipe, Text
from voxella.sampling.stage import _asked_of
from voxella.workspace.folders import Folders
from voxella_importers.table.plugin import table

# Of case-0 both, of case-1 the report, of case-2 the impression, of case-3 nothing.
TEXTS: dict[str, dict[str, str]] = {
    "case-0": {"impression": "PI-RADS 4.", "report": "A lesion of 9 mm on the left. PI-RADS 4."},
    "case-1": {"report": "No lesion. PI-RADS 1."},
    "case-2": {"impression": "Nothing to be seen."},
    "case-3": {},
}
WIDTH = 12


def dataset(folder: Path, texts: dict[str, dict[str, str]] = TEXTS) -> Manifest:
    cases = []
    for case_id, own in texts.items():
        files = {name: f"reports/{name}/{case_id}.txt" for name in own}
        for name, file in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(own[name])
        hashes = {name: sha256_file(folder / file) for name, file in files.items()}
        cases.append(Case(id=case_id, group=case_id, images={}, texts=files, texts_sha256=hashes))
    manifest = Manifest(folder, cases)
    manifest.write()
    return manifest


def test_texts_have_an_order_of_their_own() -> None:
    case = Case(id="a", group="a", images={}, texts={"z": "z.txt", "b": "b.txt", "report": "r.txt"})
    assert list(case.texts) == ["report", "b", "z"] == list(in_order(["b", "z", "report"]))
    assert (case.report, case.report_sha256) == ("r.txt", None)
    assert texts_of(case.texts, "any") == ("report", "b", "z")
    assert texts_of(case.texts, "b") == ("b",)
    assert texts_of(case.texts, "impression") == ()
    for name in ("any", "a/b", "..", "a.b", "", "x" * 33):
        with pytest.raises(ValidationError, match="a text's name is letters"):
            Case(id="a", group="a", images={}, texts={name: "a.txt"})
    for key in ("a", "a/impression"):
        assert text_id(*split_text_id(key)) == key


def test_manifests_from_before_name_the_report(tmp_path: Path) -> None:
    former = {
        **{"id": "a", "patient": "p1", "images": {"t2w": "a.nii.gz"}, "split": "val"},
        **{"report": "reports/a.txt", "report_sha256": "ab" * 32, "extra": {"psa": 6.4}},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(former) + "\n")
    (case,) = Manifest.read(tmp_path)
    assert case.texts == {"report": "reports/a.txt"}
    assert case.texts_sha256 == {"report": "ab" * 32}
    # Computed by the code before: what was made from such a case is still up to date.
    assert sha256_json(case.hashed()) == (
        "87c79ed046d57f496f0c639061ddc8546b837e10a8ec77004774a5a97a5beda9"
    )
    assert sha256_json(case.hashed(leave_out=("images", "texts", "truth"))) == (
        "c965114598db3e27ae6fa68b08cf9b3cebc13708927bb9ea255e564c170d7687"
    )
    more = case.model_copy(update={"texts": {**case.texts, "impression": "i.txt"}})
    assert sha256_json(more.hashed()) != sha256_json(case.hashed())
    for wrong in ({**former, "texts": {"report": "b.txt"}}, {**former, "texts": {"b": "../b.txt"}}):
        (tmp_path / MANIFEST).write_text(json.dumps(wrong) + "\n")
        with pytest.raises(UserError, match="case a"):
            Manifest.read(tmp_path)


def test_a_path_of_any_text_may_not_leave_the_data_set(tmp_path: Path) -> None:
    line = {"id": "a", "group": "a", "images": {}, "texts": {"impression": "../other.txt"}}
    (tmp_path / MANIFEST).write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"case a: its path has '\.\.' in it"):
        Manifest.read(tmp_path)


def test_a_visit_draws_its_text_by_seed_case_and_epoch() -> None:
    names = ("report", "findings", "impression")
    drawn = [draw_text(names, seed=1, case_id="a", epoch=epoch) for epoch in range(3000)]
    assert drawn == [draw_text(names, seed=1, case_id="a", epoch=epoch) for epoch in range(3000)]
    counts = Counter(drawn)
    # 1000 each: five standard deviations of a binomial of 3000 and 1/3 are 129.
    assert set(counts) == set(names)
    assert max(abs(count - 1000) for count in counts.values()) < 129
    for other in ({"seed": 2}, {"case_id": "b"}):
        asked: dict[str, Any] = {"seed": 1, "case_id": "a"} | other
        assert drawn != [draw_text(names, epoch=epoch, **asked) for epoch in range(3000)]
    assert draw_text(("report",), seed=1, case_id="a", epoch=0) == "report"
    assert draw_text((), seed=1, case_id="a", epoch=0) is None


class Stub:
    """Features that tell which text they are of."""

    width = WIDTH
    fingerprint = "stub"

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        return [torch.full((len(text.split()) + 1, WIDTH), float(len(text))) for text in texts]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 1 for text in texts]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Text:
    real = registry.builder

    def builder(kind: str, name: str) -> Any:
        known = (kind, name) == ("text_encoders", "stub")
        return Stub if known else real(kind, name)

    monkeypatch.setattr(registry, "builder", builder)
    return Text.model_validate({"encoder": {"name": "stub"}, "width": WIDTH, "dtype": "float32"})


def with_source(settings: Text, source: str) -> Text:
    return settings.model_copy(update={"source": source})


def length_of(cache: TextCache, case_id: str, name: str | None = None) -> int:
    """Return how many characters the text had that features are of."""
    return int(cache.read(case_id, name)[0][0, 0])


def test_every_text_is_encoded_and_the_recipe_says_which_is_read(
    tmp_path: Path, settings: Text, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = dataset(tmp_path / "dataset")
    texts = read_reports(manifest)
    assert texts == {
        **{"case-0": TEXTS["case-0"]["report"], "case-0/impression": "PI-RADS 4."},
        **{"case-1": TEXTS["case-1"]["report"], "case-2": ""},
        **{"case-2/impression": "Nothing to be seen.", "case-3": ""},
    }
    TextEncoding(settings, texts, tmp_path / "text").run(rank=0, world=1)
    assert "3 of 4 cases have a report, 4 distinct" in capsys.readouterr().out
    cache = TextCache.open(tmp_path / "text", settings)
    cache.require(TEXTS)
    assert [cache.names(case) for case in TEXTS] == [
        *[("report", "impression"), ("report",), ("impression",), ()],
    ]
    lengths = {case: {n: len(text) for n, text in own.items()} for case, own in TEXTS.items()}
    assert length_of(cache, "case-0") == lengths["case-0"]["report"]
    assert length_of(cache, "case-0", "impression") == lengths["case-0"]["impression"]
    assert length_of(cache, "case-2") == lengths["case-2"]["impression"]
    assert [cache.has_report(case) for case in TEXTS] == [True, True, True, False]
    named = TextCache.open(tmp_path / "text", with_source(settings, "impression"))
    assert [named.has_report(case) for case in TEXTS] == [True, False, True, False]
    assert length_of(named, "case-0") == lengths["case-0"]["impression"]
    assert torch.equal(named.read("case-1")[0], cache.empty)
    # Asking for another text encodes nothing anew, and is no other cache.
    TextEncoding(with_source(settings, "impression"), texts, tmp_path / "text").run(rank=0, world=1)
    assert "text: up to date" in capsys.readouterr().out
    assert named.key == cache.key
    assert text_settings(with_source(settings, "x")) == text_settings(settings)


def builder_of(recipe: Recipe, folders: Folders) -> LatentBatchBuilder:
    cases = {case.id: case for case in Manifest.read(folders.prepared)}
    text = TextCache.open(folders.text, recipe.text)
    return LatentBatchBuilder(
        BatchSettings.of(recipe), cases, LatentCache.open(folders.latents), text, 1.0
    )


def test_training_draws_and_validation_does_not(tmp_path: Path, settings: Text) -> None:
    recipe = tiny_recipe("dropout.text=0", "dropout.both=0")
    folders = encoded_run(recipe, tmp_path / "run")
    assert recipe.text is not None
    assert recipe.text.width == WIDTH
    given = settings.model_copy(update={"max_tokens": recipe.text.max_tokens})
    texts = {case.id: "" for case in Manifest.read(folders.prepared)}
    texts |= read_reports(dataset(tmp_path / "dataset"))
    TextEncoding(given, texts, tmp_path / "text").run(rank=0, world=1)
    text = TextCache.open(tmp_path / "text", given)
    builder = replace(builder_of(recipe, folders), text=text)
    seen = []
    for epoch in range(64):
        batch = builder.make([SampleKey(case, epoch) for case in ("case-0", "case-1", "case-3")])
        assert batch.text_features is not None
        name = draw_text(text.names("case-0"), seed=recipe.seed, case_id="case-0", epoch=epoch)
        seen.append(name)
        shown = [int(row[0, 0]) for row in batch.text_features]
        assert shown[0] == len(TEXTS["case-0"][str(name)])
        assert shown[1:] == [len(TEXTS["case-1"]["report"]), 0]
        assert batch.has_report.tolist() == [True, True, False]
    assert set(seen) == {"report", "impression"}
    fixed = replace(builder, draws_text=False)
    for epoch in range(8):
        batch = fixed.make([SampleKey("case-0", epoch)])
        assert batch.text_features is not None
        assert int(batch.text_features[0, 0, 0]) == len(TEXTS["case-0"]["report"])


def test_the_choice_of_a_text_is_in_what_identifies_a_recipe() -> None:
    plain, named = tiny_recipe(), tiny_recipe("text.source=impression")
    assert plain.text_source == "any"
    assert "source" not in plain.fingerprint_data()["text"]
    assert named.fingerprint_data()["text"]["source"] == "impression"
    with pytest.raises(UserError, match=r"text\.source"):
        tiny_recipe("text.source='a report of nine words that is no name'")


def test_a_named_text_that_no_case_has_is_refused(tmp_path: Path) -> None:
    manifest = dataset(tmp_path)
    impression, summary = (
        tiny_recipe(f"text.source={name}").text for name in ("impression", "summary")
    )
    check_training_reports(impression, manifest, name="tiny", quiet=True)
    for texts in (None, read_reports(manifest)):
        with pytest.raises(UserError, match="has a text summary, and"):
            check_training_reports(summary, manifest, texts, name="tiny", quiet=True)


def test_the_check_judges_every_text_by_name(tmp_path: Path) -> None:
    texts = {
        "a": {
            "report": "Lesion on the left. PI-RADS 4.",
            "impression": "Seen on 12-03-2021.",
        },
        "b": {"findings": "PI-RADS 1. Nothing.", "impression": "N/A"},
        "c": {},
    }
    manifest = dataset(tmp_path, texts)
    (tmp_path / "reports" / "findings" / "b.txt").write_text("PI-RADS 2. Nothing.")
    cases = [case.model_copy(update={"label": "positive"}) for case in manifest]
    findings = check_texts(tmp_path, cases, classes=("negative", "positive"))
    said = {(f.code, f.case, f.where) for f in findings if f.case is not None}
    assert ("report.identifier", "a", "impression[8:18]") in said
    assert ("report.placeholder", "b", "impression") in said
    assert ("report.changed", "b", "findings") in said
    assert ("label.report", "b", "findings[8:9]") in said
    assert ("report.none", "c", None) in said
    assert not {entry for entry in said if entry[1] == "a" and entry[2] == "report"}
    changed = next(f for f in findings if f.code == "report.changed")
    assert changed.message == "its findings's hash is not the one recorded at import"
    assert all("2021" not in f.message and "Seen" not in f.message for f in findings)


def test_a_table_brings_several_texts(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", np.ones((8, 8, 4), dtype=np.float32), np.eye(4))
    (tmp_path / "long.txt").write_text("A longer account of what was found.")
    with (tmp_path / "t.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["id", "t2w", "A", "B", "C"])
        rows.writerow(["a", "a.nii.gz", "The report itself.", "Its impression.", "long.txt"])
        rows.writerow(["b", "a.nii.gz", "", "Only this impression.", ""])
        rows.writerow(["c", "a.nii.gz", "n/a", "-", ""])
    given: dict[str, Any] = {"source": tmp_path / "t.csv", "val_share": 0, "test_share": 0}
    names = {"report": "A", "impression": "B"}
    made = table(texts=names, text_files={"findings": "C"}, **given)(tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.cases == made.cases
    a, b, c = manifest
    assert a.texts == {
        "report": "reports/a.txt",
        "findings": "reports/findings/a.txt",
        "impression": "reports/impression/a.txt",
    }
    assert [manifest.read_text(a, name) for name in a.texts] == [
        *["The report itself.", "A longer account of what was found.", "Its impression."],
    ]
    assert (b.report, list(b.texts), c.texts) == (None, ["impression"], {})
    for case in manifest:
        for name, file in case.texts.items():
            path = tmp_path / "out" / file
            assert sha256_file(path) == case.texts_sha256[name]
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "impression." not in (tmp_path / "out" / MANIFEST).read_text()
    # The report's column under its former name is the same.
    columns = {"report": "A"}
    same = table(texts={"impression": "B"}, columns=columns, **given)(tmp_path / "same")
    assert [case.report_sha256 for case in same] == [case.report_sha256 for case in made]
    with pytest.raises(UserError, match=r"stands in columns\.report and again"):
        table(texts=names, columns=columns, **given)
    with pytest.raises(UserError, match="no column D"):
        table(texts={"impression": "D"}, **given)(tmp_path / "absent")
    with pytest.raises(UserError, match="texts: a name is letters"):
        table(texts={"any": "B"}, **given)


def test_a_volume_is_made_anew_where_one_of_its_texts_changes(tmp_path: Path) -> None:
    case = Case(
        id="a", group="a", images={"t2w": "a.nii.gz"}, extra={"spacing_mm": [1.0, 1.0, 1.0]},
        texts_sha256={"report": "aa", "impression": "bb"},
    )  # fmt: skip
    other = case.model_copy(update={"texts_sha256": {"report": "aa", "impression": "cc"}})
    any_text = tiny_recipe().text_source
    assert _asked_of([], any_text, case) != _asked_of([], any_text, other)
    report = tiny_recipe("text.source=report").text_source
    assert _asked_of([], report, case) == _asked_of([], report, other)
    assert _asked_of([], report, case)[0] == "aa" == case.text_sha256("any")
    assert case.text_sha256("impression") == "bb"


def test_with_one_text_a_case_batches_are_those_of_before(tmp_path: Path) -> None:
    recipe = tiny_recipe("dropout.text=0.3")
    builder = builder_of(recipe, encoded_run(recipe, tmp_path, held_out=2))
    digest = sha256()
    for epoch in range(6):
        batch = builder.make([SampleKey(case, epoch) for case in sorted(builder.cases)])
        for name in ("text_features", "text_mask", "has_report", "drop_label"):
            tensor = getattr(batch, name)
            digest.update(name.encode())
            digest.update(b"" if tensor is None else tensor.float().numpy().tobytes())
    # Computed by the code before a case could have several.
    assert digest.hexdigest() == (
        "daed24c286cb24ea0e4a8aeceb8899a31e249a75c87c8c8b6a6e328e16418d83"
    )
