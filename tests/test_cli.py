"""The command line: one clear message for a mistake, and a killed command that continues."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from shell import environment
from tiny_run import REPOSITORY

from voxella import __version__
from voxella.cli import main
from voxella.hashing import sha256_file

CCELLA = str(REPOSITORY / "recipes" / "ccella.yaml")
SMOKE = ("--profile", "smoke")


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that has to fail as a user's mistake; return its one message."""
    assert main(words) == 2
    said = capfd.readouterr().err
    assert said.startswith("voxella: ")
    assert said.count("voxella: ") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "required: VERB"),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "required: recipe"),
        (["import", "phantom"], "required: --out"),
        (["train", CCELLA, "--workers", "many"], "invalid int value: 'many'"),
        (["recipe"], "required: VERB"),
    ],
)
def test_words_that_are_no_command(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["prepare", "train-autoencoder", "encode", "train", "run"])
def test_a_recipe_that_is_not_there(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.yaml" in refused(capfd, verb, "nowhere.yaml")


def test_a_misspelt_key_is_named_with_file_and_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {CCELLA}\nname: mine\ntrian: {{steps: 3}}\n")
    said = refused(capfd, "run", str(mine))
    assert f"{mine}:3: trian: unknown key; did you mean train?" in said
    said = refused(capfd, "run", CCELLA, "--set", "train.stepz=3")
    assert "train.stepz: unknown key; did you mean train.steps?" in said


MISTAKES = [
    (["run", CCELLA, "--profile", "smokey"], "smoke"),
    (["import", "phantm", "--out", "/tmp/never"], "phantom"),
    (["import", "phantom", "--out", "/tmp/never", "--set", "casez=3"], "cases"),
    (["import", "table", "/nowhere.csv", "--out", "/tmp/never"], "/nowhere.csv"),
    (["run", CCELLA, *SMOKE, "--dataset", "/nowhere"], "no data set here: /nowhere/manifest.jsonl"),
    (
        ["run", CCELLA, *SMOKE, "--set", "data.importer=null"],
        "names neither data.dataset nor data.importer",
    ),
    (
        ["train", CCELLA, *SMOKE, "--set", "deepspeed.fp16={enabled: true}"],
        "fp16 is not how float16 is trained here",
    ),
    (
        ["train", CCELLA, *SMOKE, "--set", "deepspeed.gradient_accumulation_steps=3"],
        "train_batch_size 2 does not divide among 1 processes",
    ),
    (["train", CCELLA, *SMOKE, "--set", "deepspeed.optimizer={}"], "the recipe's optimizer: block"),
    (["run", CCELLA, *SMOKE, "--set", "sample.sampler=ddpm"], "expected: 1000"),
    (
        ["run", CCELLA, *SMOKE, "--set", "diffusion.steps=10"],
        "still holds 0.96 of the signal at its last step",
    ),
    (["train", CCELLA, *SMOKE, "--stop-after", "0"], "cannot stop after step 0"),
    (["prepare", CCELLA, *SMOKE, "--workers", "-1"], "workers: -1 is below 0"),
]


@pytest.mark.parametrize(("words", "expected"), MISTAKES)
def test_mistakes_end_with_one_message(
    words: list[str], expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = [] if words[0] == "import" else ["--out", str(tmp_path / "run")]
    assert expected in refused(capfd, *words, *out)
    # Whatever is wrong was found before anything that takes long.
    assert not (tmp_path / "run" / "prepared").exists()


@pytest.mark.parametrize("verb", ["encode", "train", "sample", "run"])
def test_missing_weights_are_told_before_any_work(
    verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The paper's recipe without the files that it names, as a new user starts it."""
    said = refused(capfd, verb, CCELLA, "--out", str(tmp_path))
    weights = REPOSITORY / "weights"
    assert f"autoencoder.weights: {weights / 'maisi_autoencoder.pt'} does not exist" in said
    assert f"text.encoder.path: {weights / 'flan-t5-xxl'} does not exist" in said
    assert "--profile demo" in said
    assert list(tmp_path.iterdir()) == []


def test_an_autoencoder_without_weights_is_told_before_any_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    untrained = [*SMOKE, "--set", "autoencoder_training=null", "--set", "autoencoder.weights=null"]
    said = refused(capfd, "run", CCELLA, *untrained, "--out", str(tmp_path))
    assert "has neither weights nor a training block" in said
    assert list(tmp_path.iterdir()) == []
    # Preparing needs none.
    assert main(["prepare", CCELLA, *untrained, "--out", str(tmp_path), "--workers", "1"]) == 0


def test_networks_that_do_not_fit_are_told_before_any_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    misfit = [*SMOKE, "--set", "vectors=[{name: age}]"]
    said = refused(capfd, "run", CCELLA, *misfit, "--out", str(tmp_path))
    assert "unknown: ['age'], provided but not listed: ['class']" in said
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be(
    smoke_workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a file")
    workspace = ["--workspace", str(smoke_workspace)]
    said = refused(capfd, "train", CCELLA, *SMOKE, *workspace, "--out", str(tmp_path / "run"))
    assert str(tmp_path / "run") in said
    assert "another --out" in said


def test_a_folder_name_may_hold_what_yaml_reads_otherwise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study: A #1, 'x'"
    said = refused(capfd, "prepare", CCELLA, *SMOKE, "--dataset", str(folder))
    assert f"{folder}/manifest.jsonl does not exist" in said


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (["--version"], f"voxella {__version__}\n"),
        (["--help"], "train-autoencoder"),
        (["run", "--help"], "--workspace"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out


def test_python_m_voxella_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "voxella", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"voxella {__version__}\n"


def words(workspace: Path, run: Path, *more: str) -> list[str]:
    return [CCELLA, *SMOKE, "--workspace", str(workspace), "--out", str(run), *more]


def weights(run: Path) -> str:
    return sha256_file(run / "model" / "model.safetensors")


@pytest.mark.parametrize("prefix", [[], ["--local_rank=0"]])
def test_a_recipe_alone_is_trained(
    prefix: list[str],
    smoke_workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*prefix, *words(smoke_workspace, tmp_path)]) == 0
    assert (tmp_path / "model" / "config.json").is_file()
    assert not (tmp_path / "samples").exists()
    assert "done: train" in capsys.readouterr().out


# Long enough to be interrupted twice, each time after another checkpoint.
LONG = ("--set", "train.steps=60", "--set", "train.checkpoint_every=5")


@pytest.mark.slow
def test_an_interrupted_command_continues_to_the_same_weights(
    smoke_workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C, then kill -9, then to the end: bit for bit the run that nobody touched."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = ["train", *words(smoke_workspace, broken, *LONG)]
    assert main(["train", *words(smoke_workspace, whole, *LONG)]) == 0

    code, said = interrupted(command, broken, signal.SIGINT, after_step=5)
    assert code == 128 + signal.SIGINT
    assert "voxella: interrupted; the same command continues" in said
    assert "train  interrupted after step" in said

    code, said = interrupted(command, broken, signal.SIGKILL, after_step=newest(broken) + 5)
    assert code == -signal.SIGKILL
    assert "steps, resumed after step" in said
    assert not (broken / "model").exists()

    capfd.readouterr()
    assert main(command) == 0
    assert "steps, resumed after step" in capfd.readouterr().err
    assert weights(broken) == weights(whole)
    logs = [
        [json.loads(line) for line in (run / "train" / "log.jsonl").open()]
        for run in (broken, whole)
    ]
    assert [line["step"] for line in logs[0]] == list(range(1, 61))
    assert [line["loss/total"] for line in logs[0]] == [line["loss/total"] for line in logs[1]]


def newest(run: Path) -> int:
    """Return the step of the newest complete checkpoint, 0 when there is none."""
    done = (run / "checkpoints").glob("step-*/complete.json")
    return max((int(path.parent.name.removeprefix("step-")) for path in done), default=0)


def interrupted(
    command: list[str], run: Path, number: signal.Signals, *, after_step: int
) -> tuple[int, str]:
    """Start a command, send a signal after a checkpoint; return its exit code and its stderr."""
    job = subprocess.Popen(
        [sys.executable, "-m", "voxella", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell's background job ignores Ctrl-C, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while newest(run) < after_step:
            assert job.poll() is None, f"it ended before the signal: {job.communicate()[1]}"
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.01)
        job.send_signal(number)
        said = job.communicate(timeout=60)[1]
    finally:
        job.kill()
    assert "Traceback" not in said
    return job.returncode, said


def test_stop_after_ends_a_run_and_the_same_command_continues(
    smoke_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = smoke_workspace
    assert main(["run", *words(shared, tmp_path / "a", "--stop-after", "1")]) == 0
    assert "training stopped after step 1; without --stop-after" in capsys.readouterr().out
    assert not (tmp_path / "a" / "samples").exists()
    # Asked to stop where it already is: nothing is trained beyond.
    assert main(["run", *words(shared, tmp_path / "a", "--stop-after", "1")]) == 0
    assert [p.name for p in (tmp_path / "a" / "checkpoints").iterdir()] == ["step-00000001"]
    assert main(["run", *words(shared, tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "samples" / "montage.png").is_file()
    assert main(["train", *words(shared, tmp_path / "b", "--stop-after", "99")]) == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
