"""Training on a share of the reports, and on reports that are written by rule for the others."""

from __future__ import annotations

import inspect
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import REPOSITORY, encoded_run, tiny_recipe
from torch import Tensor

from voxella.cache import stage
from voxella.cache.latents import LatentCache
from voxella.cache.synthetic_texts import synthetic_text, synthetic_texts
from voxella.cache.text import TextCache, text_settings
from voxella.case import Case, Manifest
from voxella.case.texts import SYNTHETIC, keeps_report
from voxella.check.training import check_training_reports
from voxella.cli import main
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.sources import open_features
from voxella.plugins import registry
from voxella.recipe.load import load_recipe
from voxella.recipe.text.block import Text
from voxella.recipe.text.synthesise import Synthesise
from voxella.study.load import load_studies
from voxella.study.plan import make_plan
from voxella.study.recipes import Layers

RECIPES = REPOSITORY / "recipes"
STUDY = RECIPES / "studies" / "report-availability.yaml"
SHARES = (1.0, 0.75, 0.5, 0.25, 0.1)
WIDTH = 12
BLOCK = Synthesise(
    sentences=["Prostate MRI.", "Age {age}.", "PSA {psa:.1f} ng/ml.", "{label}"],
    labels={"negative": "No lesion.", "positive": "A lesion."},
)


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def kept(share: float, seed: int = 0, cases: int = 2000) -> set[str]:
    names = (f"case-{number}" for number in range(cases))
    return {name for name in names if keeps_report(share, seed=seed, case_id=name)}


def test_the_cases_of_a_smaller_share_are_among_those_of_a_larger() -> None:
    found = [kept(share) for share in SHARES]
    for larger, smaller in pairwise(found):
        assert smaller < larger
    # Five standard deviations of a binomial of 2000 are 112 at a half, 67 at a tenth.
    assert [len(names) for names in found] == pytest.approx([2000, 1500, 1000, 500, 200], abs=112)
    assert kept(0.0) == set()
    # A case is drawn by itself: other cases, and how many, do not matter; the seed does.
    assert kept(0.25, cases=500) == {n for n in kept(0.25) if int(n.split("-")[1]) < 500}
    assert kept(0.25, seed=1) != kept(0.25)


def test_training_does_not_see_the_withheld_and_nothing_else_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe("text.reports_share=0.5", "dropout.text=0", "dropout.both=0")
    folders = encoded_run(recipe, tmp_path / "run", cases=12, held_out=3)
    manifest = Manifest.read(folders.prepared)
    cases = {case.id: case for case in manifest.split("train")}
    text = open_features(recipe.text, folders, cases, recipe.seed)
    whole = TextCache.open(folders.text, recipe.text)
    assert text is not None
    told = [name for name in cases if whole.has_report(name)]
    seen = [name for name in told if keeps_report(0.5, seed=recipe.seed, case_id=name)]
    assert 0 < len(seen) < len(told) == 8
    assert [name for name in cases if text.has_report(name)] == seen
    assert f"text: {len(seen)} of 8 training cases with a report are" in capsys.readouterr().out
    builder = LatentBatchBuilder(
        BatchSettings.of(recipe), cases, LatentCache.open(folders.latents), text, 1.0
    )
    batch = builder.make([SampleKey(name, 0) for name in told])
    assert batch.has_report.tolist() == [name in seen for name in told]
    assert batch.text_features is not None
    for name, row in zip(told, batch.text_features, strict=True):
        shown = whole.read(name)[0] if name in seen else whole.empty
        assert torch.equal(row[: len(shown)], shown)
    # Held-out cases are read as they are; another share is another training of the same cache.
    for case in manifest.split("val"):
        assert text.names(case.id) == whole.names(case.id)
    assert recipe.text is not None
    other = recipe.text.model_copy(update={"reports_share": 0.25})
    keys = {open_features(t, folders, cases, 0).key for t in (recipe.text, other)}  # type: ignore[union-attr]
    assert len(keys | {whole.key}) == 3
    all_read = open_features(tiny_recipe().text, folders, cases, 0)
    assert all_read is not None
    assert all_read.key == whole.key
    assert text_settings(other) == text_settings(recipe.text.model_copy(update={"source": "x"}))


def test_a_text_says_what_is_known_and_leaves_out_what_is_not() -> None:
    whole = synthetic_text(BLOCK, "positive", {"age": 64.0, "psa": 6.44, "scanner": "x"})
    assert whole == "Prostate MRI. Age 64. PSA 6.4 ng/ml. A lesion."
    assert synthetic_text(BLOCK, None, {"psa": 10.0}) == "Prostate MRI. PSA 10.0 ng/ml."
    assert synthetic_text(BLOCK, "other", {"age": None}) == "Prostate MRI. other"
    assert synthetic_text(BLOCK, None, {}) == ""
    words = Synthesise(sentences=["Scanner {scanner:.1f}, {psa}."])
    assert synthetic_text(words, None, {"scanner": "Alpha", "psa": 6.4}) == "Scanner Alpha, 6.4."
    # Label and conditions are all that it is given: no image, no path to one.
    assert list(inspect.signature(synthetic_text).parameters) == ["settings", "label", "conditions"]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"sentences": ["Hello."]}, "no sentence has a field"),
        ({"sentences": ["{age.__class__}"]}, "sentence 1: a field is"),
        ({"sentences": ["{label}", "{psa:>1000000}"]}, "sentence 2: a field is"),
        ({"sentences": ["{psa"]}, "sentence 1: "),
        ({"sentences": ["{psa!r}"]}, "sentence 1: a field is"),
        ({"sentences": []}, "at least 1 item"),
    ],
)
def test_what_is_no_template_is_refused(block: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_recipe(RECIPES / "ccella.yaml", [], [f"text.synthesise={json.dumps(block)}"])


REPORTS = {"a": "A large lesion on the left.", "b": None, "c": "No lesion.", "d": None}


def dataset(folder: Path) -> Manifest:
    """Two training cases with a report, one without, one held out; no image exists."""
    cases = []
    for number, (name, report) in enumerate(REPORTS.items()):
        file = f"reports/{name}.txt"
        if report is not None:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(report)
        cases.append(
            Case(
                id=name,
                group=name,
                images={"t2w": f"images/{name}.nii.gz"},
                texts={} if report is None else {"report": file},
                texts_sha256={} if report is None else {"report": sha256_file(folder / file)},
                label=("negative", "positive")[number % 2],
                split="test" if name == "d" else "train",
                conditions={"age": 60.0 + number, "psa": None if name == "c" else 4.0},
            )
        )
    manifest = Manifest(folder, cases)
    manifest.write()
    return manifest


def test_training_cases_get_texts_without_a_look_at_their_images(tmp_path: Path) -> None:
    manifest = dataset(tmp_path)
    assert synthetic_texts(BLOCK, manifest) == {
        f"a/{SYNTHETIC}": "Prostate MRI. Age 60. PSA 4.0 ng/ml. No lesion.",
        f"b/{SYNTHETIC}": "Prostate MRI. Age 61. PSA 4.0 ng/ml. A lesion.",
        f"c/{SYNTHETIC}": "Prostate MRI. Age 62. No lesion.",
    }
    assert not list(tmp_path.rglob("*.nii.gz"))
    moved = [case.model_copy(update={"images": {}}) for case in manifest]
    assert synthetic_texts(BLOCK, Manifest(tmp_path, moved)) == synthetic_texts(BLOCK, manifest)
    unknown = Synthesise(sentences=["{label} {weight}"])
    with pytest.raises(UserError, match=r"no training case has weight") as raised:
        synthetic_texts(unknown, manifest)
    assert raised.value.expected == "age, label, psa"
    taken = [case.model_copy(update={"texts": {SYNTHETIC: "x.txt"}}) for case in manifest]
    with pytest.raises(UserError, match="4 cases have a text that is called synthetic-report"):
        synthetic_texts(BLOCK, Manifest(tmp_path, taken))


class Stub:
    """An encoder whose features are the text's length."""

    width = WIDTH
    fingerprint = "stub"
    calls = 0

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        Stub.calls += len(texts)
        return [torch.full((2, WIDTH), float(len(text))) for text in texts]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [2 for _ in texts]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Text:
    real = registry.builder

    def builder(kind: str, name: str) -> Any:
        return Stub if (kind, name) == ("text_encoders", "stub") else real(kind, name)

    monkeypatch.setattr(registry, "builder", builder)
    Stub.calls = 0
    return Text.model_validate({"encoder": {"name": "stub"}, "width": WIDTH, "dtype": "float32"})


def test_a_synthetic_text_is_read_where_no_report_is(
    tmp_path: Path, settings: Text, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = dataset(tmp_path / "dataset")
    work = tmp_path / "text"

    def encode(text: Text) -> TextCache:
        stage._text(text, manifest.folder, (), work).run(rank=0, world=1)
        return TextCache.open(work, text)

    plain = encode(settings)
    assert Stub.calls == 3  # two reports, and the empty one
    written = encode(settings.model_copy(update={"synthesise": BLOCK}))
    assert Stub.calls == 6  # nothing is encoded twice
    assert "3 training cases have a synthetic report" in capsys.readouterr().out
    # Who samples and measures reads reports alone; a training reads what it is told to.
    assert [written.has_report(name) for name in REPORTS] == [True, False, True, False]
    texts = synthetic_texts(BLOCK, manifest)
    training = written.for_training(["a"], synthetic=True)
    shown = {name: int(training.read(name)[0][0, 0]) for name in REPORTS}
    lengths = {name: len(texts[f"{name}/{SYNTHETIC}"]) for name in "ab"}
    assert shown == {**lengths, "c": len("No lesion."), "d": 0}
    assert [training.has_report(name) for name in REPORTS] == [True, True, True, False]
    # The arm without them finds its cache as it was.
    again = encode(settings)
    assert again.key == plain.key != written.key
    assert Stub.calls == 6
    assert torch.equal(again.read("a")[0], plain.read("a")[0])


def test_a_data_set_without_any_report_can_be_trained_on_synthetic_ones(tmp_path: Path) -> None:
    manifest = dataset(tmp_path)
    bare = Manifest(tmp_path, [case.model_copy(update={"texts": {}}) for case in manifest])
    text = tiny_recipe().text
    assert text is not None
    with pytest.raises(UserError, match="none of the 3 training cases"):
        check_training_reports(text, bare, name="x")
    check_training_reports(text.model_copy(update={"synthesise": BLOCK}), bare, name="x")


@pytest.mark.parametrize("layers", [Layers(), Layers(("phantoms",))])
def test_the_study_differs_in_reports_alone(layers: Layers, tmp_path: Path) -> None:
    plan = make_plan(load_studies(STUDY).with_seeds(1), tmp_path, layers)
    blocks = {step.name: step.recipe.text for step in plan.steps}
    texts = {name: block for name, block in blocks.items() if block is not None}
    shares = {name: (t.reports_share, t.synthesise is not None) for name, t in texts.items()}
    assert shares == {
        **{f"reports-{share:.0%}".strip("%"): (share, False) for share in SHARES},
        **{f"synthetic-{share:.0%}".strip("%"): (share, True) for share in SHARES[1:]},
    }
    assert len({step.recipe.workspace for step in plan.steps}) == 1
    same = [step.recipe.model_dump(exclude={"name", "description", "text"}) for step in plan.steps]
    assert same == [same[0]] * 9
    assert len({json.dumps(text_settings(text), default=str) for text in texts.values()}) == 1
    assert len(make_plan(load_studies(STUDY), tmp_path, layers).steps) == 27
    assert "reports_share" not in load_recipe(RECIPES / "ccella.yaml").fingerprint_data()["text"]


@pytest.mark.slow
def test_both_arms_run_at_smoke_size(
    smoke_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One recipe of either arm: the others differ from these in a number."""
    workspace, out = tmp_path / "workspace", tmp_path / "out"
    shutil.copytree(smoke_workspace, workspace, ignore=shutil.ignore_patterns("run"))
    options = ["--profile", "smoke", "--workspace", str(workspace), "--out", str(out)]
    only = ["--only", "reports-50", "--only", "synthetic-50", "--seeds", "1"]
    draws = ["--set", "evaluate.bootstrap=10", "--set", "evaluate.baseline_halves=2"]
    assert main(["study", str(STUDY), *options, *only, *draws]) == 0
    said = capsys.readouterr().out
    assert "0 with a synthetic one" in said
    assert "0 with the empty one" in said
    (table,) = json.loads((out / "table.json").read_text())["tables"]
    status = {row["recipe"]: row["status"] for row in table["rows"]}
    assert {name for name, value in status.items() if value == "finished"} == {
        *("reports-50", "synthetic-50")
    }
    models = [out / name / "model" / "model.safetensors" for name in ("reports-50", "synthetic-50")]
    assert models[0].read_bytes() != models[1].read_bytes()
    assert "Prostate MRI" not in said
