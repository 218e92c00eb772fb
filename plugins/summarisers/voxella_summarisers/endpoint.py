"""Summaries by a server that speaks OpenAI's protocol of chats, on this machine by default."""

from __future__ import annotations

import ipaddress
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http.client import HTTPMessage
from typing import IO, Any

from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.plugins.contracts import Report
from voxella_summarisers.language_model import points_prompt, summary_prompt

__all__ = ["EndpointSummariser", "is_loopback"]

_POINTS_TOKENS = 512
_MOST_BYTES = 2**20
_SEEDS = 2**31


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A server may not send reports on to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Refuse, so that the answer counts as an error."""


class EndpointSummariser:
    """A chat server behind the contract of a summariser.

    Raises:
        UserError: The host is another machine and that is not allowed, or an argument is out of
            range.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        words: int,
        max_tokens: int,
        temperature: float,
        timeout_s: float,
        allow_network: bool,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UserError(
                "summariser endpoint: url is no address of a server",
                expected="http://127.0.0.1:PORT/v1, without a user or password",
            )
        if not is_loopback(parts.hostname) and not allow_network:
            raise UserError(
                f"summariser endpoint: {parts.hostname} is not this machine, and reports are "
                "patient data",
                remedy="serve the model on 127.0.0.1, or say allow_network: true",
            )
        if max_tokens < 1 or temperature <= 0 or timeout_s <= 0:
            raise UserError(
                "summariser endpoint: max_tokens, temperature or timeout_s is not positive",
                expected="max_tokens 1 or more, temperature and timeout_s above 0",
            )
        self.url, self.host, self.model = url.rstrip("/"), parts.hostname, model
        self.words, self.max_tokens = words, max_tokens
        self.temperature, self.timeout_s = temperature, timeout_s
        asked = [points_prompt(""), summary_prompt(words)]
        settings = [self.url, model, words, max_tokens, temperature, asked]
        self.fingerprint = f"endpoint {sha256_json(settings)}"

    def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
        """Return one summary per report, two calls each.

        Raises:
            UserError: The server does not answer, or not with a text.
        """
        return [self._summarised(report, variant) for report in reports]

    def _summarised(self, report: Report, variant: int) -> str:
        first = {"role": "user", "content": points_prompt(report.text)}
        points = self._answer([first], report, variant, _POINTS_TOKENS)
        second = {"role": "user", "content": summary_prompt(self.words)}
        chat = [first, {"role": "assistant", "content": points}, second]
        summary = self._answer(chat, report, variant, self.max_tokens).split()
        if not summary:
            raise self._refused(report, "its answer is empty")
        return " ".join(summary[: self.words])

    def _answer(self, chat: list[dict[str, str]], report: Report, variant: int, most: int) -> str:
        body = {
            "model": self.model,
            "messages": chat,
            "max_tokens": most,
            "temperature": self.temperature if variant else 0,
            "seed": variant % _SEEDS,
        }
        request = urllib.request.Request(
            f"{self.url}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        # No proxy of the environment: what is asked of this machine stays on it.
        handlers = [_NoRedirect(), urllib.request.ProxyHandler({})]
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(request, timeout=self.timeout_s) as response:
                told: Any = json.loads(response.read(_MOST_BYTES))
            text = told["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            # Its body may repeat the report.
            raise self._refused(report, f"it answers {error.code}") from None
        except OSError as error:
            raise self._refused(report, f"{type(error).__name__}") from None
        except (ValueError, LookupError, TypeError):
            raise self._refused(report, "its answer is no chat completion") from None
        if not isinstance(text, str):
            raise self._refused(report, "its answer is no text")
        return text

    def _refused(self, report: Report, why: str) -> UserError:
        return UserError(
            f"summariser endpoint: the server on {self.host} gives no summary of the report of "
            f"{report.id}: {why}",
            remedy="see that the server runs and has that model; summaries made before are kept",
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name or number; nothing is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
