"""none, radclass and ella: what they read, what they return, and what must not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.plugins.contracts import Conditioner
from voxella_conditioners.ella import Ella
from voxella_conditioners.plugin import voxella_factory

WIDTH, QUERIES, TEXT, TOKENS = 16, 4, 12, 6
SIZES = {"text_dim": TEXT, "width": WIDTH, "queries": QUERIES, "blocks": 2, "heads": 2}


def _wake(module: nn.Module) -> None:
    """Move every zero-initialised layer off zero, as training does."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)


def _ella(**changes: object) -> Ella:
    torch.manual_seed(0)
    builder = voxella_factory("ella")
    assert builder is not None
    built = builder(**{**SIZES, "num_classes": 2, **changes})
    assert isinstance(built, Ella)
    _wake(built)
    return built


def _inputs(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(3, TOKENS, TEXT, generator=generator)
    return torch.tensor([10, 500, 900]), text


def test_none_says_nothing() -> None:
    builder = voxella_factory("none")
    assert builder is not None
    nothing = builder()
    assert isinstance(nothing, Conditioner)
    made = nothing(timesteps=torch.tensor([1]), text_features=None, text_mask=None, label=None)
    assert (made.context, made.class_logits, dict(made.vectors)) == (None, None, {})
    assert nothing.context_dim is None
    assert nothing.needs == frozenset()
    assert isinstance(nothing, nn.Module)
    assert list(nothing.parameters()) == []


def test_radclass_passes_the_label_on_unscaled() -> None:
    builder = voxella_factory("radclass")
    assert builder is not None
    radclass = builder(num_classes=3)
    assert isinstance(radclass, Conditioner)
    label = torch.eye(3)[[2, 0]]
    made = radclass(timesteps=torch.tensor([1, 2]), text_features=None, text_mask=None, label=label)
    assert torch.equal(made.vectors["class"], label)
    assert dict(radclass.vector_sizes) == {"class": 3}
    assert radclass.needs == {"label"}
    assert made.context is None


def test_ella_returns_one_context_of_the_stated_width() -> None:
    ella = _ella()
    steps, text = _inputs()
    made = ella(timesteps=steps, text_features=text)
    assert isinstance(ella, Conditioner)
    assert made.context.shape == (3, QUERIES, WIDTH)
    assert ella.context_dim == WIDTH
    assert dict(made.vectors) == {}
    assert made.class_logits is None
    assert ella.needs == {"text"}


def test_decoupled_passes_the_label_beside_the_context() -> None:
    ella = _ella(class_vector=True, num_classes=3)
    steps, text = _inputs()
    label = torch.eye(3)
    made = ella(timesteps=steps, text_features=text, label=label)
    assert torch.equal(made.vectors["class"], label)
    assert torch.equal(made.context, _ella()(timesteps=steps, text_features=text).context)
    assert ella.needs == {"text", "label"}
    assert dict(ella.vector_sizes) == {"class": 3}


def test_padding_changes_nothing_when_it_is_masked() -> None:
    ella = _ella()
    steps, text = _inputs()
    plain = ella(timesteps=steps, text_features=text).context
    padded = torch.cat([text, 50 * torch.randn(3, 9, TEXT)], dim=1)
    mask = (torch.arange(TOKENS + 9) < TOKENS).expand(3, -1)
    masked = ella(timesteps=steps, text_features=padded, text_mask=mask).context
    torch.testing.assert_close(masked, plain, rtol=1e-5, atol=1e-6)


def test_padding_matters_when_it_is_not_masked() -> None:
    ella = _ella()
    steps, text = _inputs()
    plain = ella(timesteps=steps, text_features=text).context
    padded = torch.cat([text, torch.zeros(3, 9, TEXT)], dim=1)
    unmasked = ella(timesteps=steps, text_features=padded).context
    assert float((unmasked - plain).detach().abs().max()) > 1e-3


def test_each_case_is_conditioned_by_its_own_mask() -> None:
    ella = _ella()
    steps, text = _inputs()
    lengths = [2, 6, 4]
    mask = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
    together = ella(timesteps=steps, text_features=text, text_mask=mask).context
    for case, length in enumerate(lengths):
        pick = slice(case, case + 1)
        alone = ella(timesteps=steps[pick], text_features=text[pick, :length]).context
        torch.testing.assert_close(together[pick], alone, rtol=1e-5, atol=1e-6)


def test_the_timestep_and_the_text_matter() -> None:
    ella = _ella()
    steps, text = _inputs()
    first = ella(timesteps=steps, text_features=text).context
    later = ella(timesteps=steps + 50, text_features=text).context
    other = ella(timesteps=steps, text_features=_inputs(seed=2)[1]).context
    assert float((first - later).detach().abs().amax(dim=(1, 2)).min()) > 1e-3
    assert float((first - other).detach().abs().amax(dim=(1, 2)).min()) > 1e-3


def test_the_timestep_reaches_each_adaptive_norm() -> None:
    ella = _ella()
    # Silence the other way in, so that only the norms can carry the timestep.
    nn.init.zeros_(ella.connector.query_time.weight)
    steps, text = _inputs()
    context = ella(timesteps=steps, text_features=text).context
    context.square().sum().backward()
    for name, parameter in ella.named_parameters():
        if "modulation" in name:
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name


def test_stored_bfloat16_features_are_cast_to_the_weights() -> None:
    ella = _ella()
    steps, text = _inputs()
    stored = text.bfloat16()
    got = ella(timesteps=steps, text_features=stored).context
    assert got.dtype == torch.float32
    assert torch.equal(got, ella(timesteps=steps, text_features=stored.float()).context)
    low = ella.bfloat16()(timesteps=steps, text_features=text).context
    assert low.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no text features were given"),
        (
            {"text_features": torch.zeros(3, 2, TEXT + 1)},
            rf"\(3, 2, {TEXT + 1}\)[^)]*\(B, L, {TEXT}\)",
        ),
    ],
)
def test_wrong_text_is_named(given: dict[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _ella()(timesteps=torch.tensor([1, 2, 3]), **given)


@pytest.mark.parametrize(
    ("label", "message"),
    [(None, "none was given"), (torch.zeros(3, 5), r"label of shape \(3, 5\)")],
)
def test_wrong_labels_are_named(label: Tensor | None, message: str) -> None:
    steps, text = _inputs()
    with pytest.raises(UserError, match=message):
        _ella(class_vector=True)(timesteps=steps, text_features=text, label=label)
