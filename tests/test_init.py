"""Training that starts from weights: what fits, what is refused, what stays, at which rate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor, nn

import voxella
from voxella.check.training import check_model
from voxella.cli import main
from voxella.engine.parameters import freeze, matching, parameter_groups
from voxella.errors import UserError
from voxella.ldm.build import build_model
from voxella.ldm.export import load_model
from voxella.ldm.read_start import read_start
from voxella.ldm.start import Start
from voxella.ldm.train import train
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.model import RateGroup, Recipe

ADDED = "backbone.cross_attention=added"


def trained_state(recipe: Recipe, seed: int = 3) -> dict[str, Tensor]:
    """The state of a model of a recipe, away from its initial values."""
    state = build_model(recipe).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in state.items()}


@pytest.fixture(scope="module")
def base_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a model without text and class, in a file of our names."""
    path = tmp_path_factory.mktemp("weights") / "base.safetensors"
    save_file(trained_state(tiny_recipe(name="base")), path)
    return path


def meta_start(recipe: Recipe) -> Start | None:
    with torch.device("meta"):
        model = build_model(recipe)
    return read_start(recipe.init, model)


def test_the_block_is_read_and_written_back_under_its_own_key(tmp_path: Path) -> None:
    recipe = tiny_recipe(f"init.from={tmp_path / 'a.pt'}", "init.freeze=[backbone]", name="base")
    assert recipe.init is not None
    assert recipe.init.path == tmp_path / "a.pt"
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert f"from: {tmp_path / 'a.pt'}" in dump_recipe(recipe)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    # A recipe without it is written, and hashed, as before.
    assert "init" not in tiny_recipe(name="base").fingerprint_data()
    assert "groups" not in tiny_recipe(name="base").fingerprint_data()["optimizer"]
    with pytest.raises(UserError, match=r"init\.form: unknown key; did you mean init\.from\?"):
        tiny_recipe("init.form=x.pt", name="base")


def test_a_file_that_fits_is_loaded_whole(base_file: Path) -> None:
    recipe = tiny_recipe(f"init.from={base_file}", name="base")
    start = meta_start(recipe)
    assert start is not None
    model = build_model(recipe)
    start.load(model)
    held = load_file(base_file)
    assert all(torch.equal(tensor, held[name]) for name, tensor in model.state_dict().items())
    assert f"backbone: {len(held)} tensors matched, 0 missing, 0 unexpected" in start.lines()[1]


def test_what_does_not_fit_is_counted_with_both_shapes(base_file: Path) -> None:
    with pytest.raises(UserError) as caught:
        meta_start(tiny_recipe(f"init.from={base_file}", "vectors=[]", name="base"))
    text = str(caught.value)
    assert "4 unknown: spacing_layer" in text
    assert "of another shape" in text
    assert "(8, 64) instead of (8, 32)" in text
    with pytest.raises(UserError) as caught:
        meta_start(tiny_recipe(f"init.from={base_file}", ADDED))
    assert "--set init.missing=new" not in str(caught.value), "the class vector comes first there"


def test_a_file_of_something_else_loads_nothing_and_is_refused(tmp_path: Path) -> None:
    save_file({"backbone.else.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    for missing in ("refuse", "new"):
        with pytest.raises(UserError, match="nothing of it was loaded"):
            meta_start(
                tiny_recipe(
                    f"init.from={tmp_path / 'x.safetensors'}",
                    f"init.missing={missing}",
                    name="base",
                )
            )


VECTORS = "vectors=[{name: spacing, scale: 100}, {name: class, scale: 100}]"


def test_text_and_class_are_added_and_the_first_prediction_stays(base_file: Path) -> None:
    plain = build_model(tiny_recipe(name="base")).eval()
    plain.load_state_dict(load_file(base_file))
    plain.double()  # in float32 a wider matrix sums in another order, which is rounding alone
    more = tiny_recipe(f"init.from={base_file}", "init.missing=new", ADDED, VECTORS)
    start = meta_start(more)
    assert start is not None
    assert any(name.startswith("conditioner.") for name in start.new)
    assert all(name.endswith("time_emb_proj.weight") for name in start.widened)
    model = build_model(more).eval()
    start.load(model)
    model.double()
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 4, 4, 4, generator=g, dtype=torch.float64)
    times = torch.tensor([20, 800])
    spacing = torch.rand(2, 3, generator=g)
    with torch.no_grad():
        expected = plain.predict(x, times, plain.condition(timesteps=times, spacing_mm=spacing))
        for label in (0, 1):
            told = model.condition(
                timesteps=times,
                spacing_mm=spacing,
                label=torch.tensor([label, label]),
                text_features=torch.randn(2, 7, 12, generator=g),
            )
            found = model.predict(x, times, told)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert expected.abs().max() > 0.1


def test_another_order_of_the_vectors_is_not_read_as_the_same(base_file: Path) -> None:
    turned = "vectors=[{name: class, scale: 100}, {name: spacing, scale: 100}]"
    recipe = tiny_recipe(f"init.from={base_file}", "init.missing=new", ADDED, turned)
    with pytest.raises(UserError, match="of another shape"):
        meta_start(recipe)


def test_patterns_mean_parts_and_names_and_nothing_is_refused() -> None:
    model = build_model(tiny_recipe())
    names = [name for name, _ in model.named_parameters()]
    assert matching(names, "conditioner") == [n for n in names if n.startswith("conditioner.")]
    assert all(".attentions." in name for name in matching(names, "backbone.*.attentions.*"))
    freeze(model, ["backbone.conv_in", "conditioner"])
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == set(matching(names, "conditioner")) | set(matching(names, "backbone.conv_in"))
    with pytest.raises(UserError, match=r"init\.freeze\[0\]: 'backbon' .*\n.*nearest: backbone"):
        freeze(model, ["backbon"])
    with pytest.raises(UserError, match="nothing is left to be trained"):
        freeze(model, ["backbone", "conditioner"])


def test_groups_have_their_rates_and_the_rest_comes_first() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(3, 1), "c": nn.Linear(1, 1)})
    freeze(model, ["c"])
    settings = [RateGroup(match="b.bias", lr=1.0), RateGroup(match="b", lr=0.1)]
    groups = parameter_groups(model, settings)
    found = [
        (g.get("lr"), [tuple(p.shape) for p in g["params"]]) for g in groups if isinstance(g, dict)
    ]
    assert found == [(None, [(3, 2), (3,)]), (1.0, [(1,)]), (0.1, [(1, 3)])]
    with pytest.raises(UserError, match=r"optimizer\.groups\[0\]\.match: 'c'.*that is trained"):
        parameter_groups(model, [RateGroup(match="c", lr=1.0)])
    assert [p.shape for p in parameter_groups(model, [])] == [  # type: ignore[union-attr]
        p.shape for p in model.parameters() if p.requires_grad
    ]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2])
def test_frozen_weights_stay_bit_by_bit_and_groups_move_at_their_rate(
    stage: int, base_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(
        f"init.from={base_file}",
        "init.freeze=[backbone.conv_in, 'backbone.*.resnets.*']",
        "optimizer.groups=[{match: backbone.out, lr: 1e-12}]",
        "optimizer.decay_power=0",
        "optimizer.weight_decay=0",
        f"deepspeed.zero_optimization.stage={stage}",
        name="base",
    )
    encoded_run(recipe, tmp_path / "run")
    assert train(recipe, tmp_path / "run", stop_after=2) is None
    (tmp_path / "elsewhere").mkdir()
    moved = base_file.read_bytes()
    (tmp_path / "elsewhere" / "w.safetensors").write_bytes(moved)
    # Continued, and the file found elsewhere: the same training.
    same = recipe.model_copy(
        update={
            "init": recipe.init.model_copy(  # type: ignore[union-attr]
                update={"path": tmp_path / "elsewhere" / "w.safetensors"}
            )
        }
    )
    folder = train(same, tmp_path / "run")
    assert folder is not None
    told = capsys.readouterr().out
    assert "backbone.out: " in told
    assert "at a learning rate of 1e-12" in told
    assert "frozen: " in told
    before, after = load_file(base_file), load_file(folder / "model.safetensors")
    ema = torch.load(tmp_path / "run/checkpoints/step-00000004/ema.pt", weights_only=True)
    names = [*matching(before, "backbone.conv_in"), *matching(before, "backbone.*.resnets.*")]
    assert names
    for name, tensor in before.items():
        if name in names:
            assert torch.equal(tensor, after[name]), name
            assert name not in ema["shadow"], "a frozen parameter is no part of the average"
        elif name.startswith("backbone.out."):
            assert (tensor - after[name]).abs().max() < 1e-6, name
    rest = [n for n in before if n not in names and not n.startswith("backbone.out.")]
    assert all(1e-6 < (before[n] - after[n]).abs().max() < 1e-3 for n in rest)
    other = load_file(base_file)
    other["backbone.conv_in.conv.bias"] += 1
    save_file(other, tmp_path / "elsewhere" / "w.safetensors")
    with pytest.raises(UserError, match=r"the weights that training starts from \(init\.from\)"):
        train(same, tmp_path / "run")


@pytest.mark.slow
def test_a_training_starts_from_an_exported_model_and_records_which(tmp_path: Path) -> None:
    first = tiny_recipe("train.steps=2", name="base")
    encoded_run(first, tmp_path / "a")
    folder = train(first, tmp_path / "a")
    assert folder is not None
    second = tiny_recipe(f"init.from={folder}", "train.steps=1", name="base")
    encoded_run(second, tmp_path / "b")
    assert train(second, tmp_path / "b") is not None
    record = json.loads((tmp_path / "b" / "train" / "stage.json").read_text())
    facts = json.loads((folder / "config.json").read_text())
    assert record["inputs"]["start_sha256"] == facts["weights_sha256"]
    start, end = load_model(folder).state_dict(), load_model(tmp_path / "b/model").state_dict()
    # One step from there: near it. Drawn anew it would be 0.1 and more away.
    distance = max(float((start[n] - end[n]).abs().max()) for n in start)
    assert 0 < distance < 1e-3
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="not the file that was exported"):
        meta_start(second)


def test_an_absent_file_is_told_when_a_recipe_is_validated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Path(voxella.__file__).parents[2] / "recipes" / "base.yaml"
    words = ["recipe", "validate", str(recipe), "--profile", "smoke"]
    assert main([*words, "--set", f"init.from={tmp_path / 'absent.pt'}"]) == 2
    assert "training starts from" in capsys.readouterr().err
    assert main([*words, "--set", f"init.from={tmp_path}"]) == 2
    assert "is no exported model" in capsys.readouterr().err
    assert main([*words, "--set", "init.freeze=[backbone.conv_in]"]) == 0


def test_a_released_file_is_read_by_its_source(tmp_path: Path) -> None:
    recipe = tiny_recipe(name="base")
    state = {
        name.removeprefix("backbone."): tensor.half()
        for name, tensor in trained_state(recipe).items()
    }
    content = {"unet_state_dict": {f"module.{name}": t for name, t in state.items()}}
    torch.save({**content, "scale_factor": torch.tensor(0.875)}, tmp_path / "base.pt")
    recipe = tiny_recipe(f"init.from={tmp_path / 'base.pt'}", "init.source=ccella", name="base")
    start = meta_start(recipe)
    assert start is not None
    assert start.latent_scale == 0.875
    assert "  it was trained on latents times 0.875" in start.lines()
    model = build_model(recipe)
    start.load(model)
    found = model.get_submodule("backbone").state_dict()
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in state.items())
    with pytest.raises(UserError, match="'cella'"):
        check_model(tiny_recipe(f"init.from={tmp_path}", "init.source=cella", name="base"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("init.freeze=[backbone.conv_on]",), r"init\.freeze\[0\]: 'backbone\.conv_on'"),
        (("optimizer.groups=[{match: head, lr: 1.0}]",), r"optimizer\.groups\[0\]\.match: 'head'"),
        (("latent.channels=3",), "does not fit the model"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_prepared(
    words: tuple[str, ...], told: str, base_file: Path
) -> None:
    with pytest.raises(UserError, match=told):
        check_model(tiny_recipe(f"init.from={base_file}", *words, name="base"))
    assert check_model(tiny_recipe(f"init.from={base_file}", name="base")) == set()
