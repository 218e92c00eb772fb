"""Who may ask the browser's server: every rule of the door, one by one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from voxella.view.access import BODY_BYTES, Access
from voxella.view.answers import answer
from voxella.view.app import Section, make_app

BASE = "http://127.0.0.1:4711"
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"


async def echo(request: Request) -> Response:
    return answer({"length": len(await request.body())})


def fail(_: Request) -> Response:
    raise RuntimeError("words of a report")


def section() -> Section:
    routes = [
        Route("/api/ask/echo", echo, methods=["POST"]),
        Route("/api/ask/fail", fail),
    ]
    return Section("ask", "Ask", "page.html", "page.js", routes)


def client(access: Access, *, let_in: bool = True) -> TestClient:
    found = TestClient(
        make_app([section()], access, shown="a & b"), BASE, False, follow_redirects=False
    )
    if let_in:
        found.cookies.set("voxella-4711", access.token)
    return found


@pytest.fixture
def access() -> Access:
    return Access(token="the-token", hosts=frozenset({"reading-room.example"}))


def post(browser: TestClient, body: bytes = b"x", **headers: str) -> Any:
    return browser.post("/api/ask/echo", content=body, headers={"origin": BASE, **headers})


def problem(answered: Any) -> str:
    return str(answered.json()["problem"])


def test_the_token_becomes_a_cookie_and_leaves_the_address(access: Access) -> None:
    browser = client(access, let_in=False)
    entered = browser.get("/?token=the-token&case=7")
    assert entered.status_code == 303
    assert entered.headers["location"] == "/?case=7"
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith("voxella-4711=the-token;")
    for word in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert word in cookie
    assert "Secure" not in cookie
    assert browser.get("/ask").status_code == 200  # with the cookie it has kept


def test_with_a_certificate_the_cookie_is_secure() -> None:
    access = Access(token="t", secure=True)
    app = make_app([section()], access)
    browser = TestClient(app, "https://127.0.0.1:4711", follow_redirects=False)
    assert "Secure" in browser.get("/?token=t").headers["set-cookie"]
    body = browser.post("/api/ask/echo", headers={"origin": BASE})
    assert body.status_code == 403  # http is another origin


@pytest.mark.parametrize("path", ["/ask", "/static/page.js", "/api/ask/fail", "/nothing"])
def test_without_a_cookie_nothing_is_answered(access: Access, path: str) -> None:
    refused = client(access, let_in=False).get(path)
    assert refused.status_code == 403
    assert "has not been let in" in problem(refused)


@pytest.mark.parametrize("token", ["", "wrong", "the-tokem", "the-token ", "ä"])
def test_a_wrong_token_opens_nothing_even_with_a_cookie(access: Access, token: str) -> None:
    for let_in in (False, True):
        refused = client(access, let_in=let_in).get("/", params={"token": token})
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers


def test_the_way_in_leads_nowhere_else(access: Access) -> None:
    entered = client(access, let_in=False).get("//evil.example/?token=the-token")
    assert entered.headers["location"].startswith("/")
    assert not entered.headers["location"].startswith("//")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example:4711", "127.0.0.1@evil.example", "localhost:nan",
        "", "[::1", "127.0.0.1/ask", "0.0.0.0:4711", "169.254.169.254",
    ],
)  # fmt: skip
def test_another_host_is_refused(access: Access, host: str) -> None:
    refused = client(access).get("/ask", headers={"host": host})
    assert refused.status_code == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1:4711", "localhost:4711", "LOCALHOST:4711", "[::1]:4711",
             "reading-room.example:4711"]
)  # fmt: skip
def test_its_own_names_are_answered(access: Access, host: str) -> None:
    headers = {"host": host, "cookie": "voxella-4711=the-token"}
    assert client(access, let_in=False).get("/ask", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:4712", "https://127.0.0.1:4711",
               "http://localhost:4711"]
)  # fmt: skip
def test_another_origin_is_refused(access: Access, origin: str) -> None:
    browser = client(access)
    assert "another site" in problem(post(browser, origin=origin))
    assert browser.get("/ask", headers={"origin": origin}).status_code == 403
    assert post(browser).status_code == 200


def test_a_post_without_an_origin_is_refused(access: Access) -> None:
    assert client(access).post("/api/ask/echo").status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_site_has_the_browser_fetch_is_refused(access: Access, site: str) -> None:
    browser = client(access)
    refused = browser.get("/static/page.js", headers={"sec-fetch-site": site})
    assert refused.status_code == 403
    for own in ("same-origin", "none"):
        headers = {"sec-fetch-site": own}
        assert browser.get("/static/page.js", headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(access: Access, method: str) -> None:
    assert client(access).request(method, "/ask").status_code == 405


def test_a_body_over_the_limit_is_refused_however_it_comes(access: Access) -> None:
    browser = client(access)
    whole = post(browser, b"x" * BODY_BYTES)
    assert whole.json() == {"length": BODY_BYTES}
    assert post(browser, b"x" * (BODY_BYTES + 1)).status_code == 413

    def parts() -> Iterator[bytes]:
        yield from [b"x" * 1024] * (BODY_BYTES // 1024 + 1)

    refused = browser.post("/api/ask/echo", content=parts(), headers={"origin": BASE})
    assert refused.status_code == 413
    assert "longer than" in problem(refused)


def test_policy_and_headers_come_with_every_answer(access: Access) -> None:
    browser = client(access)
    answers = [browser.get("/ask"), browser.get("/static/niivue.js"), browser.get("/nothing"),
               browser.get("/api/ask/fail"), browser.get("/ask", headers={"host": "evil.example"}),
               post(browser, b"x" * (BODY_BYTES + 1))]  # fmt: skip
    for answered in answers:
        policy = answered.headers["content-security-policy"]
        wanted = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            "connect-src 'self'"
        )
        assert policy.startswith(wanted)
        assert "unsafe" not in policy
        assert answered.headers["cache-control"] == "no-store"
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert answered.headers["cross-origin-resource-policy"] == "same-origin"


def test_pages_have_nothing_inline(access: Access) -> None:
    page = client(access).get("/ask").text
    assert "a &amp; b" in page
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page)


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fapp.py", "%2e%2e/app.py", "../app.py", "/etc/passwd", "%2fetc%2fpasswd",
     "..\\app.py", "niivue.js%00", "."],
)  # fmt: skip
def test_no_static_path_leaves_the_folder(access: Access, name: str) -> None:
    answered = client(access).get(f"/static/{name}")
    assert answered.status_code in (404, 303, 307)
    assert "import" not in answered.text


def test_a_fault_is_a_sentence_without_its_words(access: Access) -> None:
    failed = client(access).get("/api/ask/fail")
    assert failed.status_code == 500
    assert "fault of voxella's (RuntimeError)" in problem(failed)
    assert "report" not in failed.text


def test_an_unknown_address_is_a_sentence(access: Access) -> None:
    assert problem(client(access).get("/../../etc/passwd")) == "There is nothing at this address."


def test_niivue_is_the_released_file_with_its_licence(access: Access) -> None:
    folder = files("voxella.view").joinpath("static")
    data = folder.joinpath("niivue.js").read_bytes()
    assert hashlib.sha256(data).hexdigest() == NIIVUE_SHA256
    licence = folder.joinpath("niivue.LICENSE.txt").read_text()
    assert NIIVUE_SHA256 in licence
    assert "BSD 2-Clause License" in licence
    assert "Copyright (c) 2021, Niivue" in licence
    # What the policy forbids is not asked for.
    assert b"new Function(" not in data
    assert b"new Worker(" not in data
    assert client(access).get("/static/niivue.js").content == data


def test_own_scripts_and_styles_ask_for_nothing_from_elsewhere() -> None:
    for folder in ("static", "pages"):
        for path in Path(str(files("voxella.view").joinpath(folder))).iterdir():
            if path.name not in ("niivue.js", "niivue.LICENSE.txt"):
                text = path.read_text().replace('"http://www.w3.org/2000/svg"', "")  # a name
                assert not re.search(r"https?:|wss?:|@import|url\(", text), path.name


def test_a_fault_is_told_by_its_place_alone(
    access: Access, capsys: pytest.CaptureFixture[str]
) -> None:
    client(access).get("/api/ask/fail")
    told = "".join(capsys.readouterr())
    assert "RuntimeError at test_view_access.py" in told
    assert "words of a report" not in told
