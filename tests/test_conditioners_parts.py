"""The connector's parts against independent formulae and torch's own modules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from voxella_conditioners.attention import QueryAttention, visible_tokens
from voxella_conditioners.ccella import ClassHead
from voxella_conditioners.connector import (
    AdaptiveNorm,
    Connector,
    SquaredReluMlp,
    TimestepEmbedding,
    plain_norm,
    sinusoidal,
)

WIDTH, HEADS, QUERIES, TOKENS = 24, 4, 5, 7


def _reference_attention(ours: QueryAttention) -> nn.MultiheadAttention:
    """Return torch's own module with our weights."""
    reference = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        reference.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
    reference.out_proj.load_state_dict(ours.out.state_dict())
    return reference


def _random_biases(module: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torch_multihead_attention(masked: bool) -> None:
    torch.manual_seed(0)
    ours = QueryAttention(WIDTH, HEADS)
    _random_biases(ours)
    queries, text = torch.randn(3, QUERIES, WIDTH), torch.randn(3, TOKENS, WIDTH)
    mask = torch.arange(TOKENS) < torch.tensor([[1], [4], [TOKENS]]) if masked else None
    got = ours(queries, text, visible_tokens(mask, QUERIES))

    both = torch.cat([queries, text], dim=1)
    hidden: Tensor | None = None
    if mask is not None:
        hidden = torch.cat([torch.zeros(3, QUERIES, dtype=torch.bool), ~mask], dim=1)
    expected, _ = _reference_attention(ours)(queries, both, both, key_padding_mask=hidden)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_attention_starts_as_torch_multihead_attention_does() -> None:
    torch.manual_seed(0)
    width = 256
    ours, reference = QueryAttention(width, HEADS), nn.MultiheadAttention(width, HEADS)
    bound = float(reference.in_proj_weight.detach().abs().max())
    for projection in (ours.query, ours.key_value):
        # The largest of 65,536 uniform draws lies within 0.1 % of the bound.
        assert float(projection.weight.detach().abs().max()) == pytest.approx(bound, rel=1e-3)
        assert not projection.bias.any()
    assert not ours.out.bias.any()


def test_a_report_that_is_all_padding_leaves_only_the_queries() -> None:
    torch.manual_seed(0)
    ours = QueryAttention(WIDTH, HEADS)
    queries, text = torch.randn(2, QUERIES, WIDTH), torch.randn(2, TOKENS, WIDTH)
    nothing = visible_tokens(torch.zeros(2, TOKENS, dtype=torch.bool), QUERIES)
    expected = ours(queries, text[:, :0], None)
    torch.testing.assert_close(ours(queries, text, nothing), expected)


def test_adaptive_norm_starts_as_plain_layer_norm() -> None:
    torch.manual_seed(0)
    x, condition = 3 + 2 * torch.randn(2, TOKENS, WIDTH), torch.randn(2, WIDTH)
    expected = nn.LayerNorm(WIDTH, eps=1e-6, elementwise_affine=False)(x)
    assert torch.equal(AdaptiveNorm(WIDTH)(x, condition), expected)


def test_adaptive_norm_shifts_and_scales_each_case_by_its_own_condition() -> None:
    torch.manual_seed(0)
    norm = AdaptiveNorm(WIDTH)
    nn.init.normal_(norm.modulation.weight)
    nn.init.normal_(norm.modulation.bias)
    x, condition = torch.randn(2, TOKENS, WIDTH), torch.randn(2, WIDTH)
    got = norm(x, condition)
    for case in range(2):
        both = norm.modulation.weight @ condition[case] + norm.modulation.bias
        mean = x[case].mean(-1, keepdim=True)
        spread = (x[case].var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        expected = (x[case] - mean) / spread * (1 + both[WIDTH:]) + both[:WIDTH]
        torch.testing.assert_close(got[case], expected, rtol=1e-4, atol=1e-5)


def test_plain_norm_has_zero_mean_and_unit_variance() -> None:
    normed = plain_norm(5 + 3 * torch.randn(2, 3, 4096))
    torch.testing.assert_close(normed.mean(-1), torch.zeros(2, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(normed.var(-1, unbiased=False), torch.ones(2, 3))


@pytest.mark.parametrize("timestep", [0.0, 1.0, 12.5, 999.0])
def test_sinusoid_equals_its_formula(timestep: float) -> None:
    got = sinusoidal(torch.tensor([timestep]), 320)[0]
    assert got.dtype == torch.float32
    for index in (0, 1, 77, 159):
        angle = timestep * 10_000 ** (-index / 160)
        # float32 angles of up to 999 radians are good to 6e-5.
        assert float(got[index]) == pytest.approx(math.cos(angle), abs=2e-4)
        assert float(got[160 + index]) == pytest.approx(math.sin(angle), abs=2e-4)


def test_sinusoid_of_integer_steps_is_that_of_the_same_floats() -> None:
    steps = torch.tensor([0, 3, 999])
    assert torch.equal(sinusoidal(steps, 8), sinusoidal(steps.double(), 8))


def test_time_embedding_is_linear_silu_linear() -> None:
    torch.manual_seed(0)
    embedding = TimestepEmbedding(WIDTH)
    steps = torch.tensor([0, 500])
    hidden = sinusoidal(steps, 320) @ embedding.fc1.weight.T + embedding.fc1.bias
    hidden = hidden / (1 + torch.exp(-hidden))
    expected = hidden @ embedding.fc2.weight.T + embedding.fc2.bias
    torch.testing.assert_close(embedding(steps), expected, rtol=1e-4, atol=1e-5)


def test_mlp_squares_the_relu() -> None:
    mlp = SquaredReluMlp(1)
    with torch.no_grad():
        mlp.fc1.weight.copy_(torch.tensor([[1.0], [-1.0], [2.0], [0.0]]))
        mlp.fc1.bias.zero_()
        mlp.fc2.weight.fill_(1.0)
        mlp.fc2.bias.zero_()
    # 3 -> [3, 0, 6, 0] -> 9 + 36; -1 -> [0, 1, 0, 0] -> 1
    assert mlp(torch.tensor([[[3.0], [-1.0]]])).flatten().tolist() == [45.0, 1.0]


def test_class_head_sees_every_channel_of_every_token() -> None:
    torch.manual_seed(0)
    head = ClassHead(QUERIES, WIDTH, hidden=64, num_classes=3)
    context = torch.randn(1, QUERIES, WIDTH, requires_grad=True)
    logits = head(context)
    assert logits.shape == (1, 3)
    (gradient,) = torch.autograd.grad(logits.square().sum(), context)
    assert bool((gradient != 0).all())


def test_queries_start_with_standard_deviation_one_over_root_width() -> None:
    torch.manual_seed(0)
    connector = Connector(8, width=64, queries=256, blocks=1, heads=2)
    # 16,384 draws: the sample's standard deviation is good to 0.6 %.
    assert float(connector.queries.detach().std()) == pytest.approx(1 / 8, rel=0.02)
