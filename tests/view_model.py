"""A small model that reads texts, never trained, and a client that has been let in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from voxella.testing.small_models import SMALL_MODELS, small_model
from voxella.view.access import Access
from voxella.view.app import Section, make_app

__all__ = ["BASE", "MOST_TOKENS", "client", "post", "text_model"]

BASE = "http://127.0.0.1:4711"
MOST_TOKENS = 16
_TEXT = {"encoder": {"name": "minilm"}, "width": 384, "max_tokens": MOST_TOKENS}
_AGE = {"age": {"kind": "number", "range": [40, 90]}}


def text_model(folder: Path, *, steps: int = 4) -> Path:
    """Write a model folder that takes a report, a label and an age."""
    usual = SMALL_MODELS["volume_with_text"]
    vectors = [*usual["vectors"], {"name": "age", "scale": 10}]
    more = {
        "text": _TEXT,
        "conditions": _AGE,
        "vectors": vectors,
        "sample": {"sampler": "ddim", "steps": steps},
    }
    model = small_model(folder, {**usual, **more})
    facts = json.loads((model / "config.json").read_text())
    facts["text"]["encoder"] = ""  # not known, so that the real one is taken
    facts["conditions"] = {"age": {**_AGE["age"], "values": None}}
    (model / "config.json").write_text(json.dumps(facts))
    return model


def client(sections: Sequence[Section]) -> TestClient:
    """Return a browser that has the cookie."""
    access = Access(token="t")
    found = TestClient(make_app(sections, access, shown="shown"), BASE, False)
    found.cookies.set("voxella-4711", "t")
    return found


def post(browser: TestClient, path: str, body: Any) -> Any:
    """Send JSON as the page does."""
    return browser.post(path, json=body, headers={"origin": BASE})
