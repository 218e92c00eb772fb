"""What every denoiser has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.testing.checks import (
    Outputs,
    assert_same,
    differs,
    gradients_reach_all,
    perturb,
    state_dict_round_trip,
    weighted_sum,
)
from voxella.testing.conditioned import one_case
from voxella.testing.contract import SpatialContract

__all__ = ["BackboneContract"]

_IN, _OUT, _CONTEXT = 3, 5, 16
_VECTORS = {"class": 2, "spacing": 3}


class BackboneContract(SpatialContract):
    """Shapes, conditioning, masks, checkpointing and gradients of a denoiser.

    Attributes:
        size: Latent size along the axes; the axes differ, so that none is taken for another.
    """

    kind: ClassVar[str] = "backbones"
    size: ClassVar[tuple[int, int, int]] = (8, 4, 12)
    small: ClassVar[Mapping[str, Any]] = {
        "channels": [32, 64],
        "attention": [False, True],
        "head_channels": 16,
        "res_blocks": 1,
        "flash_attention": False,
        "width": 48,
        "depth": 2,
        "heads": 4,
    }

    def build_spatial(self, spatial_dims: int, **changes: Any) -> nn.Module:  # noqa: ANN401 - wired
        """Build the denoiser for context of 16 features and vectors ``class`` and ``spacing``."""
        injected: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": _IN,
            "out_channels": _OUT,
            "input_size": list(self.size[:spatial_dims]),
            "context_dim": _CONTEXT,
            "vectors": dict(_VECTORS),
        }
        return self.build_module(**(injected | changes))

    def inputs(self, spatial_dims: int) -> tuple[Tensor, Tensor, Conditioning]:
        """Return two noisy latents, their timesteps and a full conditioning with a mask."""
        generator = torch.Generator().manual_seed(5)
        x = torch.randn(2, _IN, *self.size[:spatial_dims], generator=generator)
        conditioning = Conditioning(
            context=torch.randn(2, 5, _CONTEXT, generator=generator),
            context_mask=torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
            vectors={n: torch.randn(2, k, generator=generator) for n, k in _VECTORS.items()},
        )
        return x, torch.tensor([10, 900]), conditioning

    def outputs(
        self, module: nn.Module, spatial_dims: int, conditioning: Conditioning | None = None
    ) -> Outputs:
        """Return the prediction on the suite's inputs, with another conditioning if given."""
        x, timesteps, full = self.inputs(spatial_dims)
        return {"prediction": module(x, timesteps, conditioning or full)}

    def test_prediction_has_the_shape_of_the_input(self) -> None:
        """``(B, in, *spatial)`` becomes ``(B, out, *spatial)``."""
        for dims in self.dimensions():
            module = self.build_spatial(dims).eval()
            shape = tuple(self.outputs(module, dims)["prediction"].shape)
            expected = (2, _OUT, *self.size[:dims])
            assert shape == expected, f"in {dims}D the prediction is {shape}, not {expected}"

    def test_works_without_any_condition(self) -> None:
        """With no context and no vectors it is told nothing and still predicts."""
        for dims in self.dimensions():
            module = self.build_spatial(dims, context_dim=None, vectors={}).eval()
            shape = tuple(self.outputs(module, dims, Conditioning())["prediction"].shape)
            assert shape[:2] == (2, _OUT), f"unconditional, in {dims}D: shape {shape}"

    def test_forward_is_deterministic(self) -> None:
        """Two calls agree to the last bit in evaluation mode."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            first, second = self.outputs(module, dims), self.outputs(module, dims)
            assert_same(first, second, f"called twice in {dims}D", tolerance=0.0)

    def test_every_condition_is_read(self) -> None:
        """Timestep, context and each vector change the prediction."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            x, timesteps, full = self.inputs(dims)
            assert full.context is not None
            before = self.outputs(module, dims)
            changed = {"context": full._replace(context=full.context + 1)}
            for name in _VECTORS:
                moved = {**full.vectors, name: full.vectors[name] + 1}
                changed[f"vector {name}"] = full._replace(vectors=moved)
            for what, conditioning in changed.items():
                after = self.outputs(module, dims, conditioning)
                assert differs(before, after), f"in {dims}D the {what} changes nothing"
            later = {"prediction": module(x, timesteps + 50, full)}
            assert differs(before, later), f"in {dims}D the timestep changes nothing"

    def test_vectors_go_by_name(self) -> None:
        """The order of the mapping is the caller's accident; names decide."""
        dims = self.dimensions()[-1]
        module = perturb(self.build_spatial(dims))
        full = self.inputs(dims)[2]
        turned = full._replace(vectors=dict(reversed(list(full.vectors.items()))))
        first, second = self.outputs(module, dims), self.outputs(module, dims, turned)
        assert_same(first, second, "with the vectors in another order", tolerance=0.0)

    def test_padding_changes_nothing(self) -> None:
        """More masked context tokens, whatever they hold, leave the prediction as it is."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            full = self.inputs(dims)[2]
            assert full.context is not None
            assert full.context_mask is not None
            junk = torch.full((2, 3, _CONTEXT), 50.0)
            padded = full._replace(
                context=torch.cat([full.context, junk], 1),
                context_mask=torch.cat([full.context_mask, junk[..., 0] < 0], 1),
            )
            first, second = self.outputs(module, dims), self.outputs(module, dims, padded)
            assert_same(first, second, f"with more masked padding in {dims}D")

    def test_no_mask_means_all_real(self) -> None:
        """``context_mask=None`` equals a mask that is True everywhere."""
        dims = self.dimensions()[-1]
        module = perturb(self.build_spatial(dims))
        full = self.inputs(dims)[2]
        real = full._replace(context_mask=torch.ones(2, 5, dtype=torch.bool))
        bare = full._replace(context_mask=None)
        first, second = self.outputs(module, dims, real), self.outputs(module, dims, bare)
        assert_same(first, second, "without a mask")

    def test_a_case_alone_equals_the_case_in_a_batch(self) -> None:
        """Neither the other cases of a batch nor their order reach a case."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            x, timesteps, full = self.inputs(dims)
            whole = module(x, timesteps, full)
            for i in range(len(x)):
                one = one_case(full, i)
                alone = module(x[i : i + 1], timesteps[i : i + 1], one)
                part = {"prediction": whole[i : i + 1]}
                assert_same({"prediction": alone}, part, f"case {i} alone in {dims}D")

    def test_checkpointing_changes_no_value(self) -> None:
        """The switch trades compute for memory: prediction and gradients stay."""
        dims = self.dimensions()[-1]
        module: Any = perturb(self.build_spatial(dims)).train()
        found = {}
        for enabled in (False, True):
            module.set_gradient_checkpointing(enabled)
            module.zero_grad(set_to_none=True)
            torch.manual_seed(7)  # a plugin with dropout draws the same mask both times
            outputs = self.outputs(module, dims)
            weighted_sum(outputs).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
            found[enabled] = {"prediction": outputs["prediction"].detach(), **gradients}
        assert_same(found[False], found[True], "with gradient checkpointing", tolerance=1e-3)

    def test_gradients_reach_every_parameter(self) -> None:
        """Every trainable parameter is used, and so is the input."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            gradients_reach_all(module, self.outputs(module, dims))

    def test_state_dict_carries_everything(self) -> None:
        """Loading a state_dict restores the prediction."""
        dims = self.dimensions()[-1]
        state_dict_round_trip(
            lambda seed: self.build_spatial(dims, seed=seed),
            lambda module: self.outputs(module, dims),
        )
