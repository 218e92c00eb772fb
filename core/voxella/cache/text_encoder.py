"""The recipe's text encoder, held to its contract and kept from quoting a report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from voxella.engine.runtime import all_gather_object
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.machine import raise_if_machine
from voxella.plugins import registry
from voxella.plugins.contracts import TextEncoder, unknown_counts
from voxella.ranks import Ranks
from voxella.recipe.model import Text
from voxella.texts.markers import without_markers

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
    return _HeldEncoder(
        text.encoder.name, cast("TextEncoder", encoder), replace_markers=text.replace_markers
    )


def encoding_ranks(world: int) -> list[int]:
    """Return the processes that encode: the first of every host; collective.

    Processes that are not connected know nothing of each other: each encodes its share.
    """
    local_ranks = all_gather_object(Ranks.from_environment().local_rank)
    if len(local_ranks) != world:
        return list(range(world))
    return [number for number, local in enumerate(local_ranks) if number == 0 or local == 0]


def require_one_encoder(fingerprint: str | None) -> None:
    """Refuse to mix the features of several encoders; collective.

    Raises:
        UserError: The hosts' folders hold different weights.
    """
    known = {number: found for number, found in enumerate(all_gather_object(fingerprint)) if found}
    other = [number for number, found in known.items() if found != next(iter(known.values()))]
    if other:
        raise UserError(
            "the text encoder of process 0 is another one than that of process "
            + ", ".join(map(str, other)),
            expected="the same weights, tokenizer and settings on every host",
            remedy="copy the model's folder from the first host to the others",
        )


class _HeldEncoder:
    """A :class:`TextEncoder` about a plugin's.

    With ``replace_markers`` every text, a data set's or a prompt's, goes in without the marks of
    de-identification; the fingerprint is another one then, and so are the keys of all features.
    """

    def __init__(self, name: str, encoder: TextEncoder, *, replace_markers: bool = False) -> None:
        self.width = encoder.width
        self.fingerprint = encoder.fingerprint
        self._replace_markers = replace_markers
        if replace_markers:
            self.fingerprint = sha256_json([encoder.fingerprint, "without markers"])
        self.identity = dict(getattr(encoder, "identity", {}))
        self.batch_size = int(getattr(encoder, "batch_size", 1))
        self._name = name
        self._encoder = encoder

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        given = self._given(texts)
        return _guarded("counting tokens", lambda: self._encoder.token_counts(given))

    def unknown_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text are ``<unk>``; 0 where an encoder does not tell."""
        given = self._given(texts)
        return _guarded("counting unknown words", lambda: unknown_counts(self._encoder, given))

    def _given(self, texts: Sequence[str]) -> list[str]:
        return [without_markers(text) if self._replace_markers else text for text in texts]

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        given = self._given(texts)
        found = _guarded("encoding", lambda: self._encoder.encode(given))
        for features in found:
            self._check(features)
        return found

    def _check(self, features: Tensor) -> None:
        shape = tuple(features.shape)
        if len(shape) != 2 or shape[0] < 1 or shape[1] != self.width:
            raise UserError(
                f"text encoder {self._name} returned features of {shape}",
                expected=f"(tokens, {self.width}) with at least one token",
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
