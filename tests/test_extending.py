"""docs/how-to/extending.md is true: each part it shows is one file, and that file is enough."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_bench import Hospital, synthetic
from shell import environment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.sets import probe_for, read_sets
from voxella.evaluation.stage import evaluate
from voxella.metrics.declared.lookup import chosen_metrics, declared_numbers, number_of
from voxella.metrics.declared.measured import NoNumberError
from voxella.metrics.declared.measuring import attempt_all
from voxella.metrics.declared.published import Published
from voxella.metrics.estimate import Estimate
from voxella.plugins.component import Component
from voxella.plugins.registry import build
from voxella.report.numbers import grouped_rows
from voxella.study.load import load_studies
from voxella.testing import run_contract

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "extending.md").read_text()
FILES = {
    name: text
    for name, text in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, flags=re.DOTALL)
}


def add(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, name: str) -> None:
    """Write the page's one file and admit it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(FILES[name])
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("VOXELLA_PLUGINS", f"{kind}:{name}={name}")
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("kind", "name"), [("metrics", "roughness"), ("conditioners", "doubled"), ("probes", "bright")]
)
def test_the_shown_plugins_keep_their_contracts(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, tmp_path, kind, name)
    results = list(run_contract(kind, name))
    assert [r for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 5


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"), train=6, test=2, val=0)


def test_a_metric_is_measured_and_shown_everywhere(
    hospital: Hospital,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(monkeypatch, tmp_path / "code", "metrics", "roughness")
    run = tmp_path / "run"
    synthetic(hospital, run / "samples", hospital.cases("train"))
    recipe = hospital.recipe(
        "evaluate.metrics=[{name: diversity}, {name: roughness}]", "observers=[{name: tensorboard}]"
    )
    evaluate(recipe, run)
    found = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert list(found["metrics"]) == ["ms_ssim", "roughness"]
    # Against the voxels themselves.
    cases = hospital.cases("train")
    steps = [torch.from_numpy(hospital.volume(case)).diff(dim=0).abs().mean() for case in cases]
    floor = found["metrics"]["roughness"]["floor"]["value"]
    assert floor == pytest.approx(float(torch.stack(steps).mean()), rel=1e-5)
    # Nobody asks for features: none are taken.
    assert found["networks"] == []
    assert not (run / "evaluation" / "features" / "random-seed0").exists()
    assert "roughness, grey" in capsys.readouterr().out
    groups = grouped_rows(found["metrics"], Published(None))
    (row,) = next(group.rows for group in groups if group.title == "Texture")
    assert row.label == "Step between voxels, grey"
    study = tmp_path / "study.yaml"
    study.write_text("name: mine\nrecipes: [a.yaml]\ncolumns: [roughness, fid_3d]\n")
    assert load_studies(study).studies[0].columns == ["roughness", "fid_3d"]
    events = EventAccumulator(str(run / "tensorboard" / "evaluate"))
    events.Reload()
    (event,) = events.Tensors("results/text_summary")
    assert "Step between voxels" in event.tensor_proto.string_val[0].decode()
    # Up to date with the same metrics, measured again with others.
    evaluate(recipe, run)
    assert "up to date" in capsys.readouterr().out
    evaluate(hospital.recipe("evaluate.metrics=[{name: diversity}]", "observers=[]"), run)
    assert "up to date" not in capsys.readouterr().out


def test_a_metric_that_is_not_installed_is_shown_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "roughness" not in declared_numbers()
    assert number_of("roughness").label == "roughness"
    add(monkeypatch, tmp_path, "metrics", "roughness")
    assert number_of("roughness").label == "Step between voxels"
    # A broken one disturbs no other where numbers are shown, and is refused where it is measured.
    monkeypatch.setenv("VOXELLA_PLUGINS", "metrics:lost=no_such_module")
    assert "fid_3d" in declared_numbers()
    with pytest.raises(UserError, match="metrics: lost"):
        chosen_metrics(None)


def test_two_metrics_of_one_number_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, tmp_path, "metrics", "roughness")
    text = FILES["roughness"].replace('"roughness", "Step', '"fid_3d", "Step')
    (tmp_path / "roughness.py").write_text(text)
    with pytest.raises(UserError, match="distances and roughness declare the number 'fid_3d'"):
        chosen_metrics(None)


def test_a_refusal_stands_in_place_of_the_numbers_and_other_keys_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, tmp_path, "metrics", "roughness")
    (one,) = chosen_metrics([Component(name="roughness")])

    def refuse(_: object) -> None:
        raise NoNumberError("too dark", remedy="a lamp")

    monkeypatch.setattr(one.metric, "measure", refuse)
    found = attempt_all(one, None, n=3, level=0.9, split="val")
    assert found["roughness"].as_json() == {
        **Estimate.undefined(3, "too dark; a lamp", level=0.9).as_json(),
        "split": "val",
    }
    monkeypatch.setattr(one.metric, "measure", lambda _: {"smoothness": found["roughness"]})
    with pytest.raises(UserError, match="returned smoothness, which it does not declare"):
        attempt_all(one, None, n=3, level=0.9, split="val")


def test_the_gate_needs_the_metric_that_it_goes_by(hospital: Hospital) -> None:
    with pytest.raises(UserError, match="gate needs the metric copies"):
        hospital.recipe("evaluate.metrics=[{name: diversity}]", "evaluate.gate=0.01")


def test_a_conditioner_is_used_by_a_recipe(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, tmp_path, "conditioners", "doubled")
    recipe = hospital.recipe("conditioner={name: doubled}")
    assert recipe.conditioner == Component(name="doubled")
    made: Any = build("conditioners", recipe.conditioner, num_classes=2)
    told = made(timesteps=torch.zeros(1), label=torch.tensor([[0.0, 1.0]]))
    assert told.vectors["class"].tolist() == [[0.0, 2.0]]


def test_a_probe_is_found_by_the_source_of_labels(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, tmp_path / "code", "probes", "bright")
    samples = synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    prepared = Manifest.read(hospital.prepared)
    recipe = hospital.recipe()
    assert probe_for(read_sets(SetSettings.of(recipe), prepared, samples)) is None
    ours = [
        Case.model_validate(case.model_dump() | {"label_source": "bright"}) for case in prepared
    ]
    probe = probe_for(read_sets(SetSettings.of(recipe), Manifest(hospital.prepared, ours), samples))
    assert probe is not None
    assert probe.fingerprint == "bright 1"


SAMPLE = """
import json, torch
from voxella.diffusion.samplers import make_sampler
from voxella.diffusion.sampling import sample
from voxella.diffusion.schedule import make_schedule
from voxella.recipe.load import load_recipe
from voxella.recipe.schema import recipe_schema

recipe = load_recipe({recipe!r}, ["smoke"], ["sample.sampler=half_noisy", "sample.steps=40"])
schedule = make_schedule("scaled_linear", 1000, 0.0015, 0.0195)
# Data of N(0, 0.5^2): the best network is known, and samples have to be of that spread.
def denoise(x, t):
    alpha, sigma = float(schedule.alphas[t]), float(schedule.sigmas[t])
    return sigma * x / ((0.5 * alpha) ** 2 + sigma**2)

dice = torch.Generator().manual_seed(0)
def noise(step=0):
    return torch.randn(4000, 1, 2, 2, generator=dice, dtype=torch.float64)

made = sample(
    make_sampler(recipe.sample.sampler, schedule, recipe.sample.steps),
    denoise, noise(), prediction="epsilon", noise=noise,
)
print(json.dumps({{"std": float(made.std()), "schema": json.dumps(recipe_schema())}}))
"""


def test_a_sampler_is_one_entry_of_one_file(tmp_path: Path) -> None:
    """A copy of the package with the page's lines at the end of samplers.py, and nothing else."""
    shutil.copytree(ROOT / "core" / "voxella", tmp_path / "voxella")
    file = tmp_path / "voxella" / "diffusion" / "samplers.py"
    file.write_text(f"{file.read_text()}\n\n{FILES['samplers']}")
    code = SAMPLE.format(recipe=str(ROOT / "recipes" / "ccella.yaml"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(PYTHONPATH=str(tmp_path)), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["std"] == pytest.approx(0.5, abs=0.03)
    assert "half_noisy" in found["schema"]
