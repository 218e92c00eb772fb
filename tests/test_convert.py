"""``voxella convert ccella``: the model folder predicts what the released modules do.

The truth is MONAI's own U-Net, with the layer that the released code adds for the class, and the
adapter as `test_conditioners_released` evaluates it from the released names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from small_monai import awake, monai_unet
from test_conditioners_released import TEXT, WIDTH, _expected_logits, _outputs, _released
from tiny_run import REPOSITORY
from torch import Tensor, nn

from voxella.cli import main
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import load_facts, load_model
from voxella.sampling.generator import Generator

ADAPTER = {
    "ellabase": "ella",
    "decoupled": "ella",
    "l1only": "ccella",
    "ccella": "ccella",
    "shared": "shared",
    "first": "first",
    "last": "last",
}
VARIANTS = ["base", "radbase", *ADAPTER]
SCALE = 0.875
State = dict[str, Tensor]


def released_unet(variant: str) -> DiffusionModelUNetMaisi:
    """MONAI's class; the class layer takes the place of the layer of the top region."""
    with_class, text = variant not in ("base", "ellabase"), variant in ADAPTER
    module = monai_unet(
        4,
        head_channels=8,
        groups=8,
        text_width=WIDTH if text else None,
        include_top_region_index_input=with_class,
    )
    if with_class:
        module.top_region_index_layer = awake(module._create_embedding_module(2, 32))
    return module.requires_grad_(requires_grad=False)


def released_state(variant: str, unet: nn.Module) -> State:
    own = {
        name.replace("top_region_index_layer", "pirads_layer"): tensor
        for name, tensor in unet.state_dict().items()
    }
    if variant not in ADAPTER:
        return own
    adapter = _released(ADAPTER[variant])
    del adapter["unet.conv_in.conv.weight"]
    return adapter | {f"unet.{name}": tensor for name, tensor in own.items()}


def arguments(variant: str, path: Path, out: Path, *more: str) -> list[str]:
    sizes = ["width=8", "queries=3", "blocks=6", "heads=2"]
    if ADAPTER.get(variant) not in (None, "ella"):
        sizes.append("head_hidden=4")
    given = [f"conditioner.{size}" for size in sizes] if variant in ADAPTER else []
    given += [f"text.width={TEXT}"] if variant in ADAPTER else []
    words = ["convert", "ccella", str(path), "--profile", "smoke", "--out", str(out)]
    words += ["--recipe", str(REPOSITORY / "recipes" / f"{variant}.yaml")]
    for setting in given:
        words += ["--set", setting]
    return [*words, *more]


def convert(variant: str, content: dict[str, Any], folder: Path, *more: str) -> LatentDiffusion:
    torch.save(content, folder / "released.pt")
    assert main(arguments(variant, folder / "released.pt", folder / "model", *more)) == 0
    return load_model(folder / "model")


def both(
    variant: str, unet: DiffusionModelUNetMaisi, state: State, model: LatentDiffusion
) -> tuple[list[Tensor], list[Tensor]]:
    """Return noise, and logits where there are some, of ours and of the released modules."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 4, 4, 4, 4, generator=generator)
    steps, label = torch.tensor([3, 640]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    spacing = torch.tensor([[0.5, 0.5, 0.75], [0.5, 0.5, 1.5]])
    text = torch.randn(2, 7, TEXT, generator=generator)
    with torch.no_grad():
        told = model.condition(
            timesteps=steps,
            text_features=text if variant in ADAPTER else None,
            label=label,
            spacing_mm=spacing,
        )
        ours = [model.predict(x, steps, told)]
        vector, context, logits = label, None, None
        if variant in ADAPTER:
            outputs = _outputs(state, steps, text)
            context = outputs[-1]
            if ADAPTER[variant] != "ella":
                logits = _expected_logits(state, ADAPTER[variant], outputs)
                vector = logits.softmax(dim=1)
        without = variant in ("base", "ellabase")
        region = {} if without else {"top_region_index_tensor": 100 * vector}
        theirs = [unet(x, steps, context, spacing_tensor=100 * spacing, **region)]
        if logits is not None:
            assert told.class_logits is not None
            ours, theirs = [*ours, told.class_logits], [*theirs, logits]
    return ours, theirs


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_converted_model_predicts_what_the_released_one_does(
    variant: str, tmp_path: Path
) -> None:
    unet = released_unet(variant)
    state = released_state(variant, unet)
    content = {"unet_state_dict": state, "scale_factor": torch.tensor(SCALE), "epoch": 400}
    model = convert(variant, content, tmp_path)
    ours, theirs = both(variant, unet, state, model)
    assert theirs[0].std() > 0.01
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
    assert model.latent_scale == SCALE


def test_prefix_half_precision_and_trainers_entries_change_nothing(tmp_path: Path) -> None:
    unet = released_unet("ccella").half()
    state = {name: t.half() for name, t in released_state("ccella", unet).items()}
    content = {
        "epoch": 400,
        "loss": torch.tensor(0.1),
        "num_train_timesteps": 1000,
        "scale_factor": torch.tensor([SCALE]),
        "optimizer_state_dict": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}},
        "unet_state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
    }
    model = convert("ccella", content, tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    floats = {name: tensor.float() for name, tensor in state.items()}
    ours, theirs = both("ccella", unet.float(), floats, model)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_the_folder_says_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state("ccella", released_unet("ccella"))
    torch.save(torch.ones(4, TEXT), tmp_path / "empty.pt")
    more = ["--null-text", str(tmp_path / "empty.pt"), "--licence", "research only"]
    model = convert("ccella", {"unet_state_dict": state, "scale_factor": SCALE}, tmp_path, *more)
    facts = load_facts(tmp_path / "model")
    assert facts.origin["source"] == "ccella"
    assert facts.origin["file"] == "released.pt"
    assert len(facts.origin["sha256"]) == 64
    assert facts.licences == {"backbone": "research only", "conditioner": "research only"}
    assert facts.vectors == ["class", "spacing"]
    assert model.null_text is not None
    assert torch.equal(model.null_text, torch.ones(1, 4, TEXT))
    said = " ".join(capsys.readouterr().out.split())
    assert f"backbone: {len(model.backbone.state_dict())} tensors matched, 0 missing" in said


def test_without_the_empty_reports_features_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state("last", released_unet("last"))
    model = convert("last", {"unet_state_dict": state, "scale_factor": SCALE}, tmp_path)
    assert model.null_text is None
    assert "no features of the empty report" in " ".join(capsys.readouterr().out.split())


def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state("base", released_unet("base"))
    state["pirads_layer.0.weight"] = torch.ones(3)
    state["conv_in.conv.bias"] = torch.ones(9)
    del state["out.0.weight"]
    torch.save({"unet_state_dict": state, "scale_factor": 1.0}, tmp_path / "a.pt")
    assert main(arguments("base", tmp_path / "a.pt", tmp_path / "model")) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "does not fit the networks of recipe base" in said
    assert "1 missing: out.0.weight" in said
    assert "1 unknown: class_layer.0.weight" in said
    assert "1 of another shape: conv_in.conv.bias (9,) instead of (8,)" in said
    assert not (tmp_path / "model" / "config.json").exists()


def test_a_scale_that_nobody_knows_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state("base", released_unet("base"))
    torch.save(state, tmp_path / "a.pt")
    words = arguments("base", tmp_path / "a.pt", tmp_path / "model")
    assert main(words) == 2
    assert "--latent-scale NUMBER" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--latent-scale", "0.5,1,1"]) == 2
    assert "3 numbers, and the recipe's latents have 4 channels" in " ".join(
        capsys.readouterr().err.split()
    )
    assert main([*words, "--latent-scale", "0.5"]) == 0
    assert load_model(tmp_path / "model").latent_scale == 0.5


def test_a_model_without_text_takes_no_empty_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state("base", released_unet("base"))
    torch.save({"unet_state_dict": state, "scale_factor": 1.0}, tmp_path / "a.pt")
    torch.save(torch.ones(4, TEXT), tmp_path / "empty.pt")
    words = arguments("base", tmp_path / "a.pt", tmp_path / "model")
    assert main([*words, "--null-text", str(tmp_path / "empty.pt")]) == 2
    assert "reads no reports" in capsys.readouterr().err


def test_the_empty_reports_features_have_to_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = released_state("ccella", released_unet("ccella"))
    torch.save({"unet_state_dict": state, "scale_factor": 1.0}, tmp_path / "a.pt")
    torch.save(torch.ones(4, TEXT + 1), tmp_path / "empty.pt")
    words = arguments("ccella", tmp_path / "a.pt", tmp_path / "model")
    assert main([*words, "--null-text", str(tmp_path / "empty.pt")]) == 2
    assert f"(L, {TEXT}) or (1, L, {TEXT})" in capsys.readouterr().err


def test_volumes_are_made_of_a_converted_model(tmp_path: Path) -> None:
    from voxella.autoencoder.load import AutoencoderPlan, build_autoencoder
    from voxella.recipe.load import load_recipe

    recipe = load_recipe(REPOSITORY / "recipes" / "base.yaml", ["smoke"])
    coder = build_autoencoder(AutoencoderPlan.of(recipe))
    assert isinstance(coder, nn.Module)
    torch.save(coder.state_dict(), tmp_path / "autoencoder.pt")
    state = released_state("base", released_unet("base"))
    content = {"unet_state_dict": state, "scale_factor": SCALE}
    more = ["--set", "autoencoder_training=null"]
    more += ["--set", f"autoencoder.weights={tmp_path / 'autoencoder.pt'}"]
    convert("base", content, tmp_path, *more)
    facts = json.loads((tmp_path / "model" / "config.json").read_text())
    assert len(facts["autoencoder_fingerprint"]) == 64
    (image,) = Generator.open(tmp_path / "model", device="cpu").generate(
        spacing_mm=(8.0, 8.0, 6.0), steps=2, seed=1
    )
    assert image.array.shape == (1, 16, 16, 16)
