"""Operations and parameters of a recipe's networks, counted without memory for any of them.

Networks are built without storage (torch's meta device, fake tensors): shapes go through them,
numbers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from voxella.autoencoder.load import AutoencoderPlan
from voxella.ldm.batch import Batch
from voxella.ldm.build import build_model
from voxella.plugins import registry
from voxella.recipe.classification import Classify
from voxella.recipe.inputs import Latent, Text
from voxella.recipe.model import Recipe

__all__ = ["Counted", "batch_of", "count_autoencoder", "count_classifier", "count_model"]


@dataclass(frozen=True)
class Counted:
    """One network; operations are floating-point ones for one case, 2 a multiply-add.

    Attributes:
        parameters: Trained numbers.
        forward: Operations forward.
        train: Operations forward and backward.
        activations: Bytes that a forward pass of one case keeps for the backward one, in float32.
    """

    parameters: int
    forward: int
    train: int
    activations: int


def count_model(recipe: Recipe) -> Counted | None:
    """Count the diffusion model; None where a plugin cannot be built without memory."""
    try:
        with torch.device("meta"):
            model = build_model(recipe)
            batch = batch_of(recipe.latent, recipe.text, len(recipe.data.classes))
        model.train()
        # A whole training loss, so that what is computed twice (checkpointing) counts twice.
        kept = _Kept(model)
        train = _counted(lambda: torch.autograd.backward(kept.watch(lambda: model(batch)["total"])))
        with torch.no_grad():
            forward = _counted(lambda: model(batch))
    except (NotImplementedError, RuntimeError):
        return None
    return Counted(_parameters(model), forward, train, kept.nbytes)


def count_autoencoder(plan: AutoencoderPlan, size: Sequence[int]) -> tuple[int, int] | None:
    """Return the operations that encode and decode one case; None where they cannot be counted.

    Args:
        plan: The autoencoder.
        size: Voxels of an image along its axes.
    """
    # The weights are read while it is built; shapes do not need them.
    shapeless = plan.component.model_copy(update={"weights": None})
    channels, latents = plan.pass_channels
    try:
        # Fake tensors say that they are on the CPU: some autoencoders ask where they compute.
        with FakeTensorMode(), torch.no_grad():
            model = registry.build(
                "autoencoders",
                shapeless if "weights" in plan.component.arguments else plan.component,
                spatial_dims=len(plan.latent.size),
                in_channels=channels,
                latent_channels=latents,
            )
            image = torch.empty(1, channels, *size)
            code = torch.empty(1, latents, *plan.latent.size)
            encode = _counted(lambda: model.encode(image))
            return plan.passes * encode, plan.passes * _counted(lambda: model.decode(code))
    except (NotImplementedError, RuntimeError):
        return None


def count_classifier(settings: Classify, channels: int, classes: int) -> Counted | None:
    """Count the downstream classifier; None where it cannot be counted."""
    try:
        with torch.device("meta"):
            model = registry.build(
                "classifiers",
                settings.classifier,
                spatial_dims=len(settings.size),
                in_channels=channels,
                num_classes=classes,
            )
            # Two images: a normalisation over one value per channel is refused in training.
            images = torch.empty(2, channels, *settings.size)
        kept = _Kept(model)
        kept.watch(lambda: model(images).sum())
        with torch.no_grad():
            forward = _counted(lambda: model(images)) // 2
    except (NotImplementedError, RuntimeError):
        return None
    # Three times forward: torch's counter takes the backward pass of a convolution in groups, of
    # which such networks are made, for that of a full one (76 times forward for EfficientNet-b0).
    return Counted(_parameters(model), forward, 3 * forward, kept.nbytes // 2)


class _Kept:
    """What autograd keeps of a forward pass: every storage once, weights not."""

    def __init__(self, module: nn.Module) -> None:
        self._known = {p.untyped_storage()._cdata for p in module.parameters()}
        # Held, so that no storage's place is taken by another while it is counted.
        self._held: list[torch.Tensor] = []
        self.nbytes = 0

    def watch(self, forward: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return what ``forward`` returns, counting."""
        with torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor):
            return forward()

    def _count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._held.append(tensor.detach())
            self.nbytes += storage.nbytes()
        return tensor


def batch_of(latent: Latent, text: Text | None, classes: int, cases: int = 1) -> Batch:
    """Return cases of the longest report, without content, on the current device."""
    shape = (cases, latent.channels, *latent.size)
    return Batch(
        case_ids=tuple(str(number) for number in range(cases)),
        latents=torch.empty(shape),
        noise=torch.empty(shape),
        timesteps=torch.zeros(cases, dtype=torch.int64),
        text_features=None if text is None else torch.empty(cases, text.max_tokens, text.width),
        text_mask=None,
        label=torch.zeros(cases, classes),
        has_report=torch.ones(cases, dtype=torch.bool),
        spacing_mm=torch.ones(cases, len(latent.size)),
    )


def _counted(work: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
