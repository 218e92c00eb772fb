"""``init`` for the autoencoder, and the licences of what a training starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_convert_parts import LICENCE, maisi_flow, pathldm_file, said, words
from tiny_run import REPOSITORY
from torch import nn

from voxella.autoencoder.load import AutoencoderPlan, build_autoencoder, load_autoencoder
from voxella.cli import main
from voxella.errors import UserError
from voxella.ldm.build import build_model
from voxella.ldm.model_folder.licences import licences_of
from voxella.ldm.read_start import read_start
from voxella.ldm.start import Start, deciding_start
from voxella.plugins.component import Component
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.model import Recipe

BOTH = "init.parts=[backbone, autoencoder]"


def recipe_of(name: str, *overrides: str) -> Recipe:
    return load_recipe(str(REPOSITORY / "recipes" / f"{name}.yaml"), ["smoke"], overrides)


def start(recipe: Recipe) -> Start:
    with torch.device("meta"):
        model = build_model(recipe)
    found = read_start(recipe.init, model)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of MAISI's form, whose source asks for the licence."""
    path = tmp_path_factory.mktemp("maisi") / "flow.pt"
    content = {"unet_state_dict": maisi_flow().state_dict(), "scale_factor": torch.tensor(1.05)}
    torch.save(content, path)
    return path


@pytest.mark.parametrize("trained", [True, False])
def test_the_autoencoder_of_a_whole_checkpoint_is_what_its_training_starts_from(
    trained: bool, tmp_path: Path
) -> None:
    state = pathldm_file(tmp_path / "whole.ckpt")
    named = [f"init.from={tmp_path / 'whole.ckpt'}", "init.source=ldm", BOTH]
    more = [] if trained else ["autoencoder_training=null"]
    recipe = recipe_of("pathldm/pathldm", *named, *more)
    assert recipe.autoencoder.arguments["weights"] == tmp_path / "whole.ckpt"
    plan = AutoencoderPlan.of(recipe)
    assert plan.trained is trained
    # What train-autoencoder builds, and what encode freezes.
    coder: Any = build_autoencoder(plan) if trained else load_autoencoder(plan).model
    assert isinstance(coder, nn.Module)
    codes = coder.get_parameter("quantize.embedding.weight")
    assert torch.equal(codes, state["first_stage_model.quantize.embedding.weight"])
    # Written and read back, it is the same recipe.
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    # The denoiser's part is loaded as ever; the autoencoder's is none of the model's.
    found = start(recipe)
    assert set(found.states) == {"backbone"}
    only = recipe_of("pathldm/pathldm", *named, *more, "init.parts=[autoencoder]")
    assert start(only).names == frozenset()
    assert set(start(only).states) == set()
    # Another network does not take its tensors.
    other = recipe_of("pathldm/pathldm", *named, *more, "autoencoder.codes=32")
    with pytest.raises(UserError, match="embedding"):
        build_autoencoder(AutoencoderPlan.of(other))


def test_a_model_folders_own_autoencoder_is_taken_and_one_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    named = f"init.from={tmp_path / 'model'}"
    recipe = recipe_of("base", named, BOTH)
    inside = tmp_path / "model" / "autoencoder" / "model.safetensors"
    assert recipe.autoencoder.arguments["weights"] == inside
    validate = ["recipe", "validate", str(REPOSITORY / "recipes" / "base.yaml")]
    sets = [word for setting in (named, BOTH) for word in ("--set", setting)]
    assert main([*validate, "--profile", "smoke", *sets]) == 2
    assert "holds no autoencoder: it was not trained there" in said(capsys)[1]
    with pytest.raises(UserError, match=r"autoencoder\.weights names .*other\.pt"):
        recipe_of("base", named, BOTH, "autoencoder.weights=other.pt")
    identity = ["autoencoder=null", "autoencoder={name: identity}", "autoencoder_training=null"]
    with pytest.raises(UserError, match="identity takes no weights"):
        recipe_of("base", named, BOTH, *identity)
    # Trained on and exported, it is whole without the file that its training started from.
    plan = AutoencoderPlan.of(recipe)
    coder: Any = build_autoencoder(AutoencoderPlan.of(recipe_of("base")))
    assert plan.trained
    inside.parent.mkdir()
    save_file({n: t + 1 for n, t in coder.state_dict().items()}, tmp_path / "model.safetensors")
    assert not inside.exists()
    loaded: Any = load_autoencoder(plan, tmp_path).model
    kept = loaded.state_dict()
    assert all(torch.equal(kept[name], t + 1) for name, t in coder.state_dict().items())


def test_a_licence_that_limits_uses_is_asked_for_and_goes_on(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [f"init.from={flow}", "init.source=maisi"]
    told = [f"init.licence={LICENCE}"]
    sets = [word for setting in named for word in ("--set", setting)]
    path = str(REPOSITORY / "recipes" / "maisi" / "flow.yaml")
    assert main(["recipe", "validate", path, "--profile", "smoke", *sets]) == 2
    refused = said(capsys)[1]
    assert "what maisi reads is not free for every use: NVIDIA Non-Commercial" in refused
    assert "--set 'init.licence=" in refused
    with pytest.raises(UserError, match="not free for every use"):
        start(recipe_of("maisi/flow", *named))
    with pytest.raises(UserError, match="not free for every use"):
        start(recipe_of("maisi/flow", *named, "init.licence=' '"))
    recipe = recipe_of("maisi/flow", *named, *told)
    found = start(recipe)
    # Of what was taken: the file has no conditioner.
    assert found.licences == {"backbone": LICENCE}
    assert f"  backbone: licence: {LICENCE}" in found.lines()
    # Its wording decides no weight.
    other = recipe_of("maisi/flow", *named, "init.licence=another")
    assert deciding_start(recipe.init, None) == deciding_start(other.init, None)
    assert "licence" not in json.dumps(deciding_start(recipe.init, None))
    # By way of a converted folder it is the same licence, and need not be named again.
    out = tmp_path / "model"
    assert main([*words("maisi", flow, "maisi/flow", out), "--licence", LICENCE]) == 0
    again = start(recipe_of("maisi/flow", f"init.from={out}"))
    assert again.licences == {"backbone": LICENCE}


def test_weights_that_came_in_tell_the_licence_beside_them(tmp_path: Path) -> None:
    pathldm_file(tmp_path / "whole.ckpt")
    out = tmp_path / "model"
    command = words("ldm", tmp_path / "whole.ckpt", "pathldm/pathldm", out)
    assert main([*command, "--licence", "ask its authors"]) == 0
    coder = Component(name="vq", weights=out / "autoencoder.safetensors")
    encoder = Component(name="clip", path=out / "text_encoder")
    expected = {"autoencoder": "ask its authors", "text_encoder": "ask its authors"}
    assert licences_of({"autoencoder": coder, "text_encoder": encoder}) == expected
    assert load_file(out / "autoencoder.safetensors")
    # Not of another file there, nor of a file of that name that is none of ours.
    other = Component(name="vq", weights=out / "other.safetensors")
    assert licences_of({"autoencoder": other, "backbone": None}) == {}
    for text in ("[]", "{", '{"files": 1, "licences": {"autoencoder": "x"}}'):
        (out / "released.json").write_text(text)
        assert licences_of({"autoencoder": coder}) == {}
