"""Summaries by a local causal language model, in two calls: main points, then a short summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.hashing import sha256_bytes, sha256_file, sha256_json
from voxella.plugins.contracts import Report
from voxella.wording import shown_path

__all__ = ["LanguageModelSummariser", "points_prompt", "summary_prompt"]

_POINTS_TOKENS = 512
_WEIGHTS = (".safetensors", ".bin", ".json", ".model", ".txt")


def points_prompt(report: str) -> str:
    """Return the first question. The paper prints its own only as an image; this is ours."""
    return f"List the main points of the following pathology report.\n\n{report.strip()}"


def summary_prompt(words: int) -> str:
    """Return the second question, asked in the same chat."""
    return f"From these points write a concise summary of the report in at most {words} words."


class LanguageModelSummariser:
    """A model folder behind the contract of a summariser; loaded at the first report.

    Raises:
        UserError: The folder holds no model, or an argument is out of range.
    """

    def __init__(
        self, model: Path, *, words: int, max_tokens: int, temperature: float, device: str
    ) -> None:
        if not (model / "config.json").is_file():
            raise UserError(
                f"summariser transformers: {shown_path(model)} holds no config.json",
                expected="a folder of model and tokenizer, as save_pretrained writes it",
            )
        if max_tokens < 1 or temperature <= 0:
            raise UserError(
                f"summariser transformers: max_tokens {max_tokens}, temperature {temperature:g}",
                expected="max_tokens 1 or more, temperature above 0",
            )
        self.model, self.words, self.max_tokens = model, words, max_tokens
        self.temperature, self.device = temperature, device
        files = sorted(p for p in model.iterdir() if p.suffix in _WEIGHTS)
        hashes = {path.name: sha256_file(path) for path in files}
        settings = [words, max_tokens, temperature, points_prompt(""), summary_prompt(words)]
        self.fingerprint = f"transformers {sha256_json([hashes, settings])}"
        self._loaded: tuple[Any, Any] | None = None

    def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
        """Return one summary per report, one report at a time.

        Raises:
            UserError: The model's answer is empty.
        """
        return [self._summarised(report, variant) for report in reports]

    def _summarised(self, report: Report, variant: int) -> str:
        first = {"role": "user", "content": points_prompt(report.text)}
        points = self._answer([first], report, variant, _POINTS_TOKENS)
        second = {"role": "user", "content": summary_prompt(self.words)}
        chat = [first, {"role": "assistant", "content": points}, second]
        summary = " ".join(self._answer(chat, report, variant, self.max_tokens).split())
        if not summary:
            raise UserError(
                f"summariser transformers: the model said nothing of the report of {report.id}",
                remedy="take a model that follows instructions, or summarise with extractive",
            )
        return " ".join(summary.split()[: self.words])

    def _answer(self, chat: list[dict[str, str]], report: Report, variant: int, most: int) -> str:
        import torch

        tokenizer, model = self._load()
        if getattr(tokenizer, "chat_template", None):
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        else:
            text = "\n\n".join(turn["content"] for turn in chat) + "\n\n"
        # The template has written the tokens of a beginning already.
        special = not getattr(tokenizer, "chat_template", None)
        tokens = tokenizer(text, return_tensors="pt", add_special_tokens=special)
        room = int(getattr(model.config, "max_position_embeddings", 0) or 2**20) - most
        if room < 1 or tokens["input_ids"].shape[1] > room:
            raise UserError(
                f"summariser transformers: the report of {report.id} takes "
                f"{tokens['input_ids'].shape[1]} tokens with its question",
                expected=f"at most {max(room, 0)} in this model, so that {most} are left to answer",
            )
        seed = int(sha256_bytes(f"{variant}\x1f{report.text}".encode())[:15], 16)
        sampling = {"do_sample": True, "temperature": self.temperature} if variant else {}
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            made = model.generate(
                **tokens.to(self.device),
                max_new_tokens=most,
                pad_token_id=tokenizer.eos_token_id,
                **(sampling or {"do_sample": False}),
            )
        begin = tokens["input_ids"].shape[1]
        return str(tokenizer.decode(made[0, begin:], skip_special_tokens=True))

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            try:
                tokenizer = AutoTokenizer.from_pretrained(self.model, local_files_only=True)
                model = AutoModelForCausalLM.from_pretrained(self.model, local_files_only=True)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"summariser transformers: {shown_path(self.model)} holds no causal language "
                    f"model with its tokenizer ({type(error).__name__})",
                    expected="a folder of model and tokenizer, as save_pretrained writes it",
                ) from None
            self._loaded = tokenizer, model.to(self.device).eval()
        return self._loaded
