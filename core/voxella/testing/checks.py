"""Checks that several kinds of plugin share: plain functions that raise AssertionError."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from voxella.wording import listed

__all__ = [
    "Outputs",
    "assert_same",
    "differs",
    "gradients_reach_all",
    "perturb",
    "same_seed_same_weights",
    "state_dict_round_trip",
    "weighted_sum",
]

# What a module returned, by name; two results are compared name by name.
Outputs = Mapping[str, Tensor]


def perturb(module: nn.Module, *, scale: float = 0.05, seed: int = 1) -> nn.Module:
    """Move every parameter off its initial value and return the module in evaluation mode.

    A zero-initialised layer hides what lies behind it, from gradients and from comparisons.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * noise.to(parameter))
    return module.eval()


def assert_same(first: Outputs, second: Outputs, what: str, *, tolerance: float = 1e-4) -> None:
    """Refuse outputs that differ by more than ``tolerance`` of their own largest value.

    Float32 sums in another order differ by about 1e-6; a real dependence differs by far more.
    """
    assert first.keys() == second.keys(), f"{what}: {sorted(first)} became {sorted(second)}"
    for name, one in first.items():
        other = second[name]
        assert one.shape == other.shape, (
            f"{what}: {name} has shape {tuple(one.shape)} once and {tuple(other.shape)} once"
        )
        gap = _gap(one, other)
        assert gap <= tolerance, (
            f"{what}: {name} differs by {gap:.2g} of its largest value (allowed {tolerance:g})"
        )


def differs(first: Outputs, second: Outputs, *, by: float = 1e-6) -> bool:
    """Return whether any output differs by more than ``by`` of its largest value."""
    return any(_gap(first[name], second[name]) > by for name in first)


def weighted_sum(outputs: Outputs, *, seed: int = 2) -> Tensor:
    """Return a scalar that depends on every element of every output.

    Random weights: a plain sum is blind to parameters in front of a normalisation.
    """
    generator = torch.Generator().manual_seed(seed)
    terms = [
        (value * torch.randn(value.shape, generator=generator)).sum() for value in outputs.values()
    ]
    return torch.stack(terms).sum()


def gradients_reach_all(module: nn.Module, outputs: Outputs) -> None:
    """Refuse a trainable parameter that the outputs do not depend on.

    Such a parameter wastes memory, and DeepSpeed waits for a gradient that never comes.
    """
    module.zero_grad(set_to_none=True)
    weighted_sum(outputs).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    unreached = [name for name, p in trainable.items() if p.grad is None]
    assert not unreached, f"no gradient reaches {listed(unreached, 5)}: use them or freeze them"
    bad = [n for n, p in trainable.items() if p.grad is not None and not p.grad.isfinite().all()]
    assert not bad, f"the gradient is not finite at {listed(bad, 5)}"
    zero = [name for name, p in trainable.items() if p.grad is not None and not p.grad.any()]
    assert not zero, f"the gradient is exactly zero at {listed(zero, 5)}, even off initial values"


def same_seed_same_weights(build: Callable[[int], nn.Module]) -> None:
    """Refuse a builder whose initial weights depend on more than torch's seed."""
    first, second = build(0).state_dict(), build(0).state_dict()
    changed = [name for name in first if not torch.equal(first[name], second[name])]
    assert not changed, f"two builds under one seed differ at {listed(changed, 5)}"


def state_dict_round_trip(
    build: Callable[[int], nn.Module], run: Callable[[nn.Module], Outputs]
) -> None:
    """Refuse a module whose ``state_dict`` does not carry everything its outputs depend on."""
    trained, fresh = perturb(build(0)), build(1).eval()
    fresh.load_state_dict(trained.state_dict(), strict=True)
    with torch.no_grad():
        assert_same(run(trained), run(fresh), "after loading its state_dict", tolerance=1e-6)


def _gap(first: Tensor, second: Tensor) -> float:
    if first.numel() == 0:
        return 0.0
    first, second = first.detach().double(), second.detach().double()
    largest = max(float(first.abs().max()), 1e-6)
    gap = float((first - second).abs().max()) / largest
    return gap if gap == gap else float("inf")
