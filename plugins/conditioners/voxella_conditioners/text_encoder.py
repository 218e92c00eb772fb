"""Reports to token features, one transformer at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from voxella.hashing import sha256_json

__all__ = ["TokenEncoder"]


class TokenEncoder:
    """Last hidden states of a transformers encoder, one row per token.

    The encoder's own attention always masks padding, so no result depends on which reports share
    a batch. The released code does the same (it passes T5 its attention mask). With padding ``max``
    the rows of the padded positions are kept as the encoder returns them, as the released code
    does: they are not zero, and the adapter attends to them unless a mask says otherwise.

    Args:
        model: Maps ``input_ids`` and ``attention_mask`` to ``last_hidden_state``.
        tokenizer: A transformers tokenizer whose truncation side is set.
        max_tokens: Tokens kept per report, special tokens included.
        padding: ``none`` for true length, ``max`` to pad every report to ``max_tokens``.
        batch_size: Reports per forward pass.
        device: Where the model computes.
        identity: What features depend on: hashes of weights and tokenizer, settings. A cache made
            with another one is told what differs; the fingerprint is a hash over it.
    """

    width: int
    fingerprint: str
    identity: Mapping[str, object]

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,  # noqa: ANN401 - transformers ships no types
        *,
        max_tokens: int,
        padding: Literal["none", "max"],
        batch_size: int,
        device: torch.device,
        identity: Mapping[str, object],
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._padding = padding
        self._device = device
        self.batch_size = batch_size
        self.identity = identity
        self.fingerprint = sha256_json(dict(identity))
        config: Any = model.config
        self.width = int(config.hidden_size)

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Return one ``(L_i, F)`` tensor per text, on the CPU, in the model's dtype.

        L_i is the text's own token count after truncation, special tokens included, and at least
        1; with padding ``max`` it is ``max_tokens`` for all.
        """
        rows = self._token_ids(texts, truncation=True)
        # Alike lengths share a batch; the longest come first, so that memory fails at once.
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        features: dict[int, Tensor] = {}
        for start in range(0, len(order), self.batch_size):
            picked = order[start : start + self.batch_size]
            features |= zip(picked, self._forward([rows[i] for i in picked]), strict=True)
        return [features[index] for index in range(len(rows))]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return each text's full token count, before any truncation."""
        return [len(row) for row in self._token_ids(texts, truncation=False)]

    def unknown_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text are the unknown one, before any truncation.

        Words and signs that the vocabulary does not have become that token. A tokenizer of bytes
        has none that means only this, and loses nothing.
        """
        known = self._tokenizer
        unknown = known.unk_token_id
        if unknown is None or unknown in (
            known.pad_token_id,
            known.eos_token_id,
            known.bos_token_id,
        ):
            return [0] * len(texts)
        rows = self._token_ids(texts, truncation=False)
        return [row.count(unknown) if text else 0 for text, row in zip(texts, rows, strict=True)]

    def _token_ids(self, texts: Sequence[str], *, truncation: bool) -> list[list[int]]:
        if not texts:
            return []
        rows: list[list[int]] = self._tokenizer(
            list(texts),
            truncation=truncation,
            max_length=self._max_tokens if truncation else None,
            padding=False,
            verbose=False,
        )["input_ids"]
        # A tokenizer without special tokens makes nothing of an empty report.
        return [row or [self._filler()] for row in rows]

    def _filler(self) -> int:
        known = self._tokenizer
        ids = (known.pad_token_id, known.eos_token_id, known.bos_token_id, known.unk_token_id)
        return next((int(token) for token in ids if token is not None), 0)

    @torch.no_grad()
    def _forward(self, rows: list[list[int]]) -> list[Tensor]:
        """Encode rows of token ids, padded on the right, in one pass."""
        padded = self._padding == "max"
        length = self._max_tokens if padded else max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self._filler())
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        hidden: Tensor = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
        ).last_hidden_state.cpu()
        kept = [length if padded else len(row) for row in rows]
        return [hidden[index, :count].clone() for index, count in enumerate(kept)]
