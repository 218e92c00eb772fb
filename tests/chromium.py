"""Headless Chromium through its debugging pipe: no driver, no port, no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Chromium", "binary"]

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--mute-audio"),
    "--remote-debugging-pipe",
)
# WebGL2 on the processor, where no machine need have a graphics card.
_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
_PATIENCE_SECONDS = 60.0


def binary() -> str | None:
    """Return Chromium's or Chrome's program, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


class Chromium:
    """One page in one browser, as a context.

    Args:
        profile: Its folder.
        webgl: With WebGL2, computed by the processor.

    Attributes:
        problems: Errors and warnings of the console, exceptions, and what the policy has refused.
        requests: Every address asked for.
    """

    def __init__(self, profile: Path, *, webgl: bool = False) -> None:
        program = binary()
        assert program is not None, "asked for only where there is one"
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._buffer = b""
        self._last = 0
        self._in, answers = os.pipe()
        commands, self._out = os.pipe()
        # Out of the way of the two descriptors that are made of them.
        read_there, write_there = (
            fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)
        )
        # The browser reads commands from descriptor 3 and answers on 4.
        command = f'exec 3<&{read_there} 4>&{write_there}; exec "$@"'
        flags = [flag for flag in _FLAGS if not (webgl and flag == "--disable-gpu")]
        options = [*flags, *(_WEBGL if webgl else ()), f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", program, *options],
            pass_fds=(read_there, write_there),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (answers, commands, read_there, write_there):
            os.close(end)
        self._session: str | None = None

    def __enter__(self) -> Chromium:
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        except BaseException:
            self._process.kill()
            raise
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path, *, dark: bool = False, width: int = 1200) -> None:
        """Load a page of the disk and wait until it is there."""
        self.look(dark=dark, width=width)
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def visit(self, address: str, ready: str = "true", *, scheme: str = "http") -> None:
        """Load a page of a server, or of another scheme, and wait until a condition holds in it."""
        self.call("Page.navigate", url=address)
        at_rest = "document.body && document.readyState === 'complete'"
        self.until(f"{at_rest} && location.protocol.startsWith('{scheme}') && ({ready})")

    def look(self, *, dark: bool = False, width: int = 1200, height: int = 900) -> None:
        """Choose the window's size and the colour scheme."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        patience = time.monotonic() + _PATIENCE_SECONDS
        while not self.evaluate(condition):
            if time.monotonic() > patience:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, as a hand would."""
        codes = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowRight": 39, "ArrowLeft": 37}
        about = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        about |= {"modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, letter: str) -> None:
        """Type one letter or digit."""
        about = {"key": letter, "text": letter, "unmodifiedText": letter}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Take a picture of the window, or of the whole page."""
        more: dict[str, Any] = {"captureBeyondViewport": whole}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            more["clip"] = {**size, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", **more)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], _PATIENCE_SECONDS)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._in, 2**20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._listen(message.get("method"), message.get("params", {}))
        return message

    def _listen(self, event: str | None, about: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.problems.append(str(about["exceptionDetails"].get("text")))
        elif event == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.problems.append(str(about["args"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(about["entry"]["text"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(str(about["request"]["url"]))
