"""What every downstream classifier has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxella.testing.checks import (
    Outputs,
    assert_same,
    gradients_reach_all,
    perturb,
    state_dict_round_trip,
)
from voxella.testing.contract import SpatialContract

__all__ = ["ClassifierContract"]

_CHANNELS = 2


class ClassifierContract(SpatialContract):
    """Shapes, independence of the batch and gradients of a classifier.

    Attributes:
        size: Image size along the axes; classifiers halve it up to five times.
    """

    kind: ClassVar[str] = "classifiers"
    size: ClassVar[tuple[int, int, int]] = (48, 32, 40)
    small: ClassVar[Mapping[str, Any]] = {"channels": [4, 8, 8], "widths": [2, 2, 4, 4]}

    def build_spatial(self, spatial_dims: int, **changes: Any) -> nn.Module:  # noqa: ANN401 - wired
        """Build the classifier for images of two channels and two classes."""
        injected = {"spatial_dims": spatial_dims, "in_channels": _CHANNELS, "num_classes": 2}
        return self.build_module(**(injected | changes))

    def images(self, spatial_dims: int) -> Tensor:
        """Return two images in [0, 1]."""
        generator = torch.Generator().manual_seed(13)
        return torch.rand(2, _CHANNELS, *self.size[:spatial_dims], generator=generator)

    def outputs(self, module: nn.Module, images: Tensor) -> Outputs:
        """Return the logits."""
        return {"logits": module(images)}

    def test_one_logit_per_class(self) -> None:
        """``(B, C, *spatial)`` becomes ``(B, num_classes)``, for two classes and for three."""
        for dims in self.dimensions():
            for classes in (2, 3):
                module = self.build_spatial(dims, num_classes=classes).eval()
                shape = tuple(module(self.images(dims)).shape)
                assert shape == (2, classes), (
                    f"in {dims}D the logits are {shape}, not (2, {classes})"
                )

    def test_forward_is_deterministic(self) -> None:
        """Two calls agree to the last bit in evaluation mode."""
        for dims in self.dimensions():
            module, images = perturb(self.build_spatial(dims)), self.images(dims)
            first, second = self.outputs(module, images), self.outputs(module, images)
            assert_same(first, second, f"called twice in {dims}D", tolerance=0.0)

    def test_a_case_alone_equals_the_case_in_a_batch(self) -> None:
        """In evaluation mode no other image of a batch reaches an image."""
        for dims in self.dimensions():
            module, images = perturb(self.build_spatial(dims)), self.images(dims)
            whole = module(images)
            for i in range(len(images)):
                alone = self.outputs(module, images[i : i + 1])
                assert_same(alone, {"logits": whole[i : i + 1]}, f"image {i} alone in {dims}D")

    def test_gradients_reach_every_parameter(self) -> None:
        """Every trainable parameter is used."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            gradients_reach_all(module, self.outputs(module, self.images(dims)))

    def test_state_dict_carries_everything(self) -> None:
        """Loading a state_dict restores the logits."""
        dims = self.dimensions()[-1]
        state_dict_round_trip(
            lambda seed: self.build_spatial(dims, seed=seed),
            lambda module: self.outputs(module, self.images(dims)),
        )
