"""The model behind the page: what may be asked of it, its images, and what it says of a text."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.cache.cut_texts import cut_end
from voxella.cache.text_encoder import build_text_encoder
from voxella.case import ConditionValue
from voxella.errors import UserError
from voxella.plugins.contracts import TextEncoder, unknown_counts
from voxella.recipe.inputs import Text
from voxella.sampling.generator import Generator
from voxella.sampling.synthetic_image import SyntheticImage
from voxella.terminal import silent
from voxella.view.jobs import Asked

__all__ = ["MOST_COUNT", "AskedModel", "TextHead"]

MOST_COUNT = 16
# A text head that takes longer is not asked at every pause in typing.
_QUICK_SECONDS = 4.0
_SHOWN_CUT = 400


@dataclass(frozen=True)
class TextHead:
    """What the text head says of a prompt.

    Attributes:
        probabilities: By class; None where it was not asked.
        why: The reason, then.
    """

    probabilities: dict[str, float] | None
    why: str = ""


class AskedModel:
    """A :class:`voxella.Generator` that several threads ask: one at a time on its device.

    Args:
        folder: A model folder, or a run's.
        autoencoder: As :meth:`voxella.Generator.open` takes it.
        device: The same.
        settings: The same.

    Raises:
        UserError: As :meth:`voxella.Generator.open`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        autoencoder: Path | None = None,
        device: str = "auto",
        settings: Sequence[str] = (),
    ) -> None:
        self.generator = Generator.open(
            folder, autoencoder=autoencoder, device=device, settings=settings
        )
        self._device = threading.Lock()
        self._tokens = threading.Lock()
        self._encoder: TextEncoder | None = None
        self._head_seconds = 0.0

    def told(self) -> dict[str, Any]:
        """Return what the page's form needs to know."""
        recipe, facts = self.generator.recipe, self.generator.facts
        sample, text = recipe.sample, recipe.text
        return {
            "classes": facts.classes,
            "conditions": [
                {
                    "name": name,
                    "kind": block.kind,
                    "range": block.range,
                    "values": block.values,
                    "required": block.missing == "refuse",
                }
                for name, block in recipe.conditions.items()
            ],
            "reads_text": text is not None,
            "most_tokens": None if text is None else text.max_tokens,
            "seed": recipe.seed,
            "steps": sample.steps,
            "guidance": sample.guidance,
            "sampler": sample.sampler,
            "most_count": MOST_COUNT,
            "sequences": list(recipe.data.sequences),
            "picture": len(recipe.latent.size) == 2,
            "trained_steps": facts.step,
            "spacing_mm": facts.spacing_mm,
        }

    def make(self, asked: Asked, on_step: Callable[[int, int], None]) -> list[SyntheticImage]:
        """Make the images of a request.

        The name is the same for all, so one seed is one noise: what differs is the prompt's doing.

        Raises:
            UserError: As :meth:`voxella.Generator.generate`.
        """
        with self._device, silent():
            return self.generator.generate(
                report=asked.report or None,
                label=asked.label,
                conditions=asked.conditions,
                seed=asked.seed,
                steps=asked.steps,
                guidance=asked.guidance,
                count=asked.count,
                on_step=on_step,
            )

    def tokens(self, report: str) -> dict[str, Any] | None:
        """Return how many tokens a text has and what of it the encoder cuts; None without one.

        ``{"tokens", "most", "unknown", "cut", "end"}``; ``cut`` is the part that is lost.
        """
        text = self.generator.recipe.text
        if text is None:
            return None
        with self._tokens:
            if self._encoder is None:
                self._encoder = build_text_encoder(text, tokens_only=True)
            count = self._encoder.token_counts([report])[0]
            unknown = unknown_counts(self._encoder, [report])[0]
            cut = "" if count <= text.max_tokens else _cut(self._encoder, text, report)
        end = cut_end(text.truncation)
        shown = cut[:_SHOWN_CUT] if end == "end" else cut[-_SHOWN_CUT:]
        found = {"tokens": count, "most": text.max_tokens, "unknown": unknown}
        return {**found, "cut": shown, "cut_characters": len(cut), "end": end}

    def head(
        self,
        report: str,
        label: str | None,
        conditions: Mapping[str, ConditionValue],
        *,
        patient: bool = False,
    ) -> TextHead:
        """Return what the text head says of a prompt; it never waits for a generation.

        Args:
            report: The text.
            label: One of the classes, or None.
            conditions: By name.
            patient: Ask it even where it is slow.

        Raises:
            UserError: As :meth:`voxella.Generator.generate`.
        """
        if self._head_seconds > _QUICK_SECONDS and not patient:
            return TextHead(None, "slow")
        if not self._device.acquire(blocking=False):
            return TextHead(None, "busy")
        try:
            _ = self.generator.networks  # loading them is no measure of the head
            started = time.monotonic()
            with silent():
                said = self.generator.text_head(report=report, label=label, conditions=conditions)
            self._head_seconds = time.monotonic() - started
        finally:
            self._device.release()
        return TextHead(said, "" if said else "none")

    def warm(self) -> None:
        """Load the networks before they are asked for; a mistake is told when they are."""
        with self._device:
            try:
                _ = self.generator.networks
            except UserError:
                return


def _cut(encoder: TextEncoder, text: Text, report: str) -> str:
    """Return the words beyond the encoder's tokens, found by halving; a word cut in two is lost."""
    keeps_end = cut_end(text.truncation) == "beginning"
    words = list(re.finditer(r"\S+", report))
    # Where the text may be cut, the place that keeps least first.
    places = [word.start() for word in reversed(words)] if keeps_end else [w.end() for w in words]
    low, high = 0, len(places)
    while low < high:  # the longest part that fits is of `low` words
        middle = (low + high + 1) // 2
        place = places[middle - 1]
        part = report[place:] if keeps_end else report[:place]
        fits = encoder.token_counts([part])[0] <= text.max_tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    if low == 0:
        return report
    return report[: places[low - 1]] if keeps_end else report[places[low - 1] :].lstrip()
