"""`voxella check` on data sets whose defects are known: it names every one and no other."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from broken_dataset import AFFINE, BrokenDataset, all_defects, scan, write_nifti
from tiny_run import REPOSITORY, tiny_recipe

from voxella.case import Manifest
from voxella.check.cases import CheckReport
from voxella.check.catalogue import CATALOGUE
from voxella.check.examine import CaseFacts, examine
from voxella.check.finding import SEVERITIES, Finding
from voxella.check.printing import print_quick_check
from voxella.check.quick import quick_check, read_leniently
from voxella.check.settings import CaseImages, CheckSettings
from voxella.check.stage import check
from voxella.cli import main
from voxella.data.importing import importer_component
from voxella.errors import UserError
from voxella.plugins import registry
from voxella.preparation.stage import prepare

DATA = REPOSITORY.parent / "shared" / "data"
CROP = ("prepare.crop_mm=[128,128,96]", "prepare.size=[8,8,8]")
# What the big data set cannot hold; each has a test of its own.
ELSEWHERE = {
    *("manifest.empty", "mask.crop", "geometry.no-scan"),
    *("label.grade", "report.truncated", "report.tokens", "report.unknown-words"),
    *("report.untrainable", "label.untrainable"),
    *("condition.value", "condition.untrainable", "condition.counts"),
    # What only a recipe can ask of a picture, or allow.
    *("image.grey", "geometry.no-spacing", "condition.spacing"),
    "image.optional-sequence",
}


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> BrokenDataset:
    return all_defects(tmp_path_factory.mktemp("broken") / "dataset")


@pytest.fixture(scope="module")
def report(broken: BrokenDataset) -> CheckReport:
    return check(broken.folder, workers=1)


def pairs(findings: list[Finding]) -> set[tuple[str | None, str]]:
    return {(finding.case, finding.code) for finding in findings}


def test_every_defect_is_named_and_no_other(broken: BrokenDataset, report: CheckReport) -> None:
    found = pairs(report.findings)
    assert found - broken.expected == set()
    assert broken.expected - found == set()
    assert {code for _, code in broken.expected} == CATALOGUE.keys() - ELSEWHERE


def test_findings_are_those_of_the_catalogue_worst_first(report: CheckReport) -> None:
    for finding in report.findings:
        kind = CATALOGUE[finding.code]
        assert (finding.severity, finding.remedy) == (kind.severity, kind.remedy)
        assert "\n" not in finding.remedy
    ranks = [SEVERITIES.index(finding.severity) for finding in report.findings]
    assert ranks == sorted(ranks)
    assert sum(report.counts.values()) == len(ranks)


def test_what_prepare_refuses_is_an_error_here(
    broken: BrokenDataset, report: CheckReport, tmp_path: Path
) -> None:
    readable = read_leniently(broken.folder)[0]
    sound = [case for case in readable if ".." not in str(case.images)]
    # One split for all: which split a case is in does not decide whether it can be prepared.
    cases = [case.model_copy(update={"split": "train", "truth": None}) for case in sound]
    absolute = [
        case.model_copy(
            update={"images": {n: str(broken.folder / p) for n, p in case.images.items()}}
        )
        for case in cases
    ]
    Manifest(tmp_path / "dataset", absolute).write()
    recipe = tiny_recipe("prepare.crop_mm=[128,128,null]", "prepare.size=[8,8,8]")
    prepare(recipe, tmp_path / "dataset", tmp_path / "prepared", workers=1, quarantine=True)
    refused = json.loads((tmp_path / "prepared" / "quarantine.json").read_text())
    errors = {finding.case for finding in report.findings if finding.severity == "error"}
    # The recipe reads T2W alone; the case without one is a note where no recipe asks for it.
    assert {entry["case"] for entry in refused} - errors == {"no-t2w"}
    assert len(refused) > 20


def test_the_command_prints_a_table_and_writes_both_files(
    broken: BrokenDataset, report: CheckReport, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(broken.folder), "--workers", "1"]) == 2
    printed = capfd.readouterr().out
    for severity in SEVERITIES:
        assert re.search(rf"^{report.counts[severity]} {severity.upper()}S?$", printed, re.M)
    for code in {finding.code for finding in report.findings}:
        assert re.search(rf"^{re.escape(code)} ", printed, re.M), code
    assert "3 cases: half.mha, half.nii, half.nii.gz" in " ".join(printed.split())
    assert "not checked: reports against the encoder's token limit" in printed
    assert f"page: {broken.folder / 'check' / 'report.html'}" in printed
    written = json.loads((broken.folder / "check" / "check.json").read_text())
    assert [Finding(**entry) for entry in written["findings"]] == report.findings
    assert json.loads((broken.folder / "check" / "stage.json").read_text())["stage"] == "check"


def test_json_is_all_that_is_printed(
    broken: BrokenDataset, report: CheckReport, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Anew, in a folder of its own: what SimpleITK says of a damaged file must not come between.
    command = ["check", str(broken.folder), "--json", "--workers", "1", "--out", str(tmp_path)]
    assert main([*command, "--page", str(tmp_path / "mine.html")]) == 2
    printed = json.loads(capfd.readouterr().out)
    assert printed["counts"] == report.counts
    assert [Finding(**entry) for entry in printed["findings"]] == report.findings
    assert printed["page"] == str(tmp_path / "mine.html")
    assert (tmp_path / "mine.html").is_file()


def test_a_second_run_reads_only_what_changed(
    broken: BrokenDataset, report: CheckReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def watched(own: CaseImages, settings: CheckSettings) -> CaseFacts:
        looked.append(own.case)
        return examine(own, settings)

    monkeypatch.setattr("voxella.check.cases.examine", watched)
    again = check(broken.folder, workers=1, quiet=True)
    assert looked == []
    assert again.findings == report.findings
    path = broken.folder / "images" / "sound-1_t2w.nii.gz"
    write_nifti(path, scan(4321))
    check(broken.folder, workers=1, quiet=True)
    assert looked == ["sound-1"]


def test_processes_change_no_finding(
    broken: BrokenDataset, report: CheckReport, tmp_path: Path
) -> None:
    parallel = check(broken.folder, out=tmp_path, workers=2, quiet=True)
    assert parallel.findings == report.findings


def test_what_was_kept_of_a_removed_case_goes(tmp_path: Path) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    data.case("stays")
    data.case("goes")
    data.write()
    check(data.folder, workers=1, quiet=True)
    kept = data.folder / "check" / "cases"
    assert sorted(path.name for path in kept.iterdir()) == ["goes.npz", "stays.npz"]
    manifest = data.folder / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().splitlines()[0] + b"\n")
    check(data.folder, workers=1, quiet=True)
    assert [path.name for path in kept.iterdir()] == ["stays.npz"]
    manifest.write_bytes(b"\n")
    assert (None, "manifest.empty") in pairs(check(data.folder, workers=1, quiet=True).findings)


def test_the_crop_around_a_mask(tmp_path: Path) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    middle = np.zeros((24, 24, 12), np.uint8)
    beside = middle.copy()
    middle[10:14, 10:14, 4:8] = 1
    beside[:3, 10:14, 4:8] = 1
    masks = {
        "good": data.image("middle.nii.gz", middle),
        "same": data.image("again.nii.gz", middle),
        "beside": data.image("beside.nii.gz", beside),
        "empty": data.image("empty_mask.nii.gz", np.zeros_like(middle)),
    }
    for name, path in masks.items():
        data.case(name, more={"gland": path})
    data.case("none")
    data.write()
    around = ("prepare.crop_around=gland", "prepare.crop_mm=[100,100,null]")
    recipe = tiny_recipe(*around, name="base")
    found = check(data.folder, recipe, workers=1, quiet=True).findings
    image = {f"{f.case} {f.code}" for f in found if f.code.split(".")[0] in ("image", "mask")}
    assert image == {"empty mask.crop", "none image.no-sequence"}
    # A mask that equals another, or is empty, is no copy and no constant image.
    assert not any(finding.code.startswith("duplicate") for finding in found)
    assert ("beside", "geometry.field-of-view") in pairs(found)


def test_a_recipe_of_single_slices(tmp_path: Path) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    data.case("flat", make=lambda path, array: write_nifti(path, scan(1, (24, 24, 1)), AFFINE))
    data.case("thick", "geometry.slices")
    data.write()
    flat = ("prepare.size=[16,16]", "prepare.crop_mm=[128,128]", "latent.size=[4,4]")
    recipe = tiny_recipe(*flat, name="base")
    found = check(data.folder, recipe, workers=1, quiet=True).findings
    assert {pair for pair in pairs(found) if pair[1].startswith("geometry")} == data.expected


def test_what_a_training_would_refuse_of_all_cases_is_an_error_with_its_recipe(
    tmp_path: Path,
) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    data.case("blank", report=b" \n", label=None)
    data.case("none", report=None, label=None)
    data.write()

    def errors(name: str) -> set[str]:
        found = check(data.folder, tiny_recipe(*CROP, name=name), workers=1, quiet=True).findings
        return {f.code for f in found if f.severity == "error"}

    assert errors("ccella") == {"report.untrainable", "label.untrainable"}
    assert errors("ellabase") == {"report.untrainable"}
    assert errors("radbase") == {"label.untrainable"}
    assert errors("base") == set()


def test_values_that_conditions_cannot_take_are_errors_with_their_recipe(tmp_path: Path) -> None:
    def codes(name: str, *ages: float | None) -> set[tuple[str | None, str]]:
        data = BrokenDataset(tmp_path / name)
        for number, age in enumerate(ages):
            data.case(f"c{number}", conditions={"age": age})
        data.write()
        told = "conditions={age: {kind: number, range: [40, 90]}}"
        vectors = "vectors=[{name: age, scale: 1}]"
        recipe = tiny_recipe(*CROP, told, vectors, name="base")
        found = check(data.folder, recipe, workers=1, quiet=True).findings
        return {pair for pair in pairs(found) if pair[1].startswith("condition")}

    counts = (None, "condition.counts")
    assert codes("good", 50, None) == {counts}
    assert codes("outside", 50, 39) == {counts, ("c1", "condition.value")}
    assert codes("none", None, None) == {counts, (None, "condition.untrainable")}


def test_reports_that_a_recipe_does_not_read_stop_nothing(tmp_path: Path) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    data.case("lost", report="reports/gone.txt")
    data.case("sound")
    data.write()
    (data.folder / "reports" / "lost.txt").unlink()
    silent = check(data.folder, tiny_recipe(*CROP, name="base"), workers=1, quiet=True)
    assert [f.code for f in silent.findings if f.severity == "error"] == []
    assert any("the recipe reads none" in line for line in silent.not_checked)
    read = check(data.folder, tiny_recipe(*CROP, name="ellabase"), workers=1, quiet=True)
    assert ("lost", "report.missing") in pairs(read.findings)


def test_reports_beyond_the_encoders_limit(tmp_path: Path) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    data.case("short", report="Lesion of 8 mm. PI-RADS 4.")
    data.case("long", report="Lesion of 9 mm. PI-RADS 4. " + "Nothing else was seen. " * 40)
    data.case("grade", extra={"pirads": 2, "isup": 3}, label="negative", label_source="pirads")
    data.write()
    recipe = tiny_recipe("text.width=384", *CROP)
    report = check(data.folder, recipe, workers=1, quiet=True)
    assert report.not_checked == []
    cut = [finding for finding in report.findings if finding.code == "report.truncated"]
    assert {finding.case for finding in cut} == {None, "long"}
    listed = data.folder / "check" / "cut_texts.csv"
    assert str(listed) in next(finding.message for finding in cut if finding.case is None)
    first, *rows = listed.read_text().splitlines()
    assert first == "id,text,tokens,cut"
    (row,) = rows
    name, text, tokens, beyond = row.split(",")
    assert (name, text) == ("long", "report")
    assert int(tokens) - int(beyond) == recipe.text.max_tokens  # type: ignore[union-attr]
    assert ("grade", "label.grade") in pairs(report.findings)
    absent = tiny_recipe("text.width=384", f"text.encoder={{name: t5, path: {tmp_path / 'gone'}}}")
    (said,) = check(data.folder, absent, workers=1, quiet=True).not_checked
    assert "token limit" in said
    assert "gone" in said
    assert not listed.exists(), "a list from before would be of another encoder"


def test_options_that_need_a_recipe(
    broken: BrokenDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(broken.folder), "--profile", "smoke"]) == 2
    assert "--recipe" in capsys.readouterr().err
    assert main(["check", str(broken.folder / "nowhere")]) == 2
    assert "voxella import" in capsys.readouterr().err


def test_a_sound_phantom_gives_no_error_and_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"cases": "12", "size": "[36, 36, 24]", "spacing_mm": "[4, 4, 4]", "workers": "1"}
    exact = {"label_noise": "0", "missing_reports": "0", "seed": "3"}
    words = [f"{key}={value}" for key, value in (settings | exact).items()]
    component = importer_component("phantom", None, words)
    registry.build("importers", component)(tmp_path / "phantom")
    assert main(["check", str(tmp_path / "phantom"), "--workers", "1"]) == 0
    report = check(tmp_path / "phantom", workers=1, quiet=True)
    assert [finding for finding in report.findings if finding.severity != "note"] == []
    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_the_quick_form_reads_neither_voxels_nor_reports(
    broken: BrokenDataset, report: CheckReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("voxels or a report were read")

    monkeypatch.setattr("voxella.check.examine.read_image", refuse)
    monkeypatch.setattr("voxella.check.examine.read_volume", refuse)
    monkeypatch.setattr("voxella.imaging.readers._read_exactly", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    found = pairs(quick_check(read_leniently(broken.folder)[0], CheckSettings.without_recipe()))
    needs_voxels = {
        *("image.damaged", "image.truncated", "image.no-finite", "image.nonfinite"),
        *("image.constant", "image.constant-crop", "image.few-values", "image.units"),
        "image.transparent",
    }
    of_images = ("image", "geometry", "split.patient", "manifest.path")
    full = {pair for pair in pairs(report.findings) if pair[1].startswith(of_images)}
    assert found <= full
    assert {code for _, code in full - found} <= needs_voxels
    assert ("half.nii", "image.truncated") in found
    assert ("noise", "image.damaged") in found


def test_the_quick_form_is_told_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    data.case("sound")
    data.case("bad", make=lambda path, array: path.touch())
    data.write()
    recipe = tiny_recipe(*CROP)
    settings = CheckSettings.of(recipe.data, recipe.prepare)
    findings = print_quick_check(data.folder, settings)
    assert pairs(findings) == {("bad", "image.empty")}
    said = capsys.readouterr().out
    assert "error image.empty: 1 case (bad)" in said
    assert f"voxella check {data.folder}" in said
    # The stage before which it is told is the one to refuse the case.
    base = str(REPOSITORY / "recipes" / "base.yaml")
    command = ["prepare", base, "--profile", "smoke", "--dataset", str(data.folder)]
    assert main([*command, "--out", str(tmp_path / "run"), "--workers", "1"]) == 2
    told = capsys.readouterr()
    assert "error image.empty: 1 case (bad)" in told.out
    assert "1 of 2 cases cannot be prepared" in told.err
    manifest = data.folder / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes() * 2)
    with pytest.raises(UserError, match="is duplicated"):
        print_quick_check(data.folder, settings)


@pytest.mark.skipif(
    not (DATA / "picai" / "images").is_dir(), reason=f"no real data: {DATA / 'picai'} is absent"
)
def test_real_studies_have_no_error(tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    words = [f"labels={DATA / 'picai' / 'picai_labels'}", "sequences=[t2w, adc, hbv]"]
    component = importer_component("picai", str(DATA / "picai" / "images"), words)
    registry.build("importers", component)(out)
    findings = check(out, workers=1, quiet=True).findings
    errors = [finding for finding in findings if finding.severity == "error"]
    assert errors == []
    # Diffusion is coarser than T2W; nothing else is worth a word about the images.
    images = {finding.code for finding in findings if finding.case is not None}
    assert images == {"geometry.grids-differ"}
