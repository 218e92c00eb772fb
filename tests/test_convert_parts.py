"""``voxella convert`` of other releases: licences, all parts in one file, single parts."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from released_keys import first_stage_shapes, random_state, unet_shapes
from safetensors.torch import load_file
from small_monai import monai_unet
from test_convert import arguments, released_state, released_unet
from tiny_run import REPOSITORY
from torch import nn

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.cli import main
from voxella.ldm.export import load_facts, load_model
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.recipe.load import load_recipe
from voxella_classifiers.resnet import resnet

LICENCE = "NVIDIA Non-Commercial License"


def words(source: str, file: Path, recipe: str, out: Path, *more: str) -> list[str]:
    path = str(REPOSITORY / "recipes" / f"{recipe}.yaml")
    named = ["convert", source, str(file), "--recipe", path, "--profile", "smoke"]
    return [*named, "--out", str(out), *more]


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return " ".join(captured.out.split()), " ".join(captured.err.split())


def maisi_flow() -> DiffusionModelUNetMaisi:
    flags = {"resblock_updown": True, "include_fc": True}
    return monai_unet(4, head_channels=8, groups=8, num_class_embeds=128, **flags)


def test_a_licence_that_limits_uses_is_named_once_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = maisi_flow()
    content = {"unet_state_dict": theirs.state_dict(), "scale_factor": torch.tensor(1.05)}
    torch.save(content, tmp_path / "flow.pt")
    command = words("maisi", tmp_path / "flow.pt", "maisi/flow", tmp_path / "model")
    assert main(command) == 2
    _, refused = said(capsys)
    assert "not free for every use: NVIDIA Non-Commercial License for NV-Generate-MR" in refused
    assert '--licence "' in refused
    assert not (tmp_path / "model" / "config.json").exists()
    assert main([*command, "--licence", LICENCE]) == 0
    told, _ = said(capsys)
    assert "table of 128 modalities" in told
    facts = load_facts(tmp_path / "model")
    assert facts.licences == {"backbone": LICENCE}
    assert facts.vectors == ["modality", "spacing"]


def test_a_flow_of_maisi_predicts_its_velocity(tmp_path: Path) -> None:
    theirs = maisi_flow()
    content = {"unet_state_dict": theirs.state_dict(), "scale_factor": torch.tensor(1.05)}
    torch.save(content, tmp_path / "flow.pt")
    command = words("maisi", tmp_path / "flow.pt", "maisi/flow", tmp_path / "model")
    assert main([*command, "--licence", LICENCE]) == 0
    model = load_model(tmp_path / "model")
    x, steps = torch.randn(2, 4, 4, 4, 4), torch.tensor([99, 999])
    spacing = torch.tensor([[0.5, 0.5, 3.0], [0.7, 0.7, 1.0]])
    with torch.no_grad():
        told = model.condition(
            timesteps=steps,
            spacing_mm=spacing,
            # mri_t2, the fourth word; of the second it is not known
            conditions={"modality": torch.tensor([[0.0, 0, 0, 1, 0], [0.0] * 5])},
        )
        made = model.predict(x, steps, told)
        expected = -theirs(
            x, steps + 1, spacing_tensor=100 * spacing, class_labels=torch.tensor([10, 0])
        )
    assert expected.std() > 0.01
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


def pathldm_file(path: Path) -> dict[str, Any]:
    unet = random_state(unet_shapes([8, 16], [False, True], res_blocks=1, context=384, latents=4))
    stage = random_state(
        first_stage_shapes([8, 16, 16], [False] * 3, res_blocks=2, latents=4, codes=16), 1
    )
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()}
    state |= {f"first_stage_model.{name}": tensor for name, tensor in stage.items()}
    state["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"] = torch.ones(
        2
    )
    torch.save({"state_dict": state, "global_step": 88760, "epoch": 4}, path)
    return state


def test_all_parts_of_pathldms_file_come_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = pathldm_file(tmp_path / "pathldm.ckpt")
    out = tmp_path / "model"
    assert main(words("ldm", tmp_path / "pathldm.ckpt", "pathldm/pathldm", out)) == 0
    told, _ = said(capsys)
    assert "autoencoder.weights=" in told
    assert f"text.encoder.path={out / 'text_encoder'}" in told
    facts = load_facts(out)
    assert (facts.step, facts.latent_scale) == (88760, 1.0)
    model = load_model(out)
    head = model.backbone.get_parameter("unet.conv_out.weight")
    assert torch.equal(head, state["model.diffusion_model.out.2.weight"])
    # The folder's own recipe names the autoencoder that came with it.
    coder = load_autoencoder(AutoencoderPlan.of(load_recipe(out / "recipe.yaml")))
    assert coder.fingerprint == facts.autoencoder_fingerprint
    assert isinstance(coder.model, nn.Module)
    codes = coder.model.get_parameter("quantize.embedding.weight")
    assert torch.equal(codes, state["first_stage_model.quantize.embedding.weight"])
    text = load_file(out / "text_encoder" / "model.safetensors")
    assert list(text) == ["text_model.embeddings.token_embedding.weight"]
    released = json.loads((out / "released.json").read_text())
    assert released["source"] == "ldm"
    assert set(released["files"]) == {
        "autoencoder.safetensors",
        "text_encoder/model.safetensors",
    }


def test_an_autoencoder_alone_becomes_weights(tmp_path: Path) -> None:
    shapes = first_stage_shapes([8, 16, 16], [False] * 3, res_blocks=2, latents=4, codes=16)
    torch.save({"state_dict": random_state(shapes)}, tmp_path / "vq.ckpt")
    out = tmp_path / "out"
    assert main(words("ldm", tmp_path / "vq.ckpt", "pathldm/pathldm", out)) == 0
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "autoencoder.safetensors",
        "released.json",
    ]
    wrong = ["--set", "autoencoder.codes=32"]
    assert main(words("ldm", tmp_path / "vq.ckpt", "pathldm/pathldm", tmp_path / "b", *wrong)) == 2


def test_a_classifiers_last_layer_may_be_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole: Any = resnet(3, 1, 1000, 18, [2, 2, 4, 4])
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    block = "{name: resnet, depth: 18, widths: [2, 2, 4, 4]}"
    sets = ["--set", "classify.classifier=null", "--set", f"classify.classifier={block}"]
    command = words("torchvision", tmp_path / "resnet18.pth", "downstream/real", tmp_path / "c")
    assert main([*command, *sets]) == 2
    _, refused = said(capsys)
    assert "fc.weight (1000, 4) instead of (2, 4)" in refused
    assert "--new 'fc.*'" in refused
    assert main([*command, *sets, "--new", "fc.*"]) == 0
    made: Any = registry.build(
        "classifiers",
        Component(
            name="resnet",
            depth=18,
            widths=[2, 2, 4, 4],
            weights=tmp_path / "c" / "classifier.safetensors",
        ),
        spatial_dims=3,
        in_channels=1,
        num_classes=2,
    )
    assert torch.equal(made.conv1.weight, whole.conv1.weight)


def test_a_source_nobody_has_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("ccela", tmp_path / "a.pt", "base", tmp_path / "b")) == 2
    assert "did you mean 'ccella'?" in said(capsys)[1]


def test_the_guides_commands_run_on_small_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "released-models.md").read_text()
    (fence,) = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    adapter = released_state("shared", released_unet("shared"))
    torch.save({"unet_state_dict": adapter, "scale_factor": 0.9}, "released.pt")
    flow = {"unet_state_dict": maisi_flow().state_dict(), "scale_factor": torch.tensor(1.05)}
    torch.save(flow, "diff_unet_3d_rflow-mr.pt")
    pathldm_file(tmp_path / "pathldm.ckpt")
    sizes = arguments("shared", Path(), Path())
    of_adapter = sizes[sizes.index("--set") :]
    lines = [shlex.split(line) for line in fence.splitlines()]
    assert [words[2] for words in lines] == ["ccella", "maisi", "ldm"]
    for _, *command in lines:
        more = of_adapter if command[1] == "ccella" else []
        assert main([*command, "--profile", "smoke", *more]) == 0
    for name in ("shared", "maisi", "pathldm"):
        assert load_model(tmp_path / "models" / name).latent_scale in (
            0.9,
            1.0,
            pytest.approx(1.05),
        )
