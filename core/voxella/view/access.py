"""Who may ask: one door before every route, which checks where a request comes from.

A page of another site, open in the same browser, can send requests to this machine. The token, the
cookie, ``Host``, ``Origin`` and ``Sec-Fetch-Site`` each keep it out alone (OWASP, CSRF prevention
and DNS rebinding).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxella.progress import print_line
from voxella.view.answers import refusal

__all__ = ["BODY_BYTES", "POLICY", "Access", "Door"]

# Nothing of ours comes near it: a prompt's text may be some pages long.
BODY_BYTES = 64 * 2**10
_BODY_SECONDS = 15.0
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    # Pictures of patients and typed text stay out of the browser's cache on the disk.
    "cache-control": "no-store",
}
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
_METHODS = frozenset({"GET", "HEAD", "POST"})
_PASTE = "open the address that voxella view has printed, by pasting it into the browser"


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: In the first address; later in a cookie.
        hosts: Names under which the server answers beside this machine's own.
        secure: The server has a certificate.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    hosts: frozenset[str] = frozenset()
    secure: bool = False

    def knows(self, host: str | None) -> bool:
        """Return whether a ``Host`` header names this server; the port may be a tunnel's."""
        name = _name(host)
        return name is not None and (name in _THIS_MACHINE or name in self.hosts)

    def same_origin(self, origin: str, host: str | None) -> bool:
        """Return whether an ``Origin`` header is the page that this server has sent."""
        scheme = "https" if self.secure else "http"
        return host is not None and origin.lower() == f"{scheme}://{host.lower()}"

    def opens(self, token: str | None) -> bool:
        """Compare a token in constant time."""
        return token is not None and hmac.compare_digest(token.encode(), self.token.encode())


class Door:
    """ASGI middleware around the whole app: refuses, bounds bodies, and sends the policy.

    Args:
        app: What is behind it.
        access: Who may ask.
        body_bytes: More is refused.
    """

    def __init__(self, app: ASGIApp, access: Access, body_bytes: int = BODY_BYTES) -> None:
        self._app = app
        self._access = access
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route speaks anything else
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send)
        headers = Headers(scope=scope)
        answer = self._refused(scope, headers) or self._entrance(scope, headers)
        if answer is None and scope["method"] == "POST":
            body = await self._body(headers, receive)
            if isinstance(body, Response):
                answer = body
            else:
                receive = _again(body, receive)
        try:
            await (answer or self._app)(scope, receive, send)
        except Exception as fault:
            # It has been answered. Its message may quote a report: where it arose is enough.
            last = traceback.extract_tb(fault.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}, in {last.name}"
            print_line(f"view: a fault of voxella's: {type(fault).__name__} at {place}")

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        """Refuse what does not come from a page of ours, or from an address typed by hand."""
        access, host = self._access, headers.get("host")
        if not access.knows(host):
            return refusal(421, "This address is not one of this server.", _PASTE)
        if scope["method"] not in _METHODS:
            return refusal(405, "Only GET and POST are answered.")
        origin = headers.get("origin")
        if origin is not None and not access.same_origin(origin, host):
            return refusal(403, "The request comes from a page of another site.", _PASTE)
        if scope["method"] == "POST" and origin is None:
            return refusal(403, "The request does not say which page it comes from (Origin).")
        return None

    def _entrance(self, scope: Scope, headers: Headers) -> Response | None:
        """Exchange the token of the first address for a cookie; refuse who has neither."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if "token" in query:
            if scope["method"] != "GET" or not self._access.opens(query.pop("token")[-1]):
                return refusal(403, "The token in this address is wrong or out of date.", _PASTE)
            return self._let_in(scope, headers, query)
        if not self._access.opens(_cookies(headers).get(self._cookie(headers))):
            told = "This browser has not been let in, or the server is a new one."
            return refusal(403, told, _PASTE)
        # Another port of this machine is the same site to a cookie: the browser tells them apart.
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return refusal(403, "The request comes from a page of another site.", _PASTE)
        return None

    def _let_in(self, scope: Scope, headers: Headers, query: Mapping[str, list[str]]) -> Response:
        path = "/" + str(scope["path"]).lstrip("/\\")
        left = urlencode(query, doseq=True)
        # The token leaves the address line, and with it the browser's history.
        answer = RedirectResponse(f"{path}?{left}" if left else path, status_code=303)
        answer.set_cookie(
            self._cookie(headers),
            self._access.token,
            httponly=True,
            samesite="strict",
            secure=self._access.secure,
            path="/",
        )
        return answer

    def _cookie(self, headers: Headers) -> str:
        """Return the cookie's name: ports share cookies, and two servers must not."""
        port = urlsplit(f"//{headers.get('host', '')}").port
        return f"voxella-{port or 'view'}"

    async def _body(self, headers: Headers, receive: Receive) -> bytes | Response:
        most = self._body_bytes
        too_long = refusal(413, f"The request is longer than {most:,} bytes.", "shorten the text")
        told = headers.get("content-length", "0")
        if told.isdecimal() and int(told) > most:
            return too_long
        parts, length = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return refusal(400, "The request broke off.")
                    parts.append(message.get("body", b""))
                    length += len(parts[-1])
                    if length > most:
                        return too_long
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            return refusal(408, f"The request did not arrive within {_BODY_SECONDS:.0f} seconds.")


def _name(host: str | None) -> str | None:
    """Return the name in a ``Host`` header without its port; None where it is no such header."""
    try:
        parts = urlsplit(f"//{host or ''}")
        _ = parts.port  # raises where it is none
    except ValueError:
        return None
    plain = parts.username is None and not (parts.path or parts.query or parts.fragment)
    return parts.hostname if plain else None


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        found = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return sending


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body once more, then what else comes."""
    left: Iterable[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    first = iter(left)

    async def receiving() -> Message:
        message = next(first, None)
        return await receive() if message is None else message

    return receiving
