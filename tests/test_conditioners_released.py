"""Released checkpoints: every parameter lands where the released network used it.

The truth is a second evaluation of the network straight from the released names, with torch's own
multi-head attention, written from the published description.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxella.errors import UserError
from voxella_conditioners.ccella import Ccella
from voxella_conditioners.ella import Ella
from voxella_conditioners.plugin import voxella_factory
from voxella_conditioners.released import convert_released_state_dict

BLOCKS, WIDTH, QUERIES, TEXT, HIDDEN, HEADS = 6, 8, 3, 5, 4, 2
State = dict[str, Tensor]


def _linear(state: State, name: str, inputs: int, outputs: int) -> None:
    state[f"{name}.weight"] = 0.3 * torch.randn(outputs, inputs)
    state[f"{name}.bias"] = 0.3 * torch.randn(outputs)


def _released(variant: str) -> State:
    """Return random parameters under the released names."""
    torch.manual_seed(0)
    state: State = {"ella.connector.latents": torch.randn(QUERIES, WIDTH)}
    state["unet.conv_in.conv.weight"] = torch.zeros(1)
    _linear(state, "ella.time_embedding.linear_1", 320, WIDTH)
    _linear(state, "ella.time_embedding.linear_2", WIDTH, WIDTH)
    _linear(state, "ella.connector.time_aware_linear", WIDTH, WIDTH)
    _linear(state, "ella.connector.proj_in", TEXT, WIDTH)
    for index in range(BLOCKS):
        block = f"ella.connector.perceiver_blocks.{index}"
        for norm in ("ln_1", "ln_2", "ln_ff"):
            _linear(state, f"{block}.{norm}.linear", WIDTH, 2 * WIDTH)
        state[f"{block}.attn.in_proj_weight"] = torch.randn(3 * WIDTH, WIDTH)
        state[f"{block}.attn.in_proj_bias"] = torch.randn(3 * WIDTH)
        _linear(state, f"{block}.attn.out_proj", WIDTH, WIDTH)
        _linear(state, f"{block}.mlp.c_fc", WIDTH, 4 * WIDTH)
        _linear(state, f"{block}.mlp.c_proj", 4 * WIDTH, WIDTH)
    for head in _head_names(variant):
        _linear(state, f"{head}.fc1", QUERIES * WIDTH, HIDDEN)
        _linear(state, f"{head}.fc2", HIDDEN, 2)
    if variant in ("ccella", "shared"):
        _linear(state, "classifier", BLOCKS * 2, 2)
    return state


def _head_names(variant: str) -> list[str]:
    return {
        "ella": [],
        "ccella": [f"ella.connector.cascade_blocks.{index}" for index in range(BLOCKS)],
        "shared": ["ella.connector.classifier"],
        "first": ["ella.connector.classifier"],
        "last": ["classifier"],
    }[variant]


def _apply(state: State, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _outputs(state: State, steps: Tensor, text: Tensor) -> list[Tensor]:
    """Evaluate the blocks from the released parameters; return the queries after each."""
    frequencies = 10_000 ** (-torch.arange(160) / 160)
    angles = steps[:, None] * frequencies
    time = _apply(state, "ella.time_embedding.linear_1", torch.cat([angles.cos(), angles.sin()], 1))
    time = functional.silu(_apply(state, "ella.time_embedding.linear_2", functional.silu(time)))

    def normed(name: str, x: Tensor) -> Tensor:
        shift, scale = _apply(state, f"{name}.linear", time)[:, None].chunk(2, dim=-1)
        return functional.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift

    latents = state["ella.connector.latents"]
    queries = latents + _apply(state, "ella.connector.time_aware_linear", time)[:, None]
    read = _apply(state, "ella.connector.proj_in", text)
    outputs = []
    for index in range(BLOCKS):
        block = f"ella.connector.perceiver_blocks.{index}"
        attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        prefix = f"{block}.attn."
        attention.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        own = normed(f"{block}.ln_1", queries)
        both = torch.cat([own, normed(f"{block}.ln_2", read)], dim=1)
        queries = queries + attention(own, both, both)[0]
        hidden = _apply(state, f"{block}.mlp.c_fc", normed(f"{block}.ln_ff", queries))
        queries = queries + _apply(state, f"{block}.mlp.c_proj", hidden.relu() ** 2)
        outputs.append(queries)
    return outputs


def _expected_logits(state: State, variant: str, outputs: list[Tensor]) -> Tensor:
    names = _head_names(variant)

    def head(name: str, x: Tensor) -> Tensor:
        hidden = _apply(state, f"{name}.fc1", x.reshape(len(x), -1)).relu()
        return _apply(state, f"{name}.fc2", hidden)

    if variant in ("first", "last"):
        return head(names[0], outputs[0 if variant == "first" else -1])
    readers = names * (BLOCKS // len(names))
    logits = [head(name, output) for name, output in zip(readers, outputs, strict=True)]
    return _apply(state, "classifier", torch.cat(logits, dim=1))


def _ours(variant: str) -> Ella | Ccella:
    builder = voxella_factory(variant)
    assert builder is not None
    sizes = {"width": WIDTH, "queries": QUERIES, "blocks": BLOCKS, "heads": HEADS}
    extra = {} if variant == "ella" else {"head_hidden": HIDDEN}
    built = builder(text_dim=TEXT, num_classes=2, **sizes, **extra)
    assert isinstance(built, Ella | Ccella)
    return built


@pytest.mark.parametrize("variant", ["ella", "ccella", "shared", "first", "last"])
def test_a_released_state_predicts_the_same(variant: str) -> None:
    state = _released(variant)
    ours = _ours(variant)
    ours.load_state_dict(convert_released_state_dict(state), strict=True)
    steps, text = torch.tensor([3, 640]), torch.randn(2, 7, TEXT)
    with torch.no_grad():
        made = ours(timesteps=steps, text_features=text)
        outputs = _outputs(state, steps, text)
        torch.testing.assert_close(made.context, outputs[-1], rtol=1e-3, atol=1e-4)
        if variant != "ella":
            expected = _expected_logits(state, variant, outputs)
            torch.testing.assert_close(made.class_logits, expected, rtol=1e-3, atol=1e-4)


def test_the_prefix_of_distributed_training_is_ignored() -> None:
    state = _released("last")
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    plain = convert_released_state_dict(state)
    converted = convert_released_state_dict(wrapped)
    assert converted.keys() == plain.keys()
    assert all(torch.equal(converted[name], plain[name]) for name in plain)


def test_foreign_parameters_are_named() -> None:
    state = {**_released("ella"), "ella.connector.elephant.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"ella\.connector\.elephant\.weight"):
        convert_released_state_dict(state)


def test_a_state_without_an_adapter_is_refused() -> None:
    with pytest.raises(UserError, match="no adapter in it"):
        convert_released_state_dict({"unet.out.weight": torch.zeros(1)})
