"""The summariser that asks a server: on this machine unless another is allowed, nothing leaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from voxella.errors import UserError
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Report, Summariser
from voxella_summarisers.endpoint import is_loopback

SECRET = "SECRET finding in the left breast"


class Server(HTTPServer):
    """Answers as it is told, and remembers what it was asked."""

    asked: list[dict[str, Any]]
    answer: Any
    status: int


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append({"path": self.path, **json.loads(body)})
        said = self.server.answer
        if callable(said):
            said = said(len(self.server.asked))
        text = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "http://127.0.0.1:9/v1")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def chat(text: object) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.asked, made.status = [], 200
    made.answer = lambda number: chat(f"answer {number} " + "word " * 100)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def built(server: Server, **arguments: object) -> Summariser:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    component = Component(name="endpoint", url=url, model="m", timeout_s=5.0, **arguments)
    made: Summariser = registry.build("summarisers", component)
    return made


def test_two_calls_in_one_chat_and_at_most_75_words(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy of the environment would see every report.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    (summary,) = built(server)([Report("a", SECRET)])
    assert summary.startswith("answer 2 word")
    assert len(summary.split()) == 75
    first, second = server.asked
    assert first["path"] == second["path"] == "/v1/chat/completions"
    assert SECRET in first["messages"][0]["content"]
    assert [turn["role"] for turn in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"].startswith("answer 1")
    assert (second["max_tokens"], second["temperature"], second["seed"]) == (154, 0, 0)


def test_variants_are_drawn_with_their_own_seed(server: Server) -> None:
    built(server)([Report("a", SECRET)], variant=3)
    assert {(one["temperature"], one["seed"]) for one in server.asked} == {(1.0, 3)}


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (500, SECRET.encode(), "it answers 500"),
        (302, b"", "it answers 302"),
        (200, SECRET.encode(), "no chat completion"),
        (200, {"choices": []}, "no chat completion"),
        (200, chat(None), "no text"),
        (200, chat("  "), "is empty"),
    ],
)
def test_faulty_answers_are_refused_without_the_report(
    server: Server, status: int, answer: object, words: str
) -> None:
    server.status, server.answer = status, answer
    with pytest.raises(UserError, match=words) as refused:
        built(server)([Report("a", SECRET)])
    assert "SECRET" not in f"{refused.value} {refused.value.__cause__}"
    assert "of a:" in str(refused.value)


def test_a_server_that_is_not_there(server: Server) -> None:
    made = built(server)
    server.server_close()
    with pytest.raises(UserError, match="gives no summary of the report of a"):
        made([Report("a", SECRET)])


@pytest.mark.parametrize(
    "url", ["http://example.org/v1", "https://10.0.0.5/v1", "http://127.0.0.1.example.org/v1"]
)
def test_another_machine_has_to_be_allowed(url: str) -> None:
    with pytest.raises(UserError, match="is not this machine"):
        registry.build("summarisers", Component(name="endpoint", url=url, model="m"))
    component = Component(name="endpoint", url=url, model="m", allow_network=True)
    assert registry.build("summarisers", component).words == 75


@pytest.mark.parametrize("url", ["nowhere", "file:///etc/passwd", "http://me:word@127.0.0.1/v1"])
def test_what_is_no_address_is_refused_and_no_password_repeated(url: str) -> None:
    with pytest.raises(UserError, match="no address of a server") as refused:
        registry.build("summarisers", Component(name="endpoint", url=url, model="m"))
    assert "word@" not in str(refused.value)


def test_loopback_by_name_and_number() -> None:
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.1", "localhost.example.org", "")))
