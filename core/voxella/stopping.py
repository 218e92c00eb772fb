"""Signals that ask a command to stop: it ends in order, a training with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "held_back", "raised", "requested"]

# Ctrl-C; a scheduler or launcher; a closed terminal; what batch scripts have sent before the end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# One press reaches a process twice, from the terminal and from its launcher.
_SAME_PRESS_SECONDS = 2.0
_asked: list[tuple[int, float]] = []


class Interrupted(KeyboardInterrupt):
    """A signal has ended the work.

    Args:
        number: The signal's.
        kept: What the work goes on from; empty where nobody took care.
    """

    def __init__(self, number: int, kept: str = "") -> None:
        self.number = number
        self.kept = kept
        super().__init__(kept)


@contextmanager
def raised() -> Iterator[None]:
    """Let every signal that asks to stop raise :class:`Interrupted`, as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled(end):
        yield


@contextmanager
def held_back() -> Iterator[None]:
    """Let them be noted instead: whoever works asks :func:`requested` where it can stop.

    Pressing Ctrl-C once more stops at once.
    """
    _asked.clear()
    with _handled(_note):
        yield
    if _asked:  # too late to be asked for
        raise Interrupted(_asked[0][0])


def requested() -> int:
    """Return the number of the signal that was held back; 0: there was none."""
    return _asked[0][0] if _asked else 0


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if not _asked:
        _asked.append((number, now))
        if os.environ.get("RANK", "0") == "0":
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nvoxella: stopping at the end of this step, with a checkpoint\n")
    elif number == signal.SIGINT and now - _asked[0][1] > _SAME_PRESS_SECONDS:
        raise Interrupted(number)


@contextmanager
def _handled(handler: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets no other thread say what a signal does
        return
    # nohup has closed terminals ignored, and a shell's background jobs ignore Ctrl-C.
    numbers = [n for n in _SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
