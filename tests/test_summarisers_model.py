"""The summariser that asks a local language model: two calls, offline, seeded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from voxella.errors import UserError
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Report
from voxella_summarisers.language_model import LanguageModelSummariser

WORDS = (
    "list the main points of following pathology report from these write a concise summary in at"
)
TEXT = "the main tumor report of a tumor in the pathology summary"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that never learned anything: it answers, and that is all that is asked."""
    home = tmp_path_factory.mktemp("model")
    words = ["<end>", "<unk>", *sorted(set(WORDS.split())), *(f"w{n}" for n in range(200))]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>"
    ).save_pretrained(home)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_positions=800, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(home)
    return home


def built(folder: Path, **arguments: object) -> LanguageModelSummariser:
    component = Component(name="transformers", model=folder, max_tokens=20, words=12, **arguments)
    made: LanguageModelSummariser = registry.build("summarisers", component)
    return made


def test_summaries_are_short_and_reproducible(folder: Path) -> None:
    made, reports = built(folder), [Report("a", TEXT), Report("b", "a report")]
    state = torch.random.get_rng_state()
    for variant in (0, 1):
        first = made(reports, variant=variant)
        assert first == [built(folder)([report], variant=variant)[0] for report in reports]
        assert all(1 <= len(summary.split()) <= 12 for summary in first)
    assert made(reports, variant=1) != made(reports, variant=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_second_call_reads_the_answer_to_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[dict[str, str]]] = []

    def answer(
        self: object, chat: list[dict[str, str]], report: Report, variant: int, most: int
    ) -> str:
        asked.append(chat)
        return f"answer {len(asked)}"

    monkeypatch.setattr(LanguageModelSummariser, "_answer", answer)
    assert built(folder)([Report("a", TEXT)]) == ["answer 2"]
    first, second = asked
    assert [turn["role"] for turn in first] == ["user"]
    assert TEXT in first[0]["content"]
    assert [turn["role"] for turn in second] == ["user", "assistant", "user"]
    assert second[1]["content"] == "answer 1"
    assert "12 words" in second[2]["content"]


def test_fingerprint_follows_weights_and_settings(folder: Path) -> None:
    first = built(folder).fingerprint
    assert built(folder).fingerprint == first
    assert built(folder, temperature=0.5).fingerprint != first


def test_a_report_too_long_for_the_model_is_refused_without_its_text(folder: Path) -> None:
    with pytest.raises(UserError, match="tokens with its question") as refused:
        built(folder)([Report("a", "SECRET " * 900)])
    assert "SECRET" not in str(refused.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        built(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no causal language model"):
        built(tmp_path)([Report("a", TEXT)])
