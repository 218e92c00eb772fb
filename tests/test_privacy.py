"""Report text is patient data: a canary put into reports comes up nowhere but in dataset/reports.

Every file that the stages leave is searched, the insides of gzip, zip and PNG files too, and all
that they print, also where something goes wrong.
"""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import signal
import stat
import subprocess
import sys
import traceback
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from shell import environment
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.files import append_line, atomic_path, make_folder, owner_only, write_json_atomic

CANARY = "ZEBRA-7731 Mevrouw Jansen"
# Parts, because a message may quote a beginning or break a line.
TRACES = ("ZEBRA-7731", "Mevrouw", "Jansen")
RECIPE = str(REPOSITORY / "recipes" / "ccella.yaml")


def report(case: Case) -> str:
    return f"{CANARY}, {case.id}: PI-RADS 4 in de perifere zone links. Grootte 1,2 cm."


def contents(path: Path) -> Iterator[bytes]:
    """The file's bytes, and what is packed inside it."""
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield zlib.decompressobj(wbits=31).decompress(data)  # takes a truncated file, too
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)
    if path.suffix == ".png":
        yield repr(Image.open(path).info).encode()


def traces_in(data: bytes) -> list[str]:
    folded = data.lower()
    return [
        trace
        for trace in TRACES
        for encoding in ("utf-8", "utf-16-le")
        if trace.lower().encode(encoding) in folded
    ]


def assert_no_trace(folder: Path, *said: str) -> None:
    """Nowhere in the folder but in a data set's reports, and in nothing that was said."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not traces_in(path.relative_to(folder).as_posix().encode())
        if path.parent.name == "reports" and path.parent.parent.name.startswith("dataset"):
            continue
        for content in contents(path):
            assert traces_in(content) == [], path
    for text in said:
        assert traces_in(text.encode()) == []


def write_table(path: Path, cases: list[Case], images: Path, **changes: str) -> Path:
    """A hospital's table: phantom images, reports with the canary. ``changes`` alter row 2."""
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "t2w", "report", "label", "split"])
        for number, case in enumerate(cases):
            row = {
                "id": case.id,
                "t2w": str(images / case.images["t2w"]),
                "report": report(case),
                "label": case.label or "",
                "split": case.split,
            }
            writer.writerow({**row, **(changes if number == 1 else {})}.values())
    return path


@pytest.fixture(scope="module")
def cases(smoke_workspace: Path) -> list[Case]:
    return list(Manifest.read(smoke_workspace / "dataset"))


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def voxella(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "voxella", *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        umask=0,  # the most careless one: what is private then, is private always
    )


@pytest.fixture(scope="module")
def chain(
    smoke_workspace: Path, cases: list[Case], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A whole run on reports with the canary; its folder and all that it said."""
    folder = tmp_path_factory.mktemp("chain")
    images = smoke_workspace / "dataset"
    table = write_table(tmp_path_factory.mktemp("hospital") / "cases.csv", cases, images)
    dataset, run = str(folder / "dataset"), str(folder / "run")
    panels = ("--set", "train.panel_every=1", "--set", "train.panel_steps=2")
    done = [
        voxella("import", "table", str(table), "--out", dataset),
        voxella("run", RECIPE, "--profile", "smoke", "--dataset", dataset, "--out", run, *panels),
    ]
    said = "".join(part.stdout + part.stderr for part in done)
    assert [part.returncode for part in done] == [0, 0], said
    return folder, said


@pytest.mark.slow
def test_a_whole_run_leaves_no_trace(chain: tuple[Path, str]) -> None:
    folder, said = chain
    reports = list((folder / "dataset" / "reports").iterdir())
    assert len(reports) == 6
    for path in reports:
        # The canary was there to be found, and only its owner reads it.
        assert traces_in(path.read_bytes()) == list(TRACES)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kinds = {path.suffix for path in (folder / "run").rglob("*") if path.is_file()}
    assert {".gz", ".pt", ".safetensors", ".json", ".jsonl", ".yaml", ".png"} <= kinds
    assert list((folder / "run" / "tensorboard").rglob("events.*"))
    assert "sampling" in said
    assert_no_trace(folder, said)


def modes(folder: Path) -> set[tuple[str, int]]:
    """The permissions that stand in a folder, apart for files and folders."""
    return {
        ("folder" if path.is_dir() else "file", stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
    }


@pytest.mark.slow
def test_nobody_else_opens_what_a_run_leaves(chain: tuple[Path, str]) -> None:
    """Images, features of reports, predictions, weights, TensorBoard's and DeepSpeed's files."""
    folder, _ = chain
    assert list((folder / "run" / "checkpoints").rglob("*.pt"))
    assert modes(folder) == {("folder", 0o700), ("file", 0o600)}


def test_a_script_writes_as_privately_as_a_command(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_json_atomic(tmp_path / "a" / "b" / "c.json", {})
        append_line(tmp_path / "a" / "log", "line")
        with atomic_path(tmp_path / "a" / "d.txt") as temporary:
            temporary.write_text("x")
            temporary.chmod(0o666)  # some writers choose for themselves
        assert modes(tmp_path) == {("folder", 0o700), ("file", 0o600)}
        (tmp_path / "shared").mkdir(mode=0o770)
        make_folder(tmp_path / "shared")
        assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o770
        with owner_only():
            (tmp_path / "theirs").touch()
        assert stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o600
        assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_the_search_itself_finds_what_is_packed(tmp_path: Path) -> None:
    """A search that cannot find would make every test here pass."""
    (tmp_path / "a.json").write_text(CANARY)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(CANARY.encode()))
    torch.save({"note": CANARY}, tmp_path / "c.pt")
    save_file({"x": torch.zeros(1)}, tmp_path / "d.safetensors", metadata={"note": CANARY})
    Image.new("L", (1, 1)).save(tmp_path / "e.png", pnginfo=_note())
    (tmp_path / "f.txt").write_bytes(CANARY.encode("utf-16"))
    for path in sorted(tmp_path.iterdir()):
        assert any(traces_in(content) for content in contents(path)), path.name
        with pytest.raises(AssertionError):
            assert_no_trace(tmp_path)
        path.unlink()
    (tmp_path / "clean").touch()
    with pytest.raises(AssertionError):
        assert_no_trace(tmp_path, f"failed at {CANARY}")


def _note() -> object:
    from PIL.PngImagePlugin import PngInfo

    note = PngInfo()
    note.add_text("note", CANARY, zip=True)
    return note


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that fails by the user's mistake; return all that it said."""
    capfd.readouterr()
    assert main(list(words)) == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return captured.out + captured.err


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("label", "label is none of"),
        ("t2w", "does not name an image file"),
        ("split", "its split is none of"),
        ("id", "an id is letters, digits"),
    ],
)
def test_a_report_in_the_wrong_column(
    column: str,
    words: str,
    cases: list[Case],
    smoke_workspace: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path_factory.mktemp("hospital") / "cases.csv"
    write_table(table, cases, smoke_workspace / "dataset", **{column: report(cases[1])})
    out = tmp_path / "dataset"
    said = refused(capfd, "import", "table", str(table), "--out", str(out))
    assert words in said
    (tmp_path / "said").write_text(said)
    assert_no_trace(tmp_path)
    assert not (out / "manifest.jsonl").exists()


@pytest.fixture
def dataset(
    cases: list[Case],
    smoke_workspace: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A data set with the canary in its reports, its images copied."""
    table = tmp_path_factory.mktemp("hospital") / "cases.csv"
    write_table(table, cases, smoke_workspace / "dataset")
    out = tmp_path / "dataset"
    assert main(["import", "table", str(table), "--out", str(out), "--set", "copy=true"]) == 0
    return out


def smoke(dataset: Path, *more: str) -> list[str]:
    options = ["--dataset", str(dataset), "--out", str(dataset.parent / "run"), "--workers", "1"]
    return ["run", RECIPE, "--profile", "smoke", *options, *more]


def test_a_broken_image(dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = dataset / "images" / "phantom-00001_t2w.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    said = refused(capfd, *smoke(dataset))
    assert "1 of 6 cases cannot be prepared" in said
    assert_no_trace(dataset.parent, said)


def test_an_unknown_label(dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(capfd, *smoke(dataset, "--set", "data.classes=[absent, present]"))
    assert "labels that are not classes of the recipe: negative, positive" in said
    assert "== prepare" not in said
    assert_no_trace(dataset.parent, said)


def test_a_report_that_is_no_text(
    dataset: Path, smoke_workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = dataset / "reports" / "phantom-00001.txt"
    path.write_bytes(path.read_bytes() + b"\xff\xfe")
    said = refused(capfd, *smoke(dataset))
    assert "case phantom-00001: report is not UTF-8" in said
    assert_no_trace(dataset.parent, said)


def test_an_encoder_that_fails_over_a_report(
    dataset: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin's exception quotes what it was given: its message is withheld, its place told."""
    from voxella_conditioners.text_encoder import TokenEncoder

    def encode(self: object, texts: list[str]) -> list[torch.Tensor]:
        raise ValueError(f"cannot encode {texts}")

    monkeypatch.setattr(TokenEncoder, "encode", encode)
    with pytest.raises(RuntimeError) as caught:
        main(smoke(dataset))
    printed = "".join(traceback.format_exception(caught.value))
    assert "ValueError at test_privacy.py" in printed
    captured = capfd.readouterr()
    assert_no_trace(dataset.parent, printed, captured.out, captured.err)


@pytest.mark.slow
def test_a_latent_that_is_not_finite(
    chain: tuple[Path, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(chain[0] / "dataset", dataset)
    for name in ("prepared", "autoencoder", "latents", "text"):
        shutil.copytree(chain[0] / "run" / name, tmp_path / "run" / name)
    (shard,) = (tmp_path / "run" / "latents").glob("*.safetensors")
    with safe_open(shard, framework="pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}
        metadata = opened.metadata()
    tensors["phantom-00001/mean"].fill_(float("nan"))
    # As an encoder would have written it: its checksum is not that of the number it replaces.
    save_file(tensors, shard, metadata={k: v for k, v in metadata.items() if k != "sums"})
    said = refused(capfd, *smoke(dataset))
    assert "is not finite, at cases phantom-00001; training stopped" in said
    assert_no_trace(tmp_path, said)
