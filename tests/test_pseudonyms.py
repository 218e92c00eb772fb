"""What leaves a run names no case of the hospital; inside, evaluation knows them all the same."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from evaluation_bench import Hospital, synthetic
from pseudonym_names import SECRET, counterpart, give_key, hidden, mark
from report_run import write_run

from voxella.case import Case, Manifest
from voxella.classification.identity import leaks
from voxella.data import pseudonyms
from voxella.data.pseudonyms import KEY, Pseudonyms, read_synthetic
from voxella.errors import UserError
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.sets import read_sets
from voxella.evaluation.stage import evaluate
from voxella.report.write import write_report
from voxella_importers.ccella.export import CcellaExport, export_ccella


def renamed(samples: Path) -> Path:
    """Give a data set made by hand the names that a run gives, worked out apart from the code."""
    cases = []
    for case in Manifest.read(samples):
        source = str(case.extra["source_case"])
        images = {}
        for sequence, path in case.images.items():
            images[sequence] = path.replace(case.id, counterpart(source))
            (samples / path).rename(samples / images[sequence])
        known = {
            "id": counterpart(source),
            "group": f"synthetic-{mark('patient', case.group.removeprefix('synthetic-'))}",
            "images": images,
            "extra": {**case.extra, "source_case": hidden(source)},
        }
        cases.append(case.model_copy(update=known))
    Manifest(samples, cases).write()
    return samples


def mentions(folder: Path, words: list[str]) -> list[str]:
    """Files in which one of the words stands, in its content or its name."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file()
        for word in words
        if word in path.name or word.encode() in path.read_bytes()
    ]


def test_names_are_keyed_hashes_of_kind_and_name(tmp_path: Path) -> None:
    give_key(tmp_path)
    names = Pseudonyms.of(tmp_path)
    assert (tmp_path / KEY).read_text().strip() == SECRET, "a key is never replaced"
    assert names.case("4711") == hidden("4711")
    assert names.patient("4711") == f"synthetic-{mark('patient', '4711')}"
    assert names.report("ab" * 32) == mark("report", "ab" * 32)
    assert names.report(None) is None


def test_a_run_makes_a_key_of_its_own_for_its_owner_alone(tmp_path: Path) -> None:
    first, second = (Pseudonyms.of(tmp_path / name) for name in ("a", "b"))
    assert first.case("4711") != second.case("4711"), "two runs' sets cannot be laid together"
    assert first.case("4711") == Pseudonyms.of(tmp_path / "a").case("4711")
    assert stat.S_IMODE((tmp_path / "a" / KEY).stat().st_mode) == 0o600
    beside = Pseudonyms.beside(tmp_path / "a" / "samples" / "steps-10_guidance-1")
    assert beside is not None
    assert beside.case("4711") == first.case("4711")
    assert Pseudonyms.beside(tmp_path / "elsewhere" / "samples") is None
    (tmp_path / "a" / KEY).write_text("no key")
    with pytest.raises(UserError, match=r"holds no key.*(\n.*)*restore it from a backup"):
        Pseudonyms.of(tmp_path / "a")


def test_two_cases_with_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Pseudonyms.of(give_key(tmp_path))
    cases = [Case(id=f"case-{n}", group=f"p{n}", images={}) for n in range(17)]
    names.check(cases)
    monkeypatch.setattr(pseudonyms, "_DIGITS", 1)  # sixteen names for seventeen cases
    with pytest.raises(UserError, match="two cases have one pseudonym"):
        names.check(cases)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"))


def test_every_number_is_the_same_as_under_the_real_names(
    hospital: Hospital, tmp_path: Path
) -> None:
    """Pairing, order and draws hang on the cases, not on what the key makes of their names."""
    found: dict[str, Any] = {}
    for name in ("plain", "hidden"):
        run = give_key(tmp_path / name)
        samples = synthetic(hospital, run / "samples", hospital.cases("train"))
        if name == "hidden":
            renamed(samples)
            assert mentions(samples, ["case-", "patient-"]) == []
        out = evaluate(hospital.recipe(), run)
        found[name] = [
            json.loads((out / file).read_text()) for file in ("metrics.json", "memorisation.json")
        ]
    for metrics, _ in found.values():
        # The folder of the set is another, and with it the seal over the file.
        del metrics["samples"], metrics["seal"]
    assert found["plain"] == found["hidden"]


def test_without_the_key_a_set_is_another_hospitals(hospital: Hospital, tmp_path: Path) -> None:
    run = give_key(tmp_path)
    samples = renamed(synthetic(hospital, run / "samples", hospital.cases("train")))
    prepared = Manifest.read(hospital.prepared)
    assert all(
        subject.source
        for subject in read_sets(SetSettings.of(hospital.recipe()), prepared, samples).generated
    )
    assert list(leaks(prepared, read_synthetic(samples, prepared))) == []
    (run / KEY).unlink()
    sets = read_sets(
        SetSettings.of(hospital.recipe("evaluate.real_split=train")), prepared, samples
    )
    assert not any(subject.source for subject in sets.generated)
    (said,) = leaks(prepared, read_synthetic(samples, prepared))
    assert f"key of their run is not beside them ({KEY})" in said


def test_counterparts_of_held_out_cases_are_found_behind_pseudonyms(
    hospital: Hospital, tmp_path: Path
) -> None:
    samples = renamed(synthetic(hospital, give_key(tmp_path) / "samples", hospital.cases("test")))
    prepared = Manifest.read(hospital.prepared)
    (said,) = leaks(prepared, read_synthetic(samples, prepared))
    assert "8 synthetic case(s) were made from cases of the split test" in said


def test_a_page_and_an_export_show_pseudonyms(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run").run
    give_key(run)
    renamed(run / "samples")
    page = write_report(run).read_text(encoding="utf-8")
    assert "case-0" not in page
    assert f"{hidden('case-00')} beside {counterpart('case-00')}" in page
    out = tmp_path / "export"
    export_ccella(Manifest.read(run / "samples"), out, CcellaExport(copy=True))
    assert mentions(out, ["case-0", "patient-"]) == []
    assert (out / "images" / counterpart("case-00")).is_dir()
