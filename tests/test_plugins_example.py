"""The example distribution, installed as third parties do: found, held to the contract, trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from shell import environment

EXAMPLE = Path(__file__).parents[1] / "examples" / "voxella-report-pool"
RECIPE = EXAMPLE / "recipes" / "report_pool.yaml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the example into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    options = [
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(EXAMPLE)], check=True)
    return target


def voxella(site: Path, *words: str, module: str = "voxella") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(
        command, env=environment(PYTHONPATH=str(site)), capture_output=True, text=True, timeout=300
    )


def test_wheel_holds_one_module(site: Path) -> None:
    modules = {path.name for path in site.iterdir() if path.suffix == ".py"}
    assert modules == {"voxella_report_pool.py"}


def test_it_is_listed_with_its_distribution(site: Path) -> None:
    listed = json.loads(voxella(site, "plugins", "--json").stdout)
    assert {
        "kind": "conditioners",
        "name": "report_pool",
        "distribution": "voxella-report-pool",
        "version": "0.1.0",
        "target": "voxella_report_pool",
    } in listed


def test_check_from_the_shell(site: Path) -> None:
    done = voxella(site, "plugins", "check", "report_pool")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 passed, 0 failed, 0 skipped" in done.stdout


def test_its_own_three_line_test_passes(site: Path) -> None:
    done = voxella(site, str(EXAMPLE / "tests"), "-q", "-p", "no:cacheprovider", module="pytest")
    assert done.returncode == 0, done.stdout
    assert "15 passed" in done.stdout


def test_without_it_the_recipe_is_refused_in_words(tmp_path: Path) -> None:
    done = voxella(tmp_path, "recipe", "validate", str(RECIPE))
    assert done.returncode == 2
    assert "report_pool" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_trains_and_samples(site: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = voxella(site, "run", str(RECIPE), "--profile", "smoke", "--out", str(run))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    exported = (run / "model" / "recipe.yaml").read_text()
    assert "name: report_pool" in exported
    assert list((run / "samples").rglob("*.nii.gz"))
