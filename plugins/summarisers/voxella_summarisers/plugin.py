"""Entry point of the built-in summarisers; imports nothing heavy until one is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.plugins.contracts import Summariser
from voxella.plugins.specs import hookimpl

__all__ = ["endpoint", "extractive", "given", "transformers", "voxella_factory"]

_WORDS = (10, 400)


def extractive(*, words: int = 75) -> Summariser:
    """Build the summariser that takes the report's own statements: no model, no weights.

    Args:
        words: Of a summary, at most.

    Raises:
        UserError: ``words`` is out of range.
    """
    from voxella_summarisers.extractive import ExtractiveSummariser

    return ExtractiveSummariser(_checked("extractive", words))


def given(
    *, table: Path, id_column: str = "id", summary_column: str = "summary", words: int = 400
) -> Summariser:
    """Build the summariser that looks summaries up in a table.

    Args:
        table: CSV with a line per summary, or JSON: an object of id to summary, or of id to a list
            of summaries. Several lines of one id are its variants.
        id_column: Column of the case's, patient's or slide's id.
        summary_column: Column of the summary.
        words: Of a summary, at most; a longer one is refused.

    Raises:
        UserError: The table cannot be read, or lacks a column.
    """
    from voxella_summarisers.given import read_given

    return read_given(Path(table), id_column, summary_column, _checked("given", words))


def transformers(
    *,
    model: Path,
    words: int = 75,
    max_tokens: int = 154,
    temperature: float = 1.0,
    device: str = "cpu",
) -> Summariser:
    """Build the summariser that asks a local causal language model, in two calls as PathLDM did.

    Args:
        model: Folder of model and tokenizer, as ``save_pretrained`` writes it. Nothing is
            downloaded.
        words: Asked for, and cut at.
        max_tokens: New tokens of the summary at most, in the model's own tokens.
        temperature: Of variants other than the first, which is greedy.
        device: Where the model runs.

    Raises:
        UserError: The folder holds no model, or an argument is out of range.
    """
    from voxella_summarisers.language_model import LanguageModelSummariser

    _checked("transformers", words)
    return LanguageModelSummariser(
        Path(model), words=words, max_tokens=max_tokens, temperature=temperature, device=device
    )


def endpoint(
    *,
    url: str,
    model: str,
    words: int = 75,
    max_tokens: int = 154,
    temperature: float = 1.0,
    timeout_s: float = 120.0,
    allow_network: bool = False,
) -> Summariser:
    """Build the summariser that asks a server which speaks OpenAI's protocol of chats.

    Args:
        url: Of the server, such as ``http://127.0.0.1:8000/v1``.
        model: Its name on that server.
        words: Asked for, and cut at.
        max_tokens: New tokens of the summary at most.
        temperature: Of variants other than the first, which is asked for with 0.
        timeout_s: Seconds to wait for one answer.
        allow_network: Whether reports, which are patient data, may leave this machine for the host
            that ``url`` names. Without it the host has to be this machine's own loopback.

    Raises:
        UserError: The host is another machine and that is not allowed, or an argument is out of
            range.
    """
    from voxella_summarisers.endpoint import EndpointSummariser

    return EndpointSummariser(
        url,
        model,
        words=_checked("endpoint", words),
        max_tokens=max_tokens,
        temperature=temperature,
        timeout_s=timeout_s,
        allow_network=allow_network,
    )


def _checked(name: str, words: int) -> int:
    low, high = _WORDS
    if not low <= words <= high:
        raise UserError(f"summariser {name}: words is {words}", expected=f"{low} to {high}")
    return words


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    builders: dict[str, Callable[..., Any]] = {
        "extractive": extractive,
        "given": given,
        "transformers": transformers,
        "endpoint": endpoint,
    }
    return builders.get(name)
