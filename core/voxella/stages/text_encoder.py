"""The recipe's text encoder, held to its contract and kept from quoting a report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.plugins import registry
from voxella.plugins.contracts import TextEncoder
from voxella.recipe.model import Text

__all__ = ["build_text_encoder"]

_T = TypeVar("_T")


def build_text_encoder(text: Text) -> TextEncoder:
    """Build the text encoder of a recipe's ``text`` block.

    What it returns is checked, and an exception it raises is replaced by one that names its place
    and withholds its message, which may quote a report.

    Raises:
        UserError: The encoder's width is not the recipe's.
    """
    encoder = registry.build(
        "text_encoders",
        text.encoder,
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


class _HeldEncoder:
    """A :class:`TextEncoder` about a plugin's."""

    def __init__(self, name: str, encoder: TextEncoder) -> None:
        self.width = encoder.width
        self.fingerprint = encoder.fingerprint
        self.identity = dict(getattr(encoder, "identity", {}))
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
