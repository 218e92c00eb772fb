"""What every autoencoder has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, cast
from unittest import SkipTest

import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.plugins.contracts import Autoencoder, training_losses
from voxella.testing.checks import (
    Outputs,
    assert_same,
    gradients_reach_all,
    perturb,
    state_dict_round_trip,
)
from voxella.testing.contract import SpatialContract

__all__ = ["AutoencoderContract"]

_CHANNELS = 2


class AutoencoderContract(SpatialContract):
    """Factor, latent channels, determinism and gradients of an autoencoder.

    Attributes:
        latent_size: Latent voxels along the axes; images are larger by the autoencoder's factor.
        image_channels: Of the autoencoder that was built last.
        asked_channels: Of its latents, as it was asked for.
    """

    kind: ClassVar[str] = "autoencoders"
    latent_size: ClassVar[tuple[int, int, int]] = (4, 2, 3)
    image_channels: int = _CHANNELS
    asked_channels: int = 3
    small: ClassVar[Mapping[str, Any]] = {
        "channels": [32, 32, 32],
        "res_blocks": 1,
        "norm_float16": False,
    }

    def build_spatial(self, spatial_dims: int, **changes: Any) -> Any:  # noqa: ANN401 - see build
        """Build the autoencoder for images of two channels and latents of three.

        One that refuses this, because its latents are the images or hold all their voxels, gets as
        many channels of both, or of latents 2^axes times as many.
        """
        asked = int(changes.pop("latent_channels", 3))
        for images, latents in ((_CHANNELS, asked), (asked, asked)):
            with suppress(UserError):
                return self._built(spatial_dims, images, latents, changes)
        return self._built(spatial_dims, asked, asked * 2**spatial_dims, changes)

    def _built(self, dims: int, images: int, latents: int, changes: Mapping[str, Any]) -> Any:  # noqa: ANN401 - see build
        self.image_channels, self.asked_channels = images, latents
        wired = {"spatial_dims": dims, "in_channels": images, "latent_channels": latents}
        return self.build_module(**wired, **changes)

    def images(self, module: Any, spatial_dims: int) -> Tensor:  # noqa: ANN401 - see build
        """Return two images in [0, 1] whose sides are the suite's latent sides x factor."""
        generator = torch.Generator().manual_seed(11)
        sides = [side * module.factor for side in self.latent_size[:spatial_dims]]
        return torch.rand(2, self.image_channels, *sides, generator=generator)

    def outputs(self, module: Any, images: Tensor) -> Outputs:  # noqa: ANN401 - see build
        """Return mean, log sigma if there is one, and the image decoded from the mean."""
        mean, log_sigma = module.encode(images)
        sigma = {} if log_sigma is None else {"log_sigma": log_sigma}
        return {"mean": mean, **sigma, "decoded": module.decode(mean)}

    def test_factor_and_channels_are_true(self) -> None:
        """Latents are smaller by ``factor`` along each axis and have ``latent_channels``."""
        for dims in self.dimensions():
            for number in (3, 4):
                module = self.build_spatial(dims, latent_channels=number).eval()
                told, channels = module.latent_channels, self.asked_channels
                assert told == channels, f"latent_channels is {told}, asked for {channels}"
                images = self.images(module, dims)
                outputs = self.outputs(module, images)
                found = {k: tuple(v.shape) for k, v in outputs.items()}
                latent = (2, channels, *self.latent_size[:dims])
                expected = dict.fromkeys(outputs, latent) | {"decoded": tuple(images.shape)}
                assert found == expected, f"in {dims}D: {found}, not {expected}"

    def test_encoding_is_deterministic(self) -> None:
        """``encode`` returns a distribution, never a draw from it."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            images = self.images(module, dims)
            first, second = self.outputs(module, images), self.outputs(module, images)
            assert_same(first, second, f"called twice in {dims}D", tolerance=0.0)

    def test_a_case_alone_equals_the_case_in_a_batch(self) -> None:
        """Neither the other images of a batch nor their order reach an image."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            images = self.images(module, dims)
            whole = self.outputs(module, images)
            for i in range(len(images)):
                alone = self.outputs(module, images[i : i + 1])
                part = {name: value[i : i + 1] for name, value in whole.items()}
                assert_same(alone, part, f"image {i} alone in {dims}D")

    def test_gradients_reach_every_parameter(self) -> None:
        """Every trainable parameter is used, by the outputs or by the autoencoder's own losses."""
        for dims in self.dimensions():
            module = perturb(self.build_spatial(dims))
            if not any(True for _ in module.parameters()):
                raise SkipTest("it has no parameters")
            images = self.images(module, dims)
            outputs = self.outputs(module, images)
            autoencoder = cast("Autoencoder", module)
            own = training_losses(autoencoder, images, outputs["mean"], outputs["decoded"])
            gradients_reach_all(module, {**outputs, **own})

    def test_state_dict_carries_everything(self) -> None:
        """Loading a state_dict restores the outputs."""
        dims = self.dimensions()[-1]
        state_dict_round_trip(
            lambda seed: self.build_spatial(dims, seed=seed),
            lambda module: self.outputs(module, self.images(module, dims)),
        )
