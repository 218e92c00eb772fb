"""A run's pseudonyms worked out apart from the code, under a key that tests put into their runs."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

SECRET = "0b" * 32


def give_key(run: Path) -> Path:
    """Put the key into a run's folder, before anything has made another."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "pseudonyms.key").write_text(SECRET + "\n")
    return run


def mark(kind: str, value: str) -> str:
    """HMAC-SHA-256 of kind and value: its first 64 bits."""
    message = f"{kind}:{value}".encode()
    return hmac.new(bytes.fromhex(SECRET), message, hashlib.sha256).hexdigest()[:16]


def hidden(case: str) -> str:
    """What stands for a case."""
    return "c" + mark("case", case)


def counterpart(case: str, number: int = 0) -> str:
    """The id of what was made for a case."""
    return f"{hidden(case)}-s{number:03d}"
