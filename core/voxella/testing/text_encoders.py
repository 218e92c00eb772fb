"""What every text encoder has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from voxella.testing.checks import assert_same, differs
from voxella.testing.contract import Contract

__all__ = ["TextEncoderContract"]

_SHORT = "No suspicious lesion. PI-RADS 1."
_MIDDLE = "Left peripheral zone: 9 mm focus with low signal on T2, marked restriction. PI-RADS 4."
# Longer than any `max_tokens` of the suite; its two ends differ, so that truncation shows.
_LONG = f"Prostate volume 41 ml. {_MIDDLE} {_SHORT} Seminal vesicles normal."
_KEPT = 16


class TextEncoderContract(Contract):
    """True lengths, truncation, padding, and independence of the batch's other reports.

    Encoders hold weights, so most need arguments (``arguments = {"path": ...}``).
    """

    kind: ClassVar[str] = "text_encoders"
    small: ClassVar[Mapping[str, Any]] = {"batch_size": 2, "device": "cpu"}

    def make(self, **changes: Any) -> Any:  # noqa: ANN401 - see build
        """Build the encoder; by default it keeps 128 tokens, cuts at the right, never pads."""
        injected: dict[str, Any] = {"max_tokens": 128, "truncation": "right", "padding": "none"}
        return self.build(**(injected | changes))

    def encode(self, encoder: Any, texts: list[str]) -> list[Tensor]:  # noqa: ANN401 - see build
        """Encode texts, checking what holds for every answer: one finite (L, F) per text."""
        found: list[Tensor] = encoder.encode(texts)
        assert len(found) == len(texts), f"{len(texts)} texts gave {len(found)} feature tensors"
        for features in found:
            shape = tuple(features.shape)
            assert shape == (max(len(features), 1), encoder.width), (
                f"features have shape {shape}, not (tokens, width={encoder.width})"
            )
            assert features.isfinite().all(), "features are not finite"
        return found

    def test_features_have_the_true_length(self) -> None:
        """A text has as many rows as tokens, whatever stands beside it in the batch."""
        encoder = self.make()
        texts = [_LONG, _SHORT, _MIDDLE]
        lengths = [len(features) for features in self.encode(encoder, texts)]
        counts = encoder.token_counts(texts)
        assert lengths == counts, f"token_counts says {counts}, the features have {lengths} rows"
        assert lengths[0] > lengths[2] > lengths[1], f"longer texts, no more rows: {lengths}"

    def test_empty_report_has_features(self) -> None:
        """A case without report uses the features of the empty string: at least one token."""
        self.encode(self.make(), [""])

    def test_a_text_alone_equals_the_text_in_a_batch(self) -> None:
        """Neither the other texts of a batch nor their order reach a text."""
        encoder = self.make()
        texts = [_LONG, _SHORT, "", _MIDDLE]
        together = self.encode(encoder, texts)
        for text, features in zip(texts, together, strict=True):
            alone = self.encode(encoder, [text])[0]
            assert_same({"features": features}, {"features": alone}, "a text encoded alone")

    def test_encoding_is_deterministic(self) -> None:
        """Two encoders built alike agree to the last bit, and so do their fingerprints."""
        first, second = self.make(), self.make()
        one, other = ({"features": self.encode(e, [_MIDDLE])[0]} for e in (first, second))
        assert_same(one, other, "encoded twice", tolerance=0.0)
        assert first.fingerprint == second.fingerprint, "fingerprints of equal encoders differ"

    def test_max_tokens_cuts_the_named_end(self) -> None:
        """A long text keeps ``max_tokens`` rows and loses the end that truncation names."""
        ends = {"right": [_LONG, "Xyz " + _LONG], "left": [_LONG, _LONG + " Xyz"]}
        kept = {}
        for end, texts in ends.items():
            encoder = self.make(max_tokens=_KEPT, truncation=end)
            features = self.encode(encoder, [_LONG])[0]
            assert len(features) == _KEPT, f"{len(features)} rows kept of max_tokens={_KEPT}"
            counts = encoder.token_counts(texts)
            assert counts[0] > _KEPT, "token_counts has to count before any truncation"
            kept[end] = {"features": features}
            same_end = _LONG + " Xyz" if end == "right" else "Xyz " + _LONG
            cut = {"features": self.encode(encoder, [same_end])[0]}
            assert_same(kept[end], cut, f"words added where truncation={end} cuts")
        assert differs(kept["right"], kept["left"]), "truncation left and right keep the same end"

    def test_padding_max_fills_up(self) -> None:
        """``padding="max"`` (paper mode) gives every text ``max_tokens`` rows."""
        found = self.encode(self.make(max_tokens=32, padding="max"), [_SHORT, ""])
        lengths = [len(features) for features in found]
        assert lengths == [32, 32], f"padding='max' gave {lengths} rows, not max_tokens=32"

    def test_fingerprint_tells_settings_apart(self) -> None:
        """The fingerprint is the cache's key: what changes features changes it."""
        settings: list[dict[str, Any]] = [
            {},
            {"max_tokens": 64},
            {"truncation": "left"},
            {"padding": "max"},
        ]
        prints = [self.make(**changes).fingerprint for changes in settings]
        assert all(isinstance(found, str) and found for found in prints), "fingerprint is no text"
        assert len(set(prints)) == len(settings), (
            "fingerprint has to change with max_tokens, truncation and padding"
        )

    def test_needs_no_gradient(self) -> None:
        """Features are cached: they hang on no graph."""
        with torch.enable_grad():
            features = self.encode(self.make(), [_SHORT])[0]
        assert not features.requires_grad, "features still hang on the encoder's graph"
