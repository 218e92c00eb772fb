"""Nothing of a patient where it does not belong: every verb, in good order and with a fault.

A hospital's table has marks in its reports, patients, ids and file names (``canary.py``). What each
file may hold is said in ``ALLOWED``; what is printed, and what ``/proc`` shows, holds no text, no
patient and no file's name. Messages name cases by their ids, so that they can be looked up.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from canary import ID, NAME, PATIENT, TEXT, Watch, contents, hospital, report, traces_in
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from shell import environment
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.cli import main

RECIPES = REPOSITORY / "recipes"
CCELLA = str(RECIPES / "ccella.yaml")
REAL = str(RECIPES / "downstream" / "real.yaml")
SECRET = report(1)
LINE = SECRET.splitlines()[0]
MANIFESTS = ("dataset/manifest.jsonl", "work/prepared/manifest.jsonl")
PREDICTIONS = "*/classify/*/predictions.jsonl"
# What may hold which marks, as docs/explanation/privacy.md says; everything else may hold none.
ALLOWED = {
    # The reports themselves, copied where only their owner reads them.
    TEXT: (
        "dataset/reports/*.txt",
        "dataset-2/reports/*.txt",
    ),
    # Cases of one patient share a split: whoever draws or measures one has to know. The export of
    # a real data set has the spreadsheet of the released code, which names patients.
    PATIENT: (*MANIFESTS, PREDICTIONS, "exported/cases.xlsx"),
    # The real data set and what is made of each case of it; who is behind the pseudonyms; which
    # real case is nearest to which volume. Not samples, model, checkpoints, TensorBoard, pages.
    ID: (
        *("dataset*/*", "work/*", "exported/*", "full/*"),
        *("*/pseudonyms.csv", "*/evaluation/memorisation.json", PREDICTIONS),
    ),
    # Images were copied under names of their own.
    NAME: (),
}
PUBLIC = (*TEXT, *PATIENT, *NAME)


def search(folder: Path) -> list[str]:
    """Return what stands where it should not, in names and in contents of files."""
    wrong = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        for marks, places in ALLOWED.items():
            if any(fnmatch(name, place) for place in places):
                continue
            found = {m for data in (name.encode(), *contents(path)) for m in traces_in(data, marks)}
            wrong += [f"{name}: {mark}" for mark in sorted(found)]
    return wrong


def heard(*words: str) -> str:
    """Run a command that succeeds, in this process; return what it prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*words])
    assert code == 0, said.getvalue()
    return said.getvalue()


def stage(place: Path, verb: str, *more: str, recipe: str = CCELLA) -> tuple[str, ...]:
    folders = ("--dataset", str(place / "dataset"), "--workspace", str(place / "work"))
    out = ("--out", str(place / "run"), "--workers", "1", *more)
    return (verb, recipe, "--profile", "smoke", *folders, *out)


def write_prompts(path: Path, **changes: object) -> Path:
    """Write a file of two prompts; ``changes`` alter the second."""
    prompts = [{"id": f"asked-{n}", "report": report(n), "label": "positive"} for n in (0, 1)]
    prompts[1] |= changes  # type: ignore[arg-type]  # that is the fault
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(json.dumps(prompt) for prompt in prompts), encoding="utf-8")
    return path


def write_study(path: Path, *more: str) -> Path:
    """Write a study of one recipe."""
    lines = [
        "name: canary",
        "description: one recipe",
        f"recipes: [{CCELLA}]",
        "columns: [fid_3d]",
        *more,
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def good(
    smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str], Watch]:
    """Every verb once; the folder of all that they write, what each printed, and ``/proc``."""
    place = tmp_path_factory.mktemp("canary") / "place"
    source = tmp_path_factory.mktemp("source")
    table = hospital(source, smoke_workspace / "dataset")
    dataset, run = str(place / "dataset"), place / "run"
    said = {"import": heard("import", "table", str(table), "--out", dataset, "--set", "copy=true")}
    said["check"] = heard(
        "check", dataset, "--recipe", CCELLA, "--profile", "smoke", "--workers", "1"
    )
    temporary = place / "tmp"
    temporary.mkdir()
    panels = ("--set", "train.panel_every=1", "--set", "train.panel_steps=2", "--workers", "2")
    with Watch() as watch:
        done = subprocess.run(
            [sys.executable, "-m", "voxella", *stage(place, "run", *panels)],
            env=environment(TMPDIR=str(temporary)),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    said["run"] = done.stdout + done.stderr
    assert done.returncode == 0, said["run"]
    for verb in ("prepare", "train-autoencoder", "check-autoencoder", "encode", "train"):
        said[verb] = heard(*stage(place, verb, *panels))
    prompts = write_prompts(source / "prompts.jsonl")
    said["sample"] = heard(
        *stage(place, "sample", "--xlsx", "--set", f"sample.prompts={prompts}", *panels)
    )
    said["sample"] += heard(*stage(place, "sample", "--xlsx", *panels))
    said["evaluate"] = heard(*stage(place, "evaluate", *panels))
    said["classify"] = heard(*stage(place, "classify", recipe=REAL))
    said["report"] = heard("report", str(run))
    said["export"] = heard("export", "ccella", dataset, "--out", str(place / "exported"))
    said["export"] += heard(
        "export", "ccella", str(run / "samples"), "--out", str(place / "handed-on")
    )
    said["recipe"] = heard("recipe", "show", CCELLA, "--set", f"data.dataset={dataset}")
    said["plugins"] = heard("plugins")
    study = str(write_study(source / "study.yaml"))
    where = ("--dataset", dataset, "--workspace", str(place / "work"))
    said["study"] = heard(
        "study", study, "--profile", "smoke", *where, "--out", str(place / "study")
    )
    return place, said, watch


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_every_verb_in_good_order_keeps_patients_where_they_belong(
    good: tuple[Path, dict[str, str], Watch],
) -> None:
    place, said, watch = good
    # There was something to find, and it is found.
    for marks, name in ((TEXT, "reports/IBEX42-1.txt"), (PATIENT, "manifest.jsonl")):
        assert traces_in((place / "dataset" / name).read_bytes(), marks) == [*marks]
    kinds = {path.suffix for path in place.rglob("*") if path.is_file()}
    assert {".gz", ".pt", ".safetensors", ".json", ".jsonl", ".png", ".html", ".xlsx"} <= kinds
    assert list((place / "run" / "tensorboard").rglob("events.*"))
    assert search(place) == []
    for verb, text in said.items():
        assert traces_in(text.encode(), PUBLIC) == [], f"{verb}: {text}"
    # The command and the processes that prepared its cases.
    assert len(watch.seen) >= 3
    shown = b"".join(part for parts in watch.seen.values() for part in parts)
    assert b"voxella" in shown
    assert traces_in(shown, (*PUBLIC, *ID)) == []


def test_what_is_packed_is_found(tmp_path: Path) -> None:
    """A search that cannot find would make every test here pass."""
    note = PngInfo()
    note.add_text("note", SECRET, zip=True)
    (tmp_path / "a.txt").write_bytes(SECRET.encode("utf-16"))
    torch.save({"note": SECRET}, tmp_path / "b.pt")
    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors", metadata={"note": SECRET})
    Image.new("L", (1, 1)).save(tmp_path / "d.png", pnginfo=note)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "TAPIR19.txt").touch()
    wrong = search(tmp_path)
    assert "dataset/TAPIR19.txt: TAPIR19" in wrong
    for name in ("a.txt", "b.pt", "c.safetensors", "d.png"):
        assert f"{name}: ZEBRA-7731" in wrong
    words = [sys.executable, "-c", "import time; time.sleep(1)", SECRET]
    with Watch() as watch:
        subprocess.run(words, check=True, timeout=60)
    assert traces_in(b"".join(part for parts in watch.seen.values() for part in parts)) == [*TEXT]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def entry_with(path: Path, **fields: object) -> None:
    """Alter the first line of a manifest."""
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    changed = json.dumps({**json.loads(first), **fields})
    path.write_text("\n".join([changed, *rest]), encoding="utf-8")


def table_of(place: Path, **changes: str) -> str:
    return str(hospital(place.parent / "source", place / "dataset", **changes))


def _import_of_a_wrong_column(place: Path) -> tuple[str, ...]:
    columns = ("--set", "columns={patient: report, label_source: report}")
    return ("import", "table", table_of(place), "--out", str(place / "second"), *columns)


def _import_of_a_wrong_cell(place: Path) -> tuple[str, ...]:
    table = table_of(place, patient=SECRET, label=SECRET, split=SECRET, t2w=SECRET)
    return ("import", "table", table, "--out", str(place / "second"))


def _import_of_a_cut_table(place: Path) -> tuple[str, ...]:
    table = Path(table_of(place))
    table.write_text(table.read_text(encoding="utf-8") + f'x,"{SECRET}', encoding="utf-8")
    return ("import", "table", str(table), "--out", str(place / "second"))


def _check_of_damaged_files(place: Path) -> tuple[str, ...]:
    cut(place / "dataset" / "images" / "IBEX42-1_t2w.nii.gz")
    with (place / "dataset" / "reports" / "IBEX42-2.txt").open("ab") as handle:
        handle.write(b"\xff\xfe")
    return ("check", str(place / "dataset"), "--workers", "1")


def _check_of_a_manifest_with_text(place: Path) -> tuple[str, ...]:
    entry_with(place / "dataset" / "manifest.jsonl", group=SECRET, label=LINE, **{SECRET: LINE})
    return ("check", str(place / "dataset"), "--workers", "1")


def _prepare_of_a_cut_image(place: Path) -> tuple[str, ...]:
    cut(place / "dataset" / "images" / "IBEX42-1_t2w.nii.gz")
    return stage(place, "prepare")


def _prepare_of_a_label_of_text(place: Path) -> tuple[str, ...]:
    entry_with(place / "dataset" / "manifest.jsonl", label=LINE)
    return stage(place, "prepare")


def _autoencoder_of_a_cut_volume(place: Path) -> tuple[str, ...]:
    shutil.rmtree(place / "work" / "autoencoder")
    cut(place / "work" / "prepared" / "images" / "IBEX42-1_t2w.nii.gz")
    return stage(place, "train-autoencoder")


def _autoencoder_check_of_a_cut_volume(place: Path) -> tuple[str, ...]:
    cut(place / "work" / "prepared" / "images" / "IBEX42-4_t2w.nii.gz")
    (place / "work" / "autoencoder" / "check.json").unlink()
    return stage(place, "check-autoencoder")


def _encode_of_no_text(place: Path) -> tuple[str, ...]:
    shutil.rmtree(place / "work" / "text")
    with (place / "dataset" / "reports" / "IBEX42-2.txt").open("ab") as handle:
        handle.write(b"\xff\xfe")
    return stage(place, "encode")


def _train_of_a_cut_cache(place: Path) -> tuple[str, ...]:
    (shard,) = (place / "work" / "latents").glob("*.safetensors")
    cut(shard)
    return stage(place, "train", "--set", "seed=3")


def _sample_of_swapped_prompts(place: Path) -> tuple[str, ...]:
    swapped = {"id": LINE, "report": ["PI-RADS 4"], "label": SECRET, "spacing_mm": LINE, SECRET: 1}
    path = write_prompts(place.parent / "source" / "prompts.jsonl", **swapped)
    return stage(place, "sample", "--set", f"sample.prompts={path}")


def _sample_of_an_unknown_label(place: Path) -> tuple[str, ...]:
    path = write_prompts(place.parent / "source" / "prompts.jsonl", label=LINE)
    return stage(place, "sample", "--set", f"sample.prompts={path}")


def _evaluate_of_a_cut_volume(place: Path) -> tuple[str, ...]:
    shutil.rmtree(place / "run" / "evaluation")
    samples = Manifest.read(place / "run" / "samples")
    cut(samples.image_path(samples.cases[0], "t2w"))
    return stage(place, "evaluate", "--samples", str(place / "run" / "samples"))


def _classify_of_a_manifest_with_text(place: Path) -> tuple[str, ...]:
    shutil.rmtree(place / "run" / "classify")
    entry_with(place / "dataset" / "manifest.jsonl", label=LINE)
    return stage(place, "classify", recipe=REAL)


def _report_of_a_file_of_text(place: Path) -> tuple[str, ...]:
    text = json.dumps({"format": 1, "cases": [{SECRET: LINE}], LINE: SECRET})
    (place / "run" / "evaluation" / "metrics.json").write_text(text, encoding="utf-8")
    return ("report", str(place / "run"))


def _export_of_a_manifest_with_text(place: Path) -> tuple[str, ...]:
    entry_with(place / "dataset" / "manifest.jsonl", extra={"note": SECRET, LINE: 1})
    return ("export", "ccella", str(place / "dataset"), "--out", str(place / "again"))


def _run_of_a_recipe_with_text(place: Path) -> tuple[str, ...]:
    path = place.parent / "source" / "recipe.yaml"
    path.parent.mkdir(exist_ok=True)
    text = f"extends: {CCELLA}\ntrain: {json.dumps({LINE: 1, 'steps': SECRET})}\n"
    path.write_text(text, encoding="utf-8")
    return stage(place, "run", recipe=str(path))


def _recipe_of_text(place: Path) -> tuple[str, ...]:
    return ("recipe", "validate", CCELLA, "--set", f"data={json.dumps({SECRET: LINE})}")


def _study_of_text(place: Path) -> tuple[str, ...]:
    path = write_study(place.parent / "source" / "study.yaml", f"{json.dumps(LINE)}: [1]")
    return ("study", str(path), "--profile", "smoke", "--out", str(place / "second"))


def _plugins_of_text(place: Path) -> tuple[str, ...]:
    return ("plugins", "check", "cnn", "--set", SECRET)


FAULTS: dict[Callable[[Path], tuple[str, ...]], str] = {
    _import_of_a_wrong_column: "row 2: column report as group: has several lines",
    _import_of_a_wrong_cell: "row 3: column patient as group: has several lines",
    _import_of_a_cut_table: "not CSV",
    _check_of_damaged_files: "report.undecodable",
    _check_of_a_manifest_with_text: "a field that no case has",
    _prepare_of_a_cut_image: "1 of 6 cases cannot be prepared",
    _prepare_of_a_label_of_text: "case IBEX42-0: label: has ",
    _autoencoder_of_a_cut_volume: "IBEX42-1",
    _autoencoder_check_of_a_cut_volume: "IBEX42-4",
    _encode_of_no_text: "case IBEX42-2: report is not UTF-8",
    _train_of_a_cut_cache: "rank0000-00000.safetensors",
    _sample_of_swapped_prompts: "prompts.jsonl:2: ",
    _sample_of_an_unknown_label: "label is none of negative, positive",
    _evaluate_of_a_cut_volume: "volumes/",
    _classify_of_a_manifest_with_text: "label: has ",
    _report_of_a_file_of_text: "metrics.json",
    _export_of_a_manifest_with_text: "extra: has ",
    _run_of_a_recipe_with_text: "unknown key",
    _recipe_of_text: "unknown key",
    _study_of_text: "unknown key",
    _plugins_of_text: "is not KEY=VALUE",
}


@pytest.fixture
def place(good: tuple[Path, dict[str, str], Watch], tmp_path: Path) -> Path:
    """A copy of what the verbs left, to be damaged."""
    shutil.copytree(good[0], tmp_path / "place")
    return tmp_path / "place"


def refused(words: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> str:
    capfd.readouterr()
    assert main(words) == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return captured.out + captured.err


def without_damage(wrong: list[str]) -> list[str]:
    """Leave out the files that a fault itself has put text into."""
    ours = ("dataset/manifest.jsonl: ", "run/evaluation/metrics.json: ")
    return [line for line in wrong if not line.startswith(ours)]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_in_a_verb_tells_nothing_of_a_patient(
    fault: Callable[[Path], tuple[str, ...]], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refused(fault(place), capfd)
    assert FAULTS[fault] in said
    assert traces_in(said.encode(), PUBLIC) == [], said
    assert without_damage(search(place)) == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["import", "encode", "train", "sample", "export"])
def test_a_full_disk_tells_nothing_of_a_patient(
    verb: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No file can be longer than some bytes: what was half written is searched, too."""
    made = {"encode": "work/text", "train": "run/checkpoints", "sample": "run/samples"}
    if verb in made:
        shutil.rmtree(place / made[verb])
    words = stage(place, verb, "--set", "seed=3" if verb == "train" else "sample.steps=3")
    if verb == "import":
        copied = ("--out", str(place / "dataset-2"), "--set", "copy=true")
        words = ("import", "table", table_of(place), *copied)
    if verb == "export":
        words = ("export", "ccella", str(place / "dataset"), "--out", str(place / "full"))
        words = (*words, "--copy")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000 if verb in ("encode", "train") else 4_000, hard)
    )
    try:
        said = refused(words, capfd)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in said
    assert traces_in(said.encode(), PUBLIC) == [], said
    assert search(place) == []


@pytest.mark.slow
def test_a_plugin_that_quotes_a_report_is_not_quoted(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug, not a mistake: the traceback goes to whoever is asked for help."""
    from voxella_conditioners.text_encoder import TokenEncoder

    def encode(self: object, texts: list[str]) -> list[torch.Tensor]:
        raise ValueError(f"cannot encode {texts}")

    monkeypatch.setattr(TokenEncoder, "encode", encode)
    shutil.rmtree(place / "work" / "text")
    with pytest.raises(RuntimeError) as caught:
        main(stage(place, "encode"))
    captured = capfd.readouterr()
    printed = "".join(traceback.format_exception(caught.value))
    assert "ValueError at test_canary.py" in printed
    assert traces_in((printed + captured.out + captured.err).encode(), PUBLIC) == []
    assert search(place) == []
