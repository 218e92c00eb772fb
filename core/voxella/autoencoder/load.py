"""The recipe's autoencoder with the weights it is meant to have, never with random ones."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.machine import naming
from voxella.plugins import registry
from voxella.plugins.contracts import Autoencoder
from voxella.ranks import Ranks
from voxella.recipe.autoencoder import AutoencoderBlock
from voxella.recipe.inputs import Latent
from voxella.recipe.model import Recipe

__all__ = [
    "WEIGHTS",
    "AutoencoderPlan",
    "LoadedAutoencoder",
    "build_autoencoder",
    "check_weights_exist",
    "choose_device",
    "fingerprint",
    "load_autoencoder",
]

WEIGHTS = "model.safetensors"
_TRAIN = "voxella train-autoencoder RECIPE"


@dataclass(frozen=True)
class AutoencoderPlan:
    """What a recipe's autoencoder is built from.

    Attributes:
        component: The plugin with its arguments.
        sequences: Of its images, in order.
        optional: Sequences that a case may lack.
        channels: Of its images: one a sequence, three where that is in colour.
        shown: How many of them pictures of a case show, the first sequence's.
        latent: What it is to give.
        seed: Of its initial weights.
        trained: Whether the recipe trains it: its weights are the run's, or none yet.
    """

    component: AutoencoderBlock
    sequences: tuple[str, ...]
    optional: tuple[str, ...]
    channels: int
    shown: int
    latent: Latent
    seed: int
    trained: bool

    @classmethod
    def of(cls, recipe: Recipe) -> AutoencoderPlan:
        """Return a recipe's."""
        return cls(
            recipe.autoencoder,
            tuple(recipe.data.sequences),
            tuple(recipe.data.optional),
            recipe.image_channels,
            recipe.shown_channels,
            recipe.latent,
            recipe.shared_seed,
            recipe.autoencoder_training is not None,
        )

    @property
    def passes(self) -> int:
        """Return how often the network runs over one case."""
        return self.component.passes(self.sequences)

    def latent_channels(self, passes: Sequence[int]) -> tuple[int, ...]:
        """Return the channels of the latent that some passes give."""
        width = self.pass_channels[1]
        return tuple(c for one in passes for c in range(one * width, (one + 1) * width))

    @property
    def pass_channels(self) -> tuple[int, int]:
        """Return the channels of image and of latent that one pass of the network sees."""
        return self.channels // self.passes, self.latent.channels // self.passes


@dataclass(frozen=True)
class LoadedAutoencoder:
    """An autoencoder in evaluation mode, its parameters frozen.

    Attributes:
        model: The autoencoder.
        fingerprint: Hash over its weights and settings.
    """

    model: Autoencoder
    fingerprint: str


def choose_device(name: str) -> torch.device:
    """Return the named device; ``auto`` is this process's GPU, or the CPU."""
    return Ranks.from_environment().device if name == "auto" else torch.device(name)


def build_autoencoder(plan: AutoencoderPlan) -> Autoencoder:
    """Build the planned autoencoder; its initial weights follow from the plan's seed.

    Where it runs over each sequence (``autoencoder.per_sequence``) this is the network of one.
    """
    images, latents = plan.pass_channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model = registry.build(
            "autoencoders",
            plan.component,
            spatial_dims=len(plan.latent.size),
            in_channels=images,
            latent_channels=latents,
        )
    return cast("Autoencoder", model)


def check_weights_exist(
    component: AutoencoderBlock, *, training: bool, trained: Path | None
) -> None:
    """Refuse to encode with an autoencoder that nobody has trained.

    Raises:
        UserError: The recipe trains its autoencoder and ``trained`` holds no weights, or it
            trains none and names no weights although its builder takes some.
    """
    if training:
        if trained is None or not (trained / WEIGHTS).is_file():
            where = "no folder was given" if trained is None else f"{trained / WEIGHTS} is absent"
            raise UserError(f"the autoencoder is not trained: {where}", remedy=_TRAIN)
        return
    takes = inspect.signature(registry.builder("autoencoders", component.name)).parameters
    if "weights" in takes and component.arguments.get("weights") is None:
        raise UserError(
            f"autoencoder {component.name} has neither weights nor a training block: "
            "its latents would be those of a random network",
            remedy="--set autoencoder.weights=PATH, or add an `autoencoder_training:` block",
        )


def load_autoencoder(
    plan: AutoencoderPlan, trained: Path | None = None, device: torch.device | str = "cpu"
) -> LoadedAutoencoder:
    """Build the autoencoder, give it its weights, freeze it.

    Args:
        plan: What it is built from.
        trained: The folder that ``voxella train-autoencoder`` wrote; read when the recipe trains
            its autoencoder. Otherwise the plugin reads the weights that the recipe names.
        device: Where to put it.

    Raises:
        UserError: As :func:`check_weights_exist`; or the weights do not fit.
    """
    check_weights_exist(plan.component, training=plan.trained, trained=trained)
    instead = plan.trained and trained is not None
    if instead and "weights" in plan.component.arguments:
        # What its training started from has done its part, and need not be on this machine.
        bare = plan.component.model_copy(update={"weights": None})
        model = build_autoencoder(replace(plan, component=bare))
    else:
        model = build_autoencoder(plan)
    module = cast("nn.Module", model)
    if instead and trained is not None:
        _load_strictly(module, trained / WEIGHTS)
    module.eval().requires_grad_(requires_grad=False)
    mark = fingerprint(plan.component, module)
    module.to(device)
    return LoadedAutoencoder(model, mark)


def fingerprint(component: AutoencoderBlock, module: nn.Module) -> str:
    """Return a hash over an autoencoder's weights and settings; a file's name is not in it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    settings = {k: v for k, v in component.arguments.items() if k != "weights"}
    stacked = ["per_sequence"] if component.per_sequence else []
    digest.update(sha256_json([component.name, settings, *stacked]).encode())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    # As raw bytes, because numpy has no bfloat16.
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _load_strictly(module: nn.Module, path: Path) -> None:
    try:
        with naming(path):
            module.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise UserError(
            f"the weights in {path} do not fit the recipe's autoencoder: "
            f"{str(error).splitlines()[-1].strip()}",
            remedy=f"{_TRAIN}   (after a change of the autoencoder block)",
        ) from None
