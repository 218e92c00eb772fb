"""load_recipe: every problem at once, paths, cross-checks, round trip, and nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from voxella.errors import UserError
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.model import Recipe

MINI = """\
name: mini
autoencoder: {name: kl}
conditioner: {name: none}
backbone: {name: dit3d, width: 24, heads: 2}
prepare: {size: [16, 16, 8]}
latent: {size: [4, 4, 2]}
train: {steps: 5}
deepspeed: {train_batch_size: 2}
sample: {sampler: ddim, steps: 10}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write one file under the temporary folder and return its path."""

    def file(text: str, name: str = "r.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return file


def failure(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(path, (), overrides)
    return str(caught.value)


def test_a_small_recipe_loads_with_defaults(write: Write) -> None:
    recipe = load_recipe(write(MINI))
    assert recipe.name == "mini"
    assert recipe.backbone.arguments == {"width": 24, "heads": 2}
    assert recipe.optimizer.lr == 1e-4
    assert recipe.text is None


def test_all_problems_come_at_once_with_file_and_line(write: Write) -> None:
    write("optimizer:\n  lr: 1e-4\n  wieght_decay: 0.1\n", "base.yaml")
    path = write(
        "extends: base.yaml\n"
        "autoencoder: {name: kll}\n"
        "conditioner: {name: none, width: 3}\n"
        "backbone:\n  name: dit3d\n  widht: 24\n"
        "train: {epochs: 1, steps: 5}\n"
        "epochs: 4\n"
        "latent: {draw: resampel, scale: exct, channels: '4'}\n"
        "prepare: {percentiles: [0]}\n"
        "sample: 3\n"
    )
    lines = failure(path).splitlines()
    assert lines[0] == f"{path}: 13 problems"
    base = path.parent / "base.yaml"
    expected = {
        f"{path}:1: name: missing",
        f"{path}:1: deepspeed: missing (DeepSpeed's configuration, in its own words)",
        f"{base}:3: optimizer.wieght_decay: unknown key; did you mean optimizer.weight_decay?",
        f"{path}:2: autoencoder.name: no plugin 'kll' among the autoencoders; did you mean 'kl'?; "
        "expected: haar, identity, kl, kl2d, maisi, pca, vq",
        f"{path}:3: conditioner.width: none has no such argument; expected: no arguments",
        f"{path}:6: backbone.widht: dit3d has no such argument; did you mean width?",
        f"{path}:7: train: give exactly one of epochs and steps (null removes an inherited one)",
        f"{path}:8: epochs: unknown key here; expected as train.epochs",
        f"{path}:9: latent.draw: received 'resampel'; expected: 'resample', 'mean' or 'fixed'; "
        "did you mean resample?",
        f"{path}:9: latent.scale: received 'exct'; expected: 'exact' or 'first_batch' or a number; "
        "did you mean exact?",
        f"{path}:9: latent.channels: received '4'; expected: a whole number",
        f"{path}:10: prepare.percentiles.1: missing",
        f"{path}:11: sample: received 3; expected: a block of keys",
    }
    assert {line.strip() for line in lines[1:-1]} == expected
    assert "voxella recipe schema" in lines[-1]


def test_a_profile_or_an_override_is_named_as_the_culprit(write: Write) -> None:
    path = write(MINI.removeprefix("name: mini\n"))
    write("train: {setps: 3}\n", "profiles/p.yaml")
    with pytest.raises(UserError) as caught:
        load_recipe(path, ["p"], ["optimizer.lr=-1", "latent.dtype=float16"])
    message = str(caught.value)
    assert "p.yaml:1: train.setps: unknown key; did you mean train.steps?" in message
    assert f"{path}:1: name: missing" in message
    assert "--set optimizer.lr=-1: optimizer.lr: received -1; expected: greater than 0" in message
    assert (
        "--set latent.dtype=float16: latent.dtype: received 'float16'; expected: 'bfloat16', "
        "'float32' or 'compact'" in message
    )


def test_a_missing_recipe_names_the_nearest(write: Write) -> None:
    path = write(MINI, "ccella.yaml")
    message = failure(path.parent / "cella.yaml")
    assert "there is no file" in message
    assert f"did you mean {path}?" in message


@pytest.mark.parametrize("text", ["- a\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused(write: Write, text: str) -> None:
    assert "r.yaml:1: a recipe is a mapping of keys" in failure(write(text))


# paths


def test_paths_are_relative_to_the_file_that_wrote_them(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("data: {dataset: ../data}\nworkspace: work\n", "lib/base.yaml")
    text = "extends: ../lib/base.yaml\n" + MINI.replace("{name: kl}", "{name: kl, weights: kl.pt}")
    path = write(text, "mine/r.yaml")
    profile = write("workspace: ../cache\n", "lib/profiles/p.yaml")
    root = path.parent.parent
    (root / "here").mkdir()
    monkeypatch.chdir(root / "here")

    recipe = load_recipe("../mine/r.yaml")
    assert recipe.data.dataset == root / "data"
    assert recipe.workspace == root / "lib" / "work"
    assert recipe.autoencoder.arguments == {"weights": root / "mine" / "kl.pt"}

    recipe = load_recipe(path, [str(profile)], ["data.dataset=d", "autoencoder.weights=/abs/w.pt"])
    assert recipe.workspace == root / "lib" / "cache"
    assert recipe.data.dataset == root / "here" / "d"
    assert recipe.autoencoder.arguments == {"weights": Path("/abs/w.pt")}


def test_a_tilde_is_the_home_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    recipe = load_recipe(write(MINI), (), ["workspace=~/cache"])
    assert recipe.workspace == Path("/home/someone/cache")


# checks across blocks


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ["sample.sampler=euler"],
            "--set sample.sampler=euler: sample.sampler: euler does not go with schedule "
            "scaled_linear; expected: ddpm, ddim, ddim_leading, dpmpp_2m",
        ),
        (
            ["diffusion.schedule=rectified_flow", "diffusion.prediction=flow"],
            "r.yaml:9: sample.sampler: ddim does not go with schedule rectified_flow; "
            "expected: dpmpp_2m, euler",
        ),
        (
            ["sample.sampler=ddpm", "sample.steps=999"],
            "--set sample.steps=999: sample.steps: received 999: ddpm takes all 1000 steps",
        ),
        (["sample.steps=1001"], "sample.steps: received 1001; the schedule has 1000 timesteps"),
        (
            [
                "diffusion={schedule: rectified_flow, prediction: flow}",
                "sample.sampler=dpmpp_2m",
                "sample.steps=1001",
            ],
            "sample.steps: received 1001; the schedule has 1000 timesteps",
        ),
        (
            ["sample.sampler=ddpm", "sample.steps=1000", "sample.sweep={steps: [1000, 50]}"],
            "sample.sweep.steps: received 50: ddpm takes all 1000 steps",
        ),
        (
            ["train.panel_every=5", "train.panel_steps=1001"],
            "train.panel_steps: received 1001; the schedule has 1000 timesteps",
        ),
        (
            ["sample.sampler=plms"],
            "received 'plms'; expected: ddpm, ddim, ddim_leading, dpmpp_2m, euler",
        ),
        (
            ["diffusion.schedule=rectified_flow"],
            "diffusion: schedule rectified_flow and prediction flow belong together",
        ),
        (["latent.size=[4, 4]"], "latent.size: has 2 axes, prepare.size has 3"),
        (["prepare.crop_mm=[8, 8]"], "prepare.crop_mm: has 2 axes, prepare.size has 3"),
        (
            ["latent.size=[4, 4, 4]"],
            "latent.size: received [4, 4, 4]: prepare.size [16, 16, 8] must",
        ),
        (["latent.size=[3, 3, 3]", "prepare.size=[8, 8, 8]"], "one whole multiple of it"),
        (
            ["prepare.percentiles=[99, 1]"],
            "prepare.percentiles: received 99.0, 1.0; expected: 0 <= low",
        ),
        (
            ["diffusion.beta_start=0.5"],
            "diffusion.beta_start: received 0.5; expected: below beta_end",
        ),
        (["dropout={text: 0.5, label: 0.4, both: 0.2}"], "dropout: the three shares add up to 1.1"),
        (["vectors=[{name: a}, {name: a}]"], "vectors: a vector is duplicated"),
    ],
)
def test_blocks_that_contradict_each_other_are_refused(
    write: Write, sets: list[str], message: str
) -> None:
    assert message in failure(write(MINI), *sets)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "key",
    [
        *("optimizer.lr", "sample.guidance", "latent.scale", "train.ema_decay", "loss.focal_gamma"),
        *("prepare.crop_mm.0", "autoencoder_check.psnr_db", "evaluate.size_tolerance_mm"),
        *("prepare.intensity.adc.window", "vectors.0.scale", "sample.sweep.guidance"),
    ],
)
def test_no_setting_is_endless_or_no_number(write: Write, key: str, value: str) -> None:
    path = write(MINI + "vectors: [{name: spacing}]\n")
    given = f"[0, {value}]" if key.endswith("window") else value
    given = f"[{value}]" if key.endswith("sweep.guidance") else given
    assert key.split(".")[0] in failure(path, f"{key}={given}")


@pytest.mark.parametrize(
    "sets",
    [
        ["sample.sampler=ddpm", "sample.steps=1000"],
        ["sample.sampler=ddpm", "sample.steps=50", "diffusion.steps=50"],
        ["sample.sampler=dpmpp_2m", "sample.steps=20"],
        ["diffusion={schedule: rectified_flow, prediction: flow}", "sample.sampler=euler"],
        ["diffusion={schedule: rectified_flow, prediction: flow}", "sample.sampler=dpmpp_2m"],
    ],
)
def test_every_sampler_has_its_allowed_schedule(write: Write, sets: list[str]) -> None:
    assert load_recipe(write(MINI), (), sets).name == "mini"


# writing


def test_a_dumped_recipe_loads_equal_from_anywhere(write: Write, tmp_path: Path) -> None:
    text = MINI.replace("{name: kl}", "{name: kl, weights: kl.pt, channels: [8, 16, 16]}")
    original = load_recipe(
        write(text),
        (),
        [
            "workspace=work",
            "text={encoder: {name: t5, path: t5-folder}, width: 32}",
            "optimizer.lr=3e-5",
            "description='no'",
            "deepspeed.comment='1e-4'",
            "observers=[{name: progress}]",
            "vectors=[{name: class, scale: 100}]",
        ],
    )
    again = load_recipe(write(dump_recipe(original), "elsewhere/run/recipe.yaml"))
    assert again == original
    assert again.autoencoder.arguments["weights"] == tmp_path / "kl.pt"
    assert again.description == "no"
    assert again.deepspeed["comment"] == "1e-4"
    assert dump_recipe(again) == dump_recipe(original)


# lightness


def test_loading_imports_neither_torch_nor_monai_and_is_quick(write: Write) -> None:
    script = (
        "import sys, time\n"
        "start = time.process_time()\n"
        "from voxella.recipe.load import load_recipe\n"
        f"load_recipe({str(write(MINI))!r})\n"
        "heavy = {'torch', 'monai', 'numpy', 'transformers'} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time() - start < 2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    # 0.2 s of CPU on an idle core; the bound leaves room for a busy machine.
    assert done.stdout.strip() == "[] True"


def test_the_result_is_frozen(write: Write) -> None:
    recipe = load_recipe(write(MINI))
    assert isinstance(recipe, Recipe)
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc] # the point of the test


def test_a_key_below_a_name_of_the_users_own(write: Write) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(MINI), overrides=["prepare.intensity.dwi.windw=[0, 1]"])
    assert "did you mean prepare.intensity.dwi.window?" in str(caught.value)
