"""A trained model with its autoencoder: requests in, images out. Stage and Generator share it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import ModelFacts, load_facts, load_model
from voxella.ldm.generate import GenerationSettings, generate, said_by_head
from voxella.ldm.request import Request
from voxella.recipe.sampling import Sample
from voxella.sampling.weaker import load_weaker

__all__ = ["GeneratedImage", "Networks", "other_text"]


@dataclass(frozen=True)
class GeneratedImage:
    """What one request became.

    Attributes:
        array: ``(C, *spatial)`` in [0, 1], by sequence of the recipe, float32.
        class_probabilities: ``(K,)`` of the text head, on the CPU; None for models without one.
    """

    array: NDArray[np.float32]
    class_probabilities: Tensor | None


@dataclass(frozen=True)
class Networks:
    """A model in evaluation mode and the autoencoder whose latents it has learnt.

    Attributes:
        model: The diffusion model.
        decoder: The autoencoder, in windows where memory is short.
        device: Where all are.
        weaker: A weaker version of the model, for autoguidance; None: there is none.
    """

    model: LatentDiffusion
    decoder: TiledAutoencoder
    device: torch.device
    weaker: LatentDiffusion | None = None

    @classmethod
    def load(
        cls,
        plan: AutoencoderPlan,
        sample: Sample,
        model: Path,
        autoencoder: Path,
        device: torch.device,
        *,
        text: str | None = None,
        out: Path | None = None,
        alone: bool = False,
        quiet: bool = False,
    ) -> Networks:
        """Load both; collective, unless ``alone``.

        Args:
            plan: What the autoencoder is built from.
            sample: How many volumes make a batch, and the weaker model of autoguidance.
            model: The exported model folder.
            autoencoder: Folder of an autoencoder trained in place.
            device: Where to compute.
            text: Fingerprint of the encoder whose features the model will be given; None: of none.
            out: Folder that keeps how the autoencoder was cut into windows; None: nowhere.
            alone: No other process does the same.
            quiet: Say nothing.

        Raises:
            UserError: A folder is incomplete; autoencoder or text encoder are not the model's.
        """
        facts = load_facts(model)
        network = load_model(model).to(device)
        guide = sample.autoguidance
        weaker = None if guide is None else load_weaker(guide, network, facts).to(device)
        coder = load_autoencoder(plan, autoencoder, device)
        # With the model in memory, and also for a process that has nothing left to make: one choice
        # for all volumes.
        size = sample.batch_size
        decoder = tiled(coder, plan, device, out, batch_size=size, alone=alone, quiet=quiet)
        problems = []
        if facts.autoencoder_fingerprint not in ("", coder.fingerprint):
            problems.append("the autoencoder is not the one whose latents the model has learnt")
        if (problem := other_text(facts, text)) is not None:
            problems.append(problem)
        if problems:
            raise UserError(
                "\n".join(problems), remedy="voxella train RECIPE   (trains anew on these)"
            )
        return cls(network, decoder, device, weaker)

    @torch.no_grad()
    def images(
        self,
        settings: GenerationSettings,
        requests: Sequence[Request],
        wanted: Collection[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[int, GeneratedImage]]:
        """Make a batch and yield its images, each with its place in the batch.

        As many are decoded together as memory allows.

        Args:
            settings: How latents are generated.
            requests: The batch.
            wanted: Places of the images to be decoded; None: all.
            on_step: Called with (steps done, steps in all).
        """
        made = generate(
            self.model,
            settings,
            requests,
            device=self.device,
            weaker=self.weaker,
            on_step=on_step,
        )
        shares = made.class_probabilities
        for start in range(0, len(requests), self.decoder.decode_batch):
            numbers = range(start, min(start + self.decoder.decode_batch, len(requests)))
            kept = [number for number in numbers if wanted is None or number in wanted]
            if not kept:
                continue
            images = self.decoder.decode(made.latents[start : numbers.stop])
            images = images.float().clamp(0, 1).cpu()
            for number in kept:
                own = None if shares is None else shares[number].cpu()
                yield number, GeneratedImage(images[number - start].numpy(), own)

    @torch.no_grad()
    def text_head(self, settings: GenerationSettings, request: Request) -> Tensor | None:
        """Return ``(K,)`` of the text head at the last network call of sampling, without one.

        Args:
            settings: How latents would be generated: the head is told the timestep.
            request: Whose conditions are asked about.
        """
        said = said_by_head(self.model, settings, [request], device=self.device)
        return None if said is None else said[0].cpu()


def other_text(facts: ModelFacts, fingerprint: str | None) -> str | None:
    """Return what is wrong with text features of another encoder than the model's; None: nothing.

    Args:
        facts: Of the model.
        fingerprint: Of the encoder; None where there is no text.
    """
    if fingerprint is None or facts.text is None or facts.text["encoder"] in ("", fingerprint):
        return None
    return "the text features are not of the encoder that the model was trained with"
