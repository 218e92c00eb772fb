"""The recipe's text encoder, held to its contract and kept from quoting a report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from voxella.engine.ranks import Ranks
from voxella.engine.runtime import gathered
from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.plugins import registry
from voxella.plugins.contracts import TextEncoder
from voxella.recipe.model import Text

__all__ = ["build_text_encoder", "encoding_ranks", "require_one_encoder"]

_T = TypeVar("_T")


def build_text_encoder(text: Text, *, tokens_only: bool = False) -> TextEncoder:
    """Build the text encoder of a recipe's ``text`` block.

    What it returns is checked, and an exception it raises is replaced by one that names its place
    and withholds its message, which may quote a report. Where the recipe does not say in what the
    encoder computes, it is what holds its features.

    Args:
        text: The block.
        tokens_only: Only tokens will be counted: an encoder that can do so without its weights
            does not read them.

    Raises:
        UserError: The encoder's width is not the recipe's.
    """
    named = "dtype" in text.encoder.arguments
    encoder = registry.build(
        "text_encoders",
        text.encoder,
        **({} if named else {"dtype": text.encoder_dtype}),
        tokens_only=tokens_only,
        max_tokens=text.max_tokens,
        truncation=text.truncation,
        padding=text.padding,
    )
    if encoder.width != text.width:
        raise UserError(
            f"text encoder {text.encoder.name} gives features {encoder.width} wide, "
            f"the recipe's text.width is {text.width}",
            remedy=f"--set text.width={encoder.width}",
        )
    return _HeldEncoder(text.encoder.name, cast("TextEncoder", encoder))


def encoding_ranks(world: int) -> list[int]:
    """Return the processes that encode: the first of every host; collective.

    Processes that are not connected know nothing of each other: each encodes its share.
    """
    local_ranks = gathered(Ranks.from_environment().local_rank)
    if len(local_ranks) != world:
        return list(range(world))
    return [number for number, local in enumerate(local_ranks) if number == 0 or local == 0]


def require_one_encoder(fingerprint: str | None) -> None:
    """Refuse to mix the features of several encoders; collective.

    Raises:
        UserError: The hosts' folders hold different weights.
    """
    known = {number: found for number, found in enumerate(gathered(fingerprint)) if found}
    other = [number for number, found in known.items() if found != next(iter(known.values()))]
    if other:
        raise UserError(
            "the text encoder of process 0 is another one than that of process "
            + ", ".join(map(str, other)),
            legal="the same weights, tokenizer and settings on every host",
            remedy="copy the model's folder from the first host to the others",
        )


class _HeldEncoder:
    """A :class:`TextEncoder` about a plugin's."""

    def __init__(self, name: str, encoder: TextEncoder) -> None:
        self.width = encoder.width
        self.fingerprint = encoder.fingerprint
        self.identity = dict(getattr(encoder, "identity", {}))
        self.batch_size = int(getattr(encoder, "batch_size", 1))
        self._name = name
        self._encoder = encoder

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return _guarded("counting tokens", lambda: self._encoder.token_counts(texts))

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        found = _guarded("encoding", lambda: self._encoder.encode(texts))
        for features in found:
            self._check(features)
        return found

    def _check(self, features: Tensor) -> None:
        shape = tuple(features.shape)
        if len(shape) != 2 or shape[0] < 1 or shape[1] != self.width:
            raise UserError(
                f"text encoder {self._name} returned features of {shape}",
                legal=f"(tokens, {self.width}) with at least one token",
            )
        if not bool(torch.isfinite(features).all()):
            raise UserError(
                f"text encoder {self._name} returned features that are not finite",
                remedy="run the encoder in float32 or bfloat16: T5 overflows in float16",
            )


def _guarded(doing: str, act: Callable[[], _T]) -> _T:
    """Keep a plugin's exception, whose message may quote a report, from reaching anyone."""
    try:
        return act()
    except UserError:
        raise
    except Exception as error:
        raise_if_machine(error)
        kind = type(error).__name__
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}, in {last.name}"
    raise RuntimeError(
        f"{doing} failed in the text encoder: {kind} at {where} "
        "(its message is withheld: it might quote a report)"
    )
