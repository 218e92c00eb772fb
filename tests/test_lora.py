"""Low-rank adapters: the model at the start, a few numbers trained, merged or kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_init import meta_start, trained_state
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor

from voxella.check.training import check_model
from voxella.errors import UserError
from voxella.ldm.adapters import add_adapters, merged
from voxella.ldm.build import LatentDiffusion, build_model
from voxella.ldm.export import load_model
from voxella.ldm.read_start import with_base
from voxella.ldm.start import begin
from voxella.ldm.train import train
from voxella.recipe.model import Lora

pytest.importorskip("peft", reason="the extra lora (peft) is not installed")


def predict(model: LatentDiffusion) -> Tensor:
    g = torch.Generator().manual_seed(2)
    times = torch.tensor([10, 700])
    told = model.condition(timesteps=times, spacing_mm=torch.rand(2, 3, generator=g))
    with torch.no_grad():
        return model.predict(torch.randn(2, 4, 4, 4, 4, generator=g), times, told)


@pytest.fixture(scope="module")
def base_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "base.safetensors"
    save_file(trained_state(tiny_recipe(name="base")), path)
    return path


def adapted_model(base_file: Path, lora: Lora) -> tuple[LatentDiffusion, LatentDiffusion]:
    recipe = tiny_recipe(name="base")
    models = [build_model(recipe).eval() for _ in range(2)]
    for model in models:
        model.load_state_dict(load_file(base_file))
    add_adapters(models[1].get_submodule("backbone"), lora, seed=7)
    return models[0], models[1].eval()


def test_the_adapted_model_starts_as_the_model_and_merges_into_what_it_predicts(
    base_file: Path,
) -> None:
    lora = Lora(rank=2, alpha=5.0)
    plain, adapted = adapted_model(base_file, lora)
    assert torch.equal(predict(plain), predict(adapted))
    trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_A." in n or ".lora_B." in n for n in trained)
    g = torch.Generator().manual_seed(3)
    for parameter in trained.values():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=g)
    assert (predict(plain) - predict(adapted)).abs().max() > 1e-3
    whole = build_model(tiny_recipe(name="base")).eval()
    whole.load_state_dict(merged(adapted.state_dict(), lora))
    torch.testing.assert_close(predict(whole), predict(adapted), atol=1e-5, rtol=0)


def test_adapters_do_not_depend_on_what_is_drawn_elsewhere(base_file: Path) -> None:
    torch.manual_seed(1)
    _, first = adapted_model(base_file, Lora(rank=2))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    _, second = adapted_model(base_file, Lora(rank=2))
    assert torch.equal(before, torch.random.get_rng_state())
    for (name, one), two in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_targets_are_named_or_refused(base_file: Path) -> None:
    _, adapted = adapted_model(base_file, Lora(rank=2, targets=["to_q"]))
    layers = {n.split(".lora_")[0] for n, _ in adapted.named_parameters() if ".lora_" in n}
    assert layers
    assert all(layer.endswith(".to_q") for layer in layers)
    # Adapters are put on a network without memory as well: before anything is prepared.
    check_model(tiny_recipe(f"init.from={base_file}", "lora.rank=2", name="base"))
    with pytest.raises(UserError, match=r"lora\.targets\[1\]: 'to_x' .*\n.*to_"):
        adapted_model(base_file, Lora(rank=2, targets=["to_q", "to_x"]))


def test_adapters_without_trained_weights_are_refused() -> None:
    with pytest.raises(UserError, match="adapters are of a trained backbone"):
        tiny_recipe("lora.rank=2", name="base")


def test_new_attention_is_trained_whole_beside_the_adapters(base_file: Path) -> None:
    recipe = tiny_recipe(
        f"init.from={base_file}",
        "init.missing=new",
        "backbone.cross_attention=added",
        "vectors=[{name: spacing, scale: 100}, {name: class, scale: 100}]",
        "lora.rank=2",
    )
    start = meta_start(recipe)
    assert start is not None
    model = build_model(recipe)
    begin(model, start, recipe.init, recipe.lora, seed=1, loads=True)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in start.new if n.startswith("backbone.")} <= trained
    assert {n for n, _ in model.named_parameters() if n.startswith("conditioner.")} <= trained
    assert not any(".added." in n and ".lora_" in n for n in trained)
    assert "backbone.conv_in.conv.weight" not in trained
    assert "backbone.middle_block.attention.attn.to_q.base_layer.weight" not in trained
    assert "backbone.middle_block.attention.attn.to_q.lora_A.default.weight" in trained


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2])
def test_a_training_of_adapters_alone_is_exported_merged_and_apart(
    stage: int, base_file: Path, tmp_path: Path
) -> None:
    more = (
        *(f"init.from={base_file}", "lora.rank=2", "lora.alpha=8", "optimizer.lr=0.01"),
        *(f"deepspeed.zero_optimization.stage={stage}", "train.steps=3", "optimizer.decay_power=0"),
    )
    found = {}
    for export in ("merged", "apart"):
        recipe = tiny_recipe(*more, f"lora.export={export}", name="base")
        encoded_run(recipe, tmp_path / export)
        found[export] = train(recipe, tmp_path / export)
    whole, apart = (folder for folder in found.values() if folder is not None)
    before, after = load_file(base_file), load_file(whole / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved
    assert all(".attn.to_" in n and n.endswith(".weight") for n in moved), moved
    small = load_file(apart / "model.safetensors")
    assert all(".lora_" in name for name in small)
    assert sum(t.numel() for t in small.values()) < sum(t.numel() for t in before.values()) / 10
    torch.testing.assert_close(
        predict(load_model(apart)), predict(load_model(whole)), atol=1e-6, rtol=0
    )
    assert "base_sha256" not in json.loads((whole / "config.json").read_text())


def test_adapters_kept_apart_ask_for_the_weights_that_they_belong_to(
    base_file: Path, tmp_path: Path
) -> None:
    lora = Lora(rank=2, export="apart")
    recipe = tiny_recipe(f"init.from={base_file}", "lora.rank=2", "lora.export=apart", name="base")
    model = build_model(recipe)
    with pytest.raises(UserError, match="are others now"):
        with_base(model, recipe.init, lora, {}, "0" * 64)
    with pytest.raises(UserError, match="are not named"):
        with_base(model, None, lora, {}, "0" * 64)
