"""The server: a free port of this machine, one address with a token, and a browser if there is one.

Everything is one process. uvicorn's access log is off: addresses and bodies are nobody's business.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from voxella.errors import UserError
from voxella.progress import print_line
from voxella.view.access import Access
from voxella.view.app import Section, make_app

__all__ = ["ServeSettings", "serve"]

_LOOPBACK = "127.0.0.1"
# Connections at once; more are answered 503 and come again.
_CONNECTIONS = 512
_ENDING_SECONDS = 3


@dataclass(frozen=True)
class ServeSettings:
    """Where the server listens.

    Attributes:
        host: Address; anything but this machine's own needs a certificate.
        port: 0: any free one.
        certificate: PEM file; None: plain HTTP.
        key: Of the certificate; None: in the same file.
        browser: Open one if there is one.
    """

    host: str = _LOOPBACK
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    browser: bool = True

    def check(self) -> None:
        """Refuse to send pictures of patients over a network in the clear.

        Raises:
            UserError: There is no certificate, or it cannot be used.
        """
        if self.certificate is None:
            if self.key is not None:
                raise UserError("--key without --certificate")
            if self.host not in (_LOOPBACK, "localhost", "::1"):
                raise UserError(
                    f"--host {self.host} without a certificate: anyone on the way could read along",
                    expected="--certificate FILE --key FILE, or no --host and a tunnel",
                    remedy="ssh -N -L 8000:127.0.0.1:PORT HOST, and --port PORT there",
                )
            return
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise UserError(f"{path}: there is no such file")
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (ssl.SSLError, OSError) as error:
            raise UserError(
                f"{self.certificate} and its key cannot be used: {error}",
                expected="a certificate and its key, both PEM, without a password",
            ) from None


def serve(
    sections: Sequence[Section],
    settings: ServeSettings,
    *,
    shown: str,
    at_end: Callable[[], None] = lambda: None,
) -> None:
    """Serve until interrupted.

    Args:
        sections: What there is to see.
        settings: Where to listen.
        shown: Name of what is looked at.
        at_end: Called before the server waits for answers under way to end.

    Raises:
        UserError: The port is taken, the address is not this machine's, or there is no certificate.
    """
    settings.check()
    secure = settings.certificate is not None
    access = Access(hosts=frozenset({settings.host.lower()}), secure=secure)
    listening = _listen(settings)
    port = listening.getsockname()[1]
    named = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{'https' if secure else 'http'}://{named}:{port}/?token={access.token}"
    config = uvicorn.Config(
        make_app(sections, access, shown=shown),
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_ENDING_SECONDS,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    print_line(f"view: {shown}")
    # Whole and alone on its line: terminals make it a link.
    print_line(address)
    print_line("view: Ctrl-C ends it; the address is for you alone, it lets in whoever has it")
    sys.stdout.flush()
    if settings.browser and _has_browser():
        webbrowser.open(address)
    server = _Server(config, at_end)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        print_line("view: ended")  # it is how a server ends, and nothing was left half done
    finally:
        at_end()
        listening.close()


class _Server(uvicorn.Server):
    """Tells who streams to a page that the server ends."""

    def __init__(self, config: uvicorn.Config, at_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._at_end = at_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._at_end()
        await super().shutdown(sockets)


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        found.close()
        raise UserError(
            f"{settings.host}, port {settings.port}: {getattr(error, 'strerror', None) or error}",
            remedy="--port 0 takes a free one",
        ) from None
    found.listen(128)
    return found


def _has_browser() -> bool:
    """Return whether a window can be opened: not over a remote shell, and not in a text browser."""
    if sys.platform.startswith("linux"):
        return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return "SSH_CONNECTION" not in os.environ
