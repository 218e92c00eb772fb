"""``voxella plugins``: the list, the check, and what they say to a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from voxella.cli import main


@pytest.fixture
def faulty_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("VOXELLA_PLUGINS", "classifiers:faulty=plugins_faulty:classifier")


def test_table_names_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["kind", "name", "distribution", "version", "target"]
    rows = {tuple(line.split()) for line in table[1:]}
    assert ("backbones", "maisi_unet", "voxella", "0.1.0", "voxella_backbones.plugin") in rows


def test_json_is_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"kind", "name", "distribution", "version", "target"} == set(listed[0])
    assert "tensorboard" in {plugin["name"] for plugin in listed if plugin["kind"] == "observers"}


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from voxella.cli import main; code = main(['plugins']); "
        "heavy = {'torch', 'monai', 'numpy', 'deepspeed', 'pydantic'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("faulty_plugin")
def test_check_exits_with_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "faulty", "--set", "fault=none"]) == 0
    assert "9 passed, 0 failed, 0 skipped" in capsys.readouterr().out
    assert main(["plugins", "check", "faulty", "--set", "fault=classes"]) == 1
    told = capsys.readouterr().out
    assert "failed  one logit per class" in told
    assert "not (2, 3)" in told


@pytest.mark.usefixtures("faulty_plugin")
def test_check_asks_for_what_the_builder_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "faulty"]) == 1
    assert "argument 'fault' is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nobody"], ["no plugin 'nobody' of any kind", "maisi_unet", "voxella plugins"]),
        (["maisi", "--kind", "backbones"], ["no plugin 'maisi' among the backbones"]),
        (["cnn", "--set", "channels"], ["--set 'channels' is not KEY=VALUE"]),
        (["cnn", "--set", "channels=[1"], ["the value is not YAML"]),
    ],
)
def test_check_teaches(
    words: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "check", *words]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in told), message


def test_a_name_of_two_kinds_asks_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOXELLA_PLUGINS", "classifiers:maisi=anything")
    assert main(["plugins", "check", "maisi"]) == 2
    message = capsys.readouterr().err
    assert "autoencoders, classifiers" in message
    assert "voxella plugins check maisi --kind autoencoders" in message
