"""Told facts against found ones: counts done by hand, and when a detector carries no number."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from scipy.stats import binomtest
from tiny_run import REPOSITORY

from voxella.autoencoder.load import AutoencoderPlan, LoadedAutoencoder, load_autoencoder
from voxella.case import Case, Manifest
from voxella.detection import Detection, Facts
from voxella.evaluation import detections
from voxella.evaluation.adherence import AdherenceSettings
from voxella.evaluation.adherence import adherence as stage_adherence
from voxella.evaluation.detections import DetectionJob, reconstructed_detections
from voxella.evaluation.sets import Sets, Subject
from voxella.evaluation.table import show_metrics
from voxella.evaluation.volumes import read_subject
from voxella.files import write_json_atomic
from voxella.metrics.adherence import FACTS, Pair, adherence, facts_of, no_better_than_chance
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders
from voxella_importers.phantom.detector.detect import told_by
from voxella_importers.phantom.facts import draw_facts
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.probe import phantom as phantom_probe
from voxella_importers.phantom.truth import Truth, truth_of

CPU = torch.device("cpu")
AFTER = "adherence_reconstructed_"
NONE = Facts(False)
LEFT = Facts(True, "left", "peripheral", 12.0)


def measured(pairs: list[Pair], tolerance_mm: float = 5.0) -> dict[str, Any]:
    return adherence(pairs, tolerance_mm=tolerance_mm, seed=0, name="t", replicates=200)


def asked(recipe: Recipe) -> AdherenceSettings:
    """What a recipe says, of its first sequence."""
    reads, plan = recipe.text is not None, AutoencoderPlan.of(recipe)
    return AdherenceSettings(recipe.evaluate, recipe.seed, 0, reads, plan)


def test_each_fact_is_counted_where_it_has_a_meaning() -> None:
    pairs = [
        Pair("a", LEFT, LEFT),
        Pair("b", LEFT, replace(LEFT, side="right", size_mm=17.0)),
        Pair("c", LEFT, replace(LEFT, zone="transition", size_mm=17.5)),
        Pair("d", LEFT, replace(LEFT, present=False)),  # missed: its side counts nowhere
        Pair("e", Facts(True), LEFT),  # several lesions are told: no side to agree with
        Pair("f", NONE, NONE),
        Pair("g", NONE, LEFT),
    ]
    found = measured(pairs)
    counts = {name: (found[name].value, found[name].n) for name in FACTS}
    assert counts == {
        "presence": (5 / 7, 7),
        "presence_sensitivity": (4 / 5, 5),
        "presence_specificity": (1 / 2, 2),
        "side": (2 / 3, 3),
        "zone": (2 / 3, 3),
        "size": (2 / 3, 3),  # 5.0 mm apart is within 5 mm, 5.5 mm is not
    }
    wilson = binomtest(5, 7).proportion_ci(method="wilson")
    assert found["presence"].low == pytest.approx(wilson.low)
    assert "would reach 0.714" in found["presence"].note  # 5 of 7 are told a lesion
    assert measured(pairs[::-1]) == found


def test_what_nothing_was_told_of_is_undefined_and_says_so() -> None:
    found = measured([Pair("a", NONE, NONE), Pair("b", NONE, LEFT)])
    assert found["presence_specificity"].value == 0.5
    assert {name for name in FACTS if found[name].value is None} == {
        "presence_sensitivity",
        "side",
        "zone",
        "size",
    }
    assert "exactly one" in found["side"].note


def test_two_volumes_of_a_patient_are_not_two_patients() -> None:
    pairs = [Pair(str(n // 2), NONE, LEFT if n < 6 else NONE) for n in range(20)]
    twice, once = measured(pairs)["presence"], measured(pairs[::2])["presence"]
    assert twice.value == pytest.approx(0.7)
    assert twice.n == once.n == 10


@pytest.mark.parametrize(
    ("right", "positive", "says"),
    [(40, 25, False), (29, 25, True), (40, 42, True), (25, 25, True)],
)
def test_a_detector_near_chance_carries_no_number(right: int, positive: int, says: bool) -> None:
    # 50 phantoms: 29 right is 0.44 to 0.71; 40 right is 0.67 to 0.89, which 42 of 50 exceeds.
    told = [LEFT if n < positive else NONE for n in range(50)]
    found = [t if n < right else Facts(not t.present) for n, t in enumerate(told)]
    pairs = [Pair(str(n), t, f) for n, (t, f) in enumerate(zip(told, found, strict=True))]
    refusal = no_better_than_chance(pairs, measured(pairs)["presence"])
    assert (refusal is not None) == says
    assert refusal is None or "carries no number" in refusal


def truths(count: int) -> dict[str, Truth]:
    importer = phantom(cases=count, seed=3)
    assert isinstance(importer, PhantomImporter)
    facts = [draw_facts(importer.settings, index) for index in range(count)]
    return {one.id: truth_of(one, files={}, settings_sha256="") for one in facts}


def test_a_focus_that_a_report_calls_benign_is_no_lesion() -> None:
    benign = [truth for truth in truths(60).values() if truth.pirads == 2]
    single = [t for t in truths(60).values() if t.pirads >= 3 and len(t.lesions) == 1]
    assert benign
    assert all(told_by(truth) == NONE for truth in benign)
    one = single[0].lesions[0]
    assert told_by(single[0]) == Facts(True, one.side, one.zone, one.diameter_mm)


class Bench:
    """Real phantoms and volumes made from their reports, with what is seen of each set by hand."""

    def __init__(self, folder: Path, count: int = 40) -> None:
        self.recipe = load_recipe(
            str(REPOSITORY / "recipes" / "ccella.yaml"),
            ["smoke"],
            [f"workspace={folder / 'work'}", "evaluate.bootstrap=20"],
        )
        self.folders = Folders.of(folder / "run", self.recipe.workspace, self.recipe.data.dataset)
        self.truths = truths(count)
        home = self.folders.dataset
        (home / "truth").mkdir(parents=True)
        for name, truth in self.truths.items():
            (home / "truth" / f"{name}.json").write_text(truth.model_dump_json())
        cases = [
            Case(
                id=name,
                group=truth.patient,
                images={"t2w": f"images/{name}.nii.gz"},
                label_source="phantom",
                truth=f"truth/{name}.json",
            )
            for name, truth in self.truths.items()
        ]
        Manifest(home, cases).write()
        real = [self._subject(case, case) for case in cases]
        counterparts = [self._subject(self._counterpart(case), case) for case in cases]
        self.sets = Sets("train", counterparts, counterparts, real, [], [], None, paired=True)

    @staticmethod
    def _counterpart(case: Case) -> Case:
        extra = {"source_case": case.id, "prompt_sha256": None if case.id.endswith("7") else "f"}
        return case.model_copy(update={"id": f"{case.id}-s000", "truth": None, "extra": extra})

    @staticmethod
    def _subject(case: Case, source: Case) -> Subject:
        return Subject(case, case.group, source, (), 1.0, (8, 8, 8), None, f"content {case.id}")

    @staticmethod
    def _detection(truth: Truth, right: bool) -> Detection:
        told = told_by(truth)
        return Detection(replace(told, present=told.present == right), details={"score": 0.0})

    def see(self, subject: Subject, truth: Truth, right: bool) -> None:
        """Keep a sighting as if the detector had looked, so that nothing needs to be rendered."""
        seen = self._detection(truth, right)
        real = subject in self.sets.real
        home = self.folders.work if real else self.folders.run
        job = DetectionJob(phantom_probe(), subject, 0, home / "evaluation" / "detector")
        job.path.parent.mkdir(parents=True, exist_ok=True)
        job.path.write_text(json.dumps(seen.as_json()))

    def found(self, right_of_real: int, right_of_counterparts: int) -> dict[str, dict[str, Any]]:
        for n, truth in enumerate(self.truths.values()):
            self.see(self.sets.real[n], truth, n < right_of_real)
            self.see(self.sets.synthetic[n], truth, n < right_of_counterparts)
        numbers = stage_adherence(asked(self.recipe), self.folders, self.sets, CPU)
        return {name: number.as_json() for name, number in numbers.items()}

    def sees_after(self, right: int, fingerprint: str) -> None:
        """Keep sightings of the real volumes after an autoencoder."""
        home = self.folders.work / "evaluation" / "detector"
        for n, subject in enumerate(self.sets.real):
            seen = self._detection(self.truths[subject.id], n < right)
            write_json_atomic(
                DetectionJob(phantom_probe(), subject, 0, home, fingerprint).path, seen.as_json()
            )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("adherence"))


def test_only_volumes_made_from_a_report_count_beside_what_real_ones_reach(bench: Bench) -> None:
    found = bench.found(right_of_real=36, right_of_counterparts=20)
    assert set(found) == {f"{start}{fact}" for start in ("adherence_", AFTER) for fact in FACTS}
    presence = found["adherence_presence"]
    # Cases 7, 17, 27 and 37 had no report; 7 and 17 are among the first 20.
    assert presence["value"] == pytest.approx(18 / 36)
    assert presence["floor"]["value"] == pytest.approx(36 / 40)
    assert presence["split"] == "train"
    assert "is not trained" in found[f"{AFTER}presence"]["note"]


def test_what_the_autoencoder_leaves_stands_beside_what_the_model_shows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = LoadedAutoencoder(model=None, fingerprint="a" * 64)  # type: ignore[arg-type]
    monkeypatch.setattr(detections, "load_autoencoder", lambda *_: made)
    bench.sees_after(34, made.fingerprint)
    kept = bench.found(right_of_real=36, right_of_counterparts=20)[f"{AFTER}presence"]
    assert kept["value"] == pytest.approx(34 / 40)
    assert kept["floor"]["value"] == pytest.approx(36 / 40)
    assert "no better than chance" not in kept["note"]
    bench.sees_after(21, made.fingerprint)
    lost = bench.found(right_of_real=36, right_of_counterparts=20)[f"{AFTER}presence"]
    assert lost["value"] == pytest.approx(21 / 40)
    assert "no better than chance after the autoencoder" in lost["note"]


def test_the_detector_looks_at_what_the_decoder_gives_back(
    smoke_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(
        str(REPOSITORY / "recipes" / "ccella.yaml"), ["smoke"], [f"workspace={smoke_workspace}"]
    )
    folders = Folders.of(tmp_path / "run", recipe.workspace, recipe.data.dataset)
    prepared = Manifest.read(folders.prepared)
    subjects = [
        Subject(
            case,
            case.group,
            case,
            paths=(prepared.image_path(case, "t2w"),),
            scale=1.0,
            shape=tuple(recipe.prepare.size),
            edges_mm=None,
            content=case.id,
        )
        for case in list(prepared)[:2]
    ]
    plan = AutoencoderPlan.of(recipe)
    common = (plan, folders.autoencoder, subjects, (0, 1), tmp_path / "kept", CPU)
    probe = phantom_probe()
    seen = reconstructed_detections(probe, *common)
    coder = load_autoencoder(plan, folders.autoencoder)
    for subject, detection in zip(subjects, seen, strict=True):
        with torch.no_grad():
            mean, _ = coder.model.encode(read_subject(subject)[None])
            image = coder.model.decode(mean).clamp(0, 1)[0, 0].numpy()
        r, a, s = subject.case.extra["spacing_mm"]
        assert detection == probe.look(image, (r, a, s))
    # Kept: nothing is reconstructed or looked at again.
    monkeypatch.setattr(detections, "reconstruct", None)
    assert reconstructed_detections(probe, *common) == seen


def test_a_blind_detector_gives_no_number_and_the_reason(bench: Bench) -> None:
    found = bench.found(right_of_real=22, right_of_counterparts=40)
    assert f"{AFTER}presence" in found
    assert all(number["value"] is None for number in found.values())
    assert "55% of 40 real phantoms on this grid" in found["adherence_presence"]["note"]
    assert found["adherence_presence"]["floor"]["value"] == pytest.approx(22 / 40)


def test_a_model_without_text_and_other_data_are_not_asked(bench: Bench) -> None:
    wordless: Recipe = bench.recipe.model_copy(update={"text": None})
    nothing = stage_adherence(asked(wordless), bench.folders, bench.sets, CPU)
    assert nothing["adherence_side"].estimate.note == "the model reads no report"
    elsewhere = replace(bench.folders, dataset=bench.folders.run / "absent")
    assert stage_adherence(asked(bench.recipe), elsewhere, bench.sets, CPU) == {}


def test_a_truth_that_is_gone_costs_the_number_not_the_evaluation(bench: Bench) -> None:
    lost = bench.folders.dataset / "truth" / "phantom-00003.json"
    text = lost.read_text()
    lost.unlink()
    try:
        nothing = stage_adherence(asked(bench.recipe), bench.folders, bench.sets, CPU)
    finally:
        lost.write_text(text)
    note = nothing["adherence_presence"].estimate.note
    assert note is not None
    assert "phantom-00003.json" in note


def test_the_terminal_shows_what_the_autoencoder_leaves_in_a_table_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = LoadedAutoencoder(model=None, fingerprint="b" * 64)  # type: ignore[arg-type]
    monkeypatch.setattr(detections, "load_autoencoder", lambda *_: made)
    bench.sees_after(34, made.fingerprint)
    paper = {"model": "ccella", "accuracy": 0.81}
    found = bench.found(right_of_real=36, right_of_counterparts=20)
    show_metrics({"metrics": found, "networks": [], "paper": paper}, "ours")
    ours, after = capsys.readouterr().out.split("after the autoencoder alone")
    assert "adherence_presence" in ours
    assert "adherence_reconstructed" not in ours
    assert "paper:" in ours
    assert "…" not in ours
    assert "paper:" not in after
    row = next(line.split() for line in after.splitlines() if line.startswith(" presence "))
    assert (row[1], row[-1]) == ("0.85", "0.9")


HIGH_LOW = Facts(True, levels={"tumor": "high", "til": "low"})


def test_levels_are_compared_where_they_are_told() -> None:
    wrong = Facts(True, levels={"tumor": "high", "til": "high"})
    half = Facts(False, levels={"til": "high"})
    assert facts_of([NONE, LEFT]) == FACTS
    assert facts_of([NONE, half]) == ("til",)
    assert facts_of([half, HIGH_LOW]) == ("tumor", "til")
    pairs = [
        Pair("a", HIGH_LOW, HIGH_LOW),
        Pair("b", HIGH_LOW, wrong),
        Pair("c", half, wrong),  # its tumour is not told: it counts for lymphocytes alone
        Pair("d", half, NONE),  # nothing was found: wrong
    ]
    found = adherence(
        pairs, facts=("tumor", "til"), tolerance_mm=5, seed=0, name="t", replicates=50
    )
    assert {name: (one.value, one.n) for name, one in found.items()} == {
        "tumor": (1.0, 2),
        "til": (0.5, 4),
    }
    note = found["til"].note
    assert note is not None
    assert "one answer for all would reach 0.5" in note
    # 2 of 4 is no better than the commoner answer; 2 of 2 neither, as all have one level.
    for level in ("til", "tumor"):
        refusal = no_better_than_chance(pairs, found[level], level)
        assert refusal is not None
        assert f"the level of {level}" in refusal


def test_levels_have_an_interval_by_slide() -> None:
    pairs = [
        Pair(f"slide {n % 4}", HIGH_LOW, HIGH_LOW if n % 4 else replace(HIGH_LOW, levels={}))
        for n in range(16)
    ]
    told = adherence(pairs, facts=("til",), tolerance_mm=5, seed=0, name="t", replicates=200)
    assert (told["til"].value, told["til"].n) == (0.75, 4)
    alone = [replace(pair, patient=str(n)) for n, pair in enumerate(pairs)]
    independent = adherence(alone, facts=("til",), tolerance_mm=5, seed=0, name="t", replicates=200)
    low = told["til"].low, independent["til"].low
    assert low[0] is not None
    assert low[1] is not None
    assert low[0] < low[1]


class Seer:
    """A probe that keeps what it was given."""

    fingerprint = "seer"
    spatial_dims: Collection[int] = (2,)

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], tuple[float, ...]]] = []

    def told(self, dataset: Manifest, case: Case) -> Facts | None:
        return None

    def look(self, image: Any, spacing_mm: tuple[float, ...]) -> Detection:
        self.seen.append((image.shape, spacing_mm))
        return Detection(HIGH_LOW)


def _tile(folder: Path, name: str, extra: dict[str, Any], source: Case | None) -> Subject:
    path = folder / f"{name}.png"
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(path)
    case = Case(id=name, group=name, images={"he": path.name}, extra=extra)
    return Subject(case, name, source or case, (path,), 1.0, (8, 8, 1), None, name)


def test_a_probe_of_tiles_sees_all_colours_and_the_pixels_edges(tmp_path: Path) -> None:
    """A picture says no spacing: the data set's mpp times the pixels that became one."""
    real = _tile(tmp_path, "real", {"mpp": 0.5, "spacing_pixels": [2.0, 4.0]}, None)
    counterpart = _tile(tmp_path, "twin", {"source_case": "real"}, real.case)
    probe = Seer()
    looks = [
        DetectionJob(probe, subject, 0, tmp_path / "kept", count=3)
        for subject in (real, counterpart)
    ]
    assert [one.found for one in detections.detections(looks)] == [HIGH_LOW, HIGH_LOW]
    assert [shape for shape, _ in probe.seen] == [(3, 8, 8)] * 2
    assert [edges for _, edges in probe.seen] == [(0.001, 0.002)] * 2


def test_pixels_whose_size_nothing_says_are_not_guessed(tmp_path: Path) -> None:
    unknown = _tile(tmp_path, "real", {"spacing_pixels": [1.0, 1.0]}, None)
    with pytest.raises(detections.UnknownEdgesError, match="nothing says how large its pixels are"):
        detections.detections([DetectionJob(Seer(), unknown, 0, tmp_path / "kept", count=3)])
