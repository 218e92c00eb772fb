"""CCELLA and its placements: which block each head reads, and what learns from what."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.plugins.contracts import Conditioner
from voxella_conditioners.ccella import Ccella
from voxella_conditioners.plugin import voxella_factory

BLOCKS, WIDTH, QUERIES, TEXT, CLASSES = 6, 8, 3, 5, 2
PLACEMENTS = ["ccella", "shared", "first", "last"]


def _build(name: str, num_classes: int = CLASSES, blocks: int = BLOCKS) -> Ccella:
    torch.manual_seed(0)
    builder = voxella_factory(name)
    assert builder is not None
    built = builder(
        text_dim=TEXT,
        num_classes=num_classes,
        width=WIDTH,
        queries=QUERIES,
        blocks=blocks,
        heads=2,
        head_hidden=16,
    )
    assert isinstance(built, Ccella)
    with torch.no_grad():
        for parameter in built.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return built


def _run(model: Ccella) -> Conditioning:
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(2, 4, TEXT, generator=generator)
    made = model(timesteps=torch.tensor([100, 700]), text_features=text)
    assert isinstance(made, Conditioning)
    return made


def _logits(model: Ccella) -> Tensor:
    logits = _run(model).class_logits
    assert logits is not None
    return logits


def _blocks_with_gradient(model: Ccella, of: Callable[[Conditioning], Tensor]) -> list[int]:
    """Return the blocks whose parameters receive a gradient."""
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(of(_run(model)).square().sum())
    return [
        index
        for index, block in enumerate(model.connector.blocks)
        if any(p.grad is not None and p.grad.any() for p in block.parameters())
    ]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("ccella", range(6)), ("shared", range(6)), ("first", range(1)), ("last", range(6))],
)
def test_logits_depend_on_the_right_blocks(name: str, blocks: range) -> None:
    def logits(made: Conditioning) -> Tensor:
        assert made.class_logits is not None
        return made.class_logits

    assert _blocks_with_gradient(_build(name), logits) == list(blocks)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_the_context_is_that_of_the_last_block_and_ignores_the_heads(name: str) -> None:
    model = _build(name)
    before = _run(model)
    with torch.no_grad():
        for head in model.heads:
            for parameter in head.parameters():
                parameter.add_(1.0)
    after = _run(model)
    assert before.context is not None
    assert after.context is not None
    assert torch.equal(before.context, after.context)
    assert not torch.equal(_must(before.class_logits), _must(after.class_logits))
    assert _blocks_with_gradient(model, lambda made: _must(made.context)) == list(range(BLOCKS))


def _must(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def test_first_reads_block_one_and_last_reads_block_six() -> None:
    for name, index in (("first", 0), ("last", BLOCKS - 1)):
        model = _build(name)
        outputs: list[Tensor] = []
        model.connector.blocks[index].register_forward_hook(
            lambda _module, _inputs, output, kept=outputs: kept.append(output)
        )
        logits = _logits(model)
        assert torch.equal(logits, model.heads[0](outputs[0]))


def test_each_joins_the_heads_in_the_order_of_the_blocks() -> None:
    model = _build("ccella")
    outputs: list[Tensor] = []
    for block in model.connector.blocks:
        block.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    logits = _logits(model)
    assert model.join is not None
    expected = model.join.bias.expand(2, -1)
    for index, output in enumerate(outputs):
        columns = slice(index * CLASSES, (index + 1) * CLASSES)
        expected = expected + model.heads[index](output) @ model.join.weight[:, columns].T
    torch.testing.assert_close(logits, expected)


def test_shared_has_one_head_that_reads_all_six_blocks() -> None:
    model = _build("shared")
    assert len(model.heads) == 1
    calls: list[Tensor] = []
    model.heads[0].register_forward_hook(lambda _m, inputs, _o: calls.append(inputs[0]))
    _logits(model)
    assert len(calls) == BLOCKS
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(calls))


@pytest.mark.parametrize(
    ("name", "heads", "joined"),
    [
        ("ccella", 6, BLOCKS * CLASSES),
        ("shared", 1, BLOCKS * CLASSES),
        ("first", 1, None),
        ("last", 1, None),
    ],
)
def test_heads_and_joining_layer(name: str, heads: int, joined: int | None) -> None:
    model = _build(name)
    assert len(model.heads) == heads
    assert (model.join.in_features if model.join is not None else None) == joined


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_any_number_of_classes(name: str, classes: int) -> None:
    model = _build(name, num_classes=classes, blocks=2)
    made = _run(model)
    assert isinstance(model, Conditioner)
    assert _must(made.class_logits).shape == (2, classes)
    assert dict(model.vector_sizes) == {"class": classes}
    assert model.needs == {"text"}
    torch.testing.assert_close(made.vectors["class"].sum(-1), torch.ones(2))


@pytest.mark.parametrize("name", PLACEMENTS)
def test_the_class_vector_is_the_softmax_of_the_logits(name: str) -> None:
    made = _run(_build(name))
    powers = _must(made.class_logits).exp()
    torch.testing.assert_close(made.vectors["class"], powers / powers.sum(-1, keepdim=True))


@pytest.mark.parametrize("name", PLACEMENTS)
def test_a_loss_on_the_class_vector_teaches_every_head(name: str) -> None:
    model = _build(name)
    made = _run(model)
    torch.autograd.backward(made.vectors["class"][:, 0].sum())
    for head in model.heads:
        for parameter in head.parameters():
            assert parameter.grad is not None
            assert bool(parameter.grad.any())


@pytest.mark.parametrize("name", PLACEMENTS)
def test_padding_changes_neither_logits_nor_context(name: str) -> None:
    model = _build(name)
    text, steps = torch.randn(2, 4, TEXT), torch.tensor([5, 900])
    plain = model(timesteps=steps, text_features=text)
    padded = torch.cat([text, 20 * torch.randn(2, 3, TEXT)], dim=1)
    mask = (torch.arange(7) < 4).expand(2, -1)
    masked = model(timesteps=steps, text_features=padded, text_mask=mask)
    torch.testing.assert_close(masked.class_logits, plain.class_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masked.context, plain.context, rtol=1e-4, atol=1e-5)


def test_the_class_vector_keeps_float32_when_the_weights_do_not() -> None:
    made = _run(_build("ccella").bfloat16())
    assert _must(made.class_logits).dtype == torch.bfloat16
    assert made.vectors["class"].dtype == torch.float32


def test_the_label_is_never_read() -> None:
    model = _build("ccella")
    text, steps = torch.randn(2, 4, TEXT), torch.tensor([5, 900])
    without = model(timesteps=steps, text_features=text)
    with_label = model(timesteps=steps, text_features=text, label=torch.eye(2))
    assert torch.equal(without.class_logits, with_label.class_logits)


def test_gradients_survive_autocast() -> None:
    model = _build("ccella")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = _run(model)
        loss = made.vectors["class"][:, 0].sum() + _must(made.context).float().square().mean()
    torch.autograd.backward(loss)
    assert all(
        p.grad is not None and bool(torch.isfinite(p.grad).all())
        for p in nn.ModuleList(model.heads).parameters()
    )
