"""The reader study without its page: choice, blinding, answers, and numbers by closed forms."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow
from reading import SECRET, SHAPE, data_sets, voxels, write_real, write_synthetic
from scipy.stats import beta
from sklearn.metrics import cohen_kappa_score

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella.readers.answers import add_answer, next_number, read_answers
from voxella.readers.blinding import blinded, grid_of
from voxella.readers.choice import choose_halves
from voxella.readers.results import is_complete, study_results
from voxella.readers.study import ANSWERS, ReaderStudy, StudySettings, make_study


def cases(kind: str, count: int, labels: str = "ab") -> list[Case]:
    return [
        Case(id=f"{kind}{n}", group=f"{kind}{n // 2}", images={}, label=labels[n % len(labels)])
        for n in range(count)
    ]


def ids(halves: tuple[list[Case], list[Case]]) -> list[list[str]]:
    return [[case.id for case in half] for half in halves]


def test_halves_are_of_equal_labels_and_one_case_a_group() -> None:
    real, synthetic = cases("r", 60, "aab"), cases("s", 60, "ab")
    halves = choose_halves(real, synthetic, 24, seed=3)
    assert [len(half) for half in halves] == [12, 12]
    labels = [Counter(case.label for case in half) for half in halves]
    assert labels[0] == labels[1] == {"a": 6, "b": 6}
    for half in halves:
        assert len({case.group for case in half}) == 12
    # Of a label that is rare in one kind as few are taken of the other.
    rare = choose_halves(real, cases("s", 40, "abbb"), 24, seed=3)
    labels = [Counter(case.label for case in half) for half in rare]
    assert labels[0] == labels[1]
    assert 0 < labels[0]["a"] < 6


def test_a_draw_is_of_seed_and_id_alone() -> None:
    real, synthetic = cases("r", 60), cases("s", 60)
    chosen = choose_halves(real, synthetic, 20, seed=3)
    assert ids(choose_halves(real[::-1], synthetic[::-1], 20, seed=3)) == ids(chosen)
    assert ids(choose_halves(real, synthetic, 20, seed=4)) != ids(chosen)
    # What was not drawn may as well not be there.
    kept = {case.id for half in chosen for case in half}
    fewer = [[case for case in some if case.id in kept] for some in (real, synthetic)]
    assert sorted(map(sorted, ids(choose_halves(fewer[0], fewer[1], 20, seed=3)))) == sorted(
        map(sorted, ids(chosen))
    )


def test_where_labels_differ_halves_are_still_halves() -> None:
    real, synthetic = cases("r", 20, "a"), cases("s", 20, "b")
    assert [len(half) for half in choose_halves(real, synthetic, 8, seed=0)] == [4, 4]


@pytest.mark.parametrize("count", [0, 7, -2, 22])
def test_what_cannot_be_chosen_is_refused(count: int) -> None:
    with pytest.raises(UserError):
        choose_halves(cases("r", 20), cases("s", 20), count, seed=0)


def test_real_and_synthetic_of_the_same_voxels_are_the_same_bytes(tmp_path: Path) -> None:
    real = write_real(tmp_path / "real.nii.gz", voxels(1))
    synthetic = write_synthetic(tmp_path / "synthetic.nii", voxels(1))
    assert real.read_bytes() != synthetic.read_bytes()
    grid = grid_of(synthetic)
    assert blinded(real, grid).data == blinded(synthetic, grid).data


def test_bytes_of_two_volumes_differ_in_voxels_only(tmp_path: Path) -> None:
    real = write_real(tmp_path / "real.nii.gz", voxels(1))
    synthetic = write_synthetic(tmp_path / "synthetic.nii", voxels(2))
    one, other = (blinded(path, grid_of(synthetic)).data for path in (real, synthetic))
    assert len(one) == len(other)
    apart = np.flatnonzero(np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8))
    assert len(apart) > 0.9 * np.prod(SHAPE)
    # What lies before the voxels is equal; they begin where NIfTI's one file has them.
    assert apart.min() >= 352
    assert len(one) - 352 == np.prod(SHAPE)
    assert SECRET.encode() not in one
    shown = nib.Nifti1Image.from_bytes(one)
    assert shown.get_data_dtype() == np.uint8
    assert np.bincount(np.asarray(shown.dataobj).ravel(), minlength=256)[[0, 255]].min() > 0
    # The order of values is the volume's own: nothing is mirrored or mixed up.
    order = np.corrcoef(np.asarray(shown.dataobj).ravel(), voxels(1).ravel())[0, 1]
    assert order > 0.999


def test_pictures_of_two_kinds_are_files_of_one_length(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    Pillow.fromarray(smooth).save(tmp_path / "real.tif")
    noise = draw.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    Pillow.fromarray(noise).save(tmp_path / "synthetic.png")
    grid = grid_of(tmp_path / "synthetic.png")
    assert grid.suffix == ".png"
    files = [blinded(tmp_path / name, grid).data for name in ("real.tif", "synthetic.png")]
    assert len(files[0]) == len(files[1])
    assert np.array_equal(np.asarray(Pillow.open(io.BytesIO(files[0]))), smooth)
    assert np.array_equal(np.asarray(Pillow.open(io.BytesIO(files[1]))), noise)


def test_another_grid_would_tell_and_is_refused(tmp_path: Path) -> None:
    grid = grid_of(write_synthetic(tmp_path / "synthetic.nii", voxels(1)))
    other = write_volume(tmp_path / "other.nii", voxels(1, (12, 10, 7)), np.eye(4))
    with pytest.raises(UserError, match=r"12 x 10 x 7.*12 x 10 x 6"):
        blinded(other, grid)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ReaderStudy:
    folder = tmp_path_factory.mktemp("study")
    synthetic, real = data_sets(folder)
    return make_study(folder / "out", synthetic, real, StudySettings(cases=12, seed=5))


def emptied(study: ReaderStudy) -> ReaderStudy:
    (study.folder / ANSWERS).unlink(missing_ok=True)
    return study


def test_a_study_is_halves_of_held_out_and_synthetic_cases(study: ReaderStudy) -> None:
    kinds = Counter(item.kind for item in study.items)
    assert kinds == {"real": 6, "synthetic": 6}
    assert ReaderStudy.read(study.folder) == study
    training = {f"r{number:02d}" for number in range(0, 16, 4)}
    assert not training & {item.case for item in study.items}
    labels = {
        kind: Counter(item.label for item in study.items if item.kind == kind)
        for kind in ("real", "synthetic")
    }
    assert labels["real"] == labels["synthetic"]
    assert len({path.stat().st_size for path in (study.folder / "images").iterdir()}) == 1
    assert study.folder.stat().st_mode & 0o077 == 0


def test_numbers_and_orders_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many seeds, a place in the list, or in a reader's order, is real half of the time."""
    monkeypatch.setattr("voxella.readers.study._write_images", lambda *_: None)
    synthetic, real = data_sets(tmp_path)
    first = Counter[str]()
    places = []
    for seed in range(40):
        made = make_study(tmp_path / str(seed), synthetic, real, StudySettings(cases=4, seed=seed))
        first[made.items[0].kind] += 1
        kinds = {item.number: item.kind for item in made.items}
        places.append(tuple(kinds[number] for number in made.order(1)))
        assert sorted(made.order(1)) == [1, 2, 3, 4]
    # 40 throws of a coin lie outside of 10 to 30 once in 900 times.
    assert 10 <= first["real"] <= 30
    assert 10 <= sum(kinds[0] == "real" for kinds in places) <= 30
    assert len(set(places)) == 6  # every way to deal two of each


def test_readers_have_orders_of_their_own_that_last(study: ReaderStudy) -> None:
    again = ReaderStudy.read(study.folder)
    assert again is not None
    assert again.order(1) == study.order(1)
    assert study.order(1) != study.order(2)


def test_a_reading_goes_on_where_it_was_left(study: ReaderStudy) -> None:
    emptied(study)
    first, second = study.order(1)[:2]
    assert next_number(study, 1, read_answers(study)) == first
    add_answer(study, 1, first, "real", 3)
    with (study.folder / ANSWERS).open("a") as file:
        file.write('{"reader": 1, "item": 2, "verd')  # cut by a kill
    assert next_number(study, 1, read_answers(study)) == second
    assert next_number(study, 2, read_answers(study)) == study.order(2)[0]
    add_answer(study, 1, first, "synthetic", 4)
    (given,) = read_answers(study).values()
    assert (given.verdict, given.quality) == ("synthetic", 4)


@pytest.mark.parametrize(
    "wrong",
    [(0, 1, "real", 3), (3, 1, "real", 3), (1, 13, "real", 3), (1, 1, "unsure", 3),
     (1, 1, "real", 0), (1, 1, "real", 6), (True, 1, "real", 3)],
)  # fmt: skip
def test_an_answer_that_is_none_is_refused(study: ReaderStudy, wrong: tuple[Any, ...]) -> None:
    emptied(study)
    with pytest.raises(UserError):
        add_answer(study, *wrong)
    assert not (study.folder / ANSWERS).exists()
    line = dict(zip(("reader", "item", "verdict", "quality"), wrong, strict=True)) | {"when": ""}
    (study.folder / ANSWERS).write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="line 1"):
        read_answers(study)


def answer_all(study: ReaderStudy, wrong: dict[int, set[int]]) -> None:
    """Every reader is right but for some items; quality is 4 of synthetic cases, else 2 or 3."""
    emptied(study)
    for reader in range(1, study.readers + 1):
        for item in study.items:
            turned = item.number in wrong[reader]
            kind = {"real": "synthetic", "synthetic": "real"}[item.kind] if turned else item.kind
            quality = 4 if item.kind == "synthetic" else 1 + reader
            add_answer(study, reader, item.number, kind, quality)


def test_numbers_are_those_of_the_answers(study: ReaderStudy) -> None:
    wrong = {1: {1, 2, 3}, 2: {3, 4}}
    answer_all(study, wrong)
    answers = read_answers(study)
    assert is_complete(study, answers)
    found = study_results(study, answers)
    assert found["complete"]
    for reader, missed in ((1, 3), (2, 2)):
        right = 12 - missed
        number = found["by_reader"][str(reader)]["accuracy"]
        assert number["value"] == pytest.approx(right / 12)
        # Clopper and Pearson's ends as quantiles of the beta distribution.
        assert number["low"] == pytest.approx(beta.ppf(0.025, right, missed + 1), abs=1e-9)
        assert number["high"] == pytest.approx(beta.ppf(0.975, right + 1, missed), abs=1e-9)
        assert number["n"] == 12
    metrics = found["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx((9 + 10) / 24)
    assert metrics["accuracy"]["low"] < 19 / 24 < metrics["accuracy"]["high"]
    called = {
        kind: [answers[r, i.number].verdict == kind for i in study.items for r in (1, 2)
               if i.kind == kind]
        for kind in ("real", "synthetic")
    }  # fmt: skip
    assert metrics["specificity"]["value"] == pytest.approx(np.mean(called["real"]))
    assert metrics["sensitivity"]["value"] == pytest.approx(np.mean(called["synthetic"]))
    assert metrics["quality_real"]["value"] == pytest.approx(2.5)
    assert metrics["quality_synthetic"]["value"] == pytest.approx(4.0)
    assert metrics["quality_difference"]["value"] == pytest.approx(1.5)
    by_reader = [[answers[r, i.number] for i in study.items] for r in (1, 2)]
    verdicts = [[given.verdict for given in some] for some in by_reader]
    qualities = [[given.quality for given in some] for some in by_reader]
    assert metrics["kappa_verdict"]["value"] == pytest.approx(cohen_kappa_score(*verdicts))
    weighted = cohen_kappa_score(*qualities, weights="quadratic", labels=range(1, 6))
    assert metrics["kappa_quality"]["value"] == pytest.approx(weighted)
    assert study_results(study, answers) == found


def test_before_the_end_there_are_numbers_of_what_was_read(study: ReaderStudy) -> None:
    emptied(study)
    nothing = study_results(study, {})
    assert nothing["metrics"]["accuracy"]["value"] is None
    assert nothing["by_reader"]["1"]["accuracy"]["value"] is None
    for item in study.items[:5]:
        add_answer(study, 1, item.number, item.kind, 3)
    some = study_results(study, read_answers(study))
    assert not some["complete"]
    assert some["by_reader"]["1"]["accuracy"]["n"] == 5
    assert some["by_reader"]["2"]["accuracy"]["note"] == "nothing was answered yet"
    assert "by all" in some["metrics"]["kappa_verdict"]["note"]
    json.dumps(some, allow_nan=False)


def test_three_readers_are_held_to_fleiss(tmp_path: Path) -> None:
    synthetic, real = data_sets(tmp_path)
    settings = StudySettings(readers=3, cases=8)
    made = make_study(tmp_path / "out", synthetic, real, settings)
    answer_all(made, {1: set(), 2: set(), 3: {1}})
    kappa = study_results(made, read_answers(made))["metrics"]["kappa_verdict"]
    # One of eight rows is 2 : 1, the others agree; 13 and 11 of 24 answers are of either word.
    agreed = (7 + 1 / 3) / 8
    by_chance = (13 / 24) ** 2 + (11 / 24) ** 2
    assert kappa["value"] == pytest.approx((agreed - by_chance) / (1 - by_chance))
    assert "Fleiss" in kappa["how"]


def test_the_command_goes_on_with_a_study_and_prints_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic, real = data_sets(tmp_path)
    words = ["reader-study", str(synthetic.folder)]
    assert main([*words, "--results"]) == 2
    assert "no reader study" in capsys.readouterr().err
    out = synthetic.folder / "reader-study"
    made = make_study(out, synthetic, real, StudySettings(cases=8))
    answer_all(made, {1: {1}, 2: set()})
    assert main([*words, "--results", "--cases", "8"]) == 0
    said = capsys.readouterr().out
    assert "16 of 16 answers" in said
    assert "Right, reader 1: 0.875" in said
    kept = json.loads((out / "metrics.json").read_text())
    assert kept["metrics"]["accuracy"]["value"] == pytest.approx(15 / 16)
    assert main([*words, "--results", "--cases", "10", "--seed", "0"]) == 2
    refused = capsys.readouterr().err
    assert "with cases 8" in refused
    assert "--out DIR" in refused
    (out / "images" / "0003.nii").unlink()
    assert main([*words, "--results"]) == 2
    assert "1 of its volumes" in capsys.readouterr().err


def test_without_real_cases_it_says_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic, real = data_sets(tmp_path, real=3, synthetic=3)
    words = ["reader-study", str(synthetic.folder), "--no-browser"]
    assert main(words) == 2
    assert "--real DIR" in capsys.readouterr().err
    assert main([*words, "--real", str(real.folder)]) == 2
    assert "--cases 4" in capsys.readouterr().err
    Manifest(real.folder, list(real)[:2]).write()
    assert main([*words, "--real", str(real.folder), "--cases", "9"]) == 2
    assert "2, 4, 6" in capsys.readouterr().err
