"""The pages in headless Chromium, as hands use them, against a server of its own process."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accessibility import serious
from chromium import Chromium, binary
from PIL import Image
from report_run import write_run
from view_model import text_model

from voxella.case.marks import read_marks

pytestmark = pytest.mark.skipif(
    binary() is None, reason="no browser: neither chromium nor google-chrome is installed"
)
READY = "document.body.dataset.ready !== undefined"
REPORT = "PI-RADS 4: lesion of 14 mm in the left peripheral zone."


class Server:
    """``voxella view`` in a process of its own."""

    def __init__(self, run: Path, out: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "voxella", "view", str(run), "--no-browser", "--device"]
        command += ["cpu", "--port", str(port), "--out", str(out)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=out.parent,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = ""
        for line in self.process.stdout:
            if line.startswith("http://"):
                self.address = line.strip()
                break
        assert self.address, "the server has ended"
        self.origin, self.token = self.address.split("/?token=")
        self.port = int(self.origin.rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        given = {"cookie": f"voxella-{self.port}={self.token}", "origin": self.origin, **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), given)
            answered = connection.getresponse()
            return answered.status, json.loads(answered.read())
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(30)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run written by hand, with a model that answers."""
    folder = tmp_path_factory.mktemp("browser")
    folders = write_run(folder / "run")
    shutil.rmtree(folders.model)
    text_model(folder / "small", steps=6)
    (folder / "small" / "model").rename(folders.model)
    return folders.run


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Server]:
    started = Server(run, run.parent / "saved")
    yield started
    started.end()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile"), webgl=True) as opened:
        yield opened


@pytest.fixture(autouse=True)
def enter(browser: Chromium, server: Server) -> None:
    browser.look(width=1280)
    browser.visit(server.address, f"{READY} && location.search === ''")
    browser.problems.clear()
    browser.requests.clear()


def visit(browser: Chromium, server: Server, page: str) -> None:
    browser.visit(f"{server.origin}/{page}", f"{READY} && location.pathname === '/{page}'")


def fill(browser: Chromium, **values: Any) -> None:
    for name, value in values.items():
        field = f"document.getElementById('{name}')"
        browser.evaluate(f"{field}.value = {json.dumps(str(value))}")
        browser.evaluate(f"{field}.dispatchEvent(new Event('input'))")


def click(browser: Chromium, selector: str) -> None:
    browser.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def told(browser: Chromium) -> str:
    """Return what the newest request's card says."""
    return str(browser.evaluate("document.querySelector('#jobs .told')?.textContent ?? ''"))


def number(browser: Chromium) -> int:
    title = browser.evaluate("document.querySelector('#jobs h3')?.textContent ?? 'Request 0'")
    return int(re.findall(r"\d+", title)[0])


def generate(browser: Chromium, **values: Any) -> int:
    before = number(browser)
    fill(browser, **values)
    click(browser, "#generate")
    browser.until(
        f"document.querySelector('#jobs h3')?.textContent.includes('Request {before + 1}')"
    )
    return before + 1


def test_a_report_becomes_a_volume_under_the_policy(
    browser: Chromium, server: Server, tmp_path: Path
) -> None:
    fill(browser, report=REPORT)
    browser.until("document.querySelector('#tokens').textContent.includes(' of 16 tokens')")
    browser.until("document.querySelector('#cut').textContent.startsWith('Cut off at its end')")
    browser.until("document.querySelector('#head').textContent.startsWith('Text head: negative')")
    generate(browser, seed=3, steps=4)
    browser.until("document.querySelector('#jobs .told').textContent.startsWith('Done in')")
    browser.until(
        "/^R -?[0-9.]+ .* mm, value/.test(document.querySelector('#jobs .where').textContent)"
    )
    before = browser.evaluate("document.querySelector('#jobs .where').textContent")
    browser.evaluate("document.querySelector('#jobs canvas').focus()")
    browser.press("ArrowRight")
    browser.until(f"document.querySelector('#jobs .where').textContent !== {json.dumps(before)}")
    picture = browser.screenshot(tmp_path / "ask.png")
    place = browser.evaluate(
        "(() => { const r = document.querySelector('#jobs canvas').getBoundingClientRect();"
        "return [r.left, r.top, r.right, Math.min(r.bottom, innerHeight)]; })()"
    )
    left, top, right, bottom = place
    greys = np.asarray(Image.open(picture).convert("L").crop((left, top, right, bottom)))
    assert len(np.unique(greys)) > 30, "nothing is drawn"
    # The policy was enough: no error, and nothing was fetched from elsewhere.
    assert browser.problems == []
    assert all(
        address.startswith((server.origin, "data:", "blob:")) for address in browser.requests
    )


def test_the_policy_stops_what_is_not_the_pages_own(browser: Chromium) -> None:
    browser.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color:red\">x</p>')"
    )
    browser.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'evil = 1'}))"
    )
    assert browser.evaluate("typeof evil") == "undefined"
    assert sum("Content Security Policy" in problem for problem in browser.problems) >= 2
    browser.problems.clear()


def test_a_generation_is_cancelled_and_the_next_one_runs(browser: Chromium) -> None:
    generate(browser, steps=1000, seed=1)
    browser.until("/^Step [0-9]+ of 1000/.test(document.querySelector('#jobs .told').textContent)")
    generate(browser, steps=2, seed=2)
    assert told(browser) == "Waiting; one request is before it."
    click(browser, "#jobs article:nth-child(2) button")
    browser.until(
        "document.querySelector('#jobs article:nth-child(2) .told').textContent === 'Cancelled.'"
    )
    browser.until("document.querySelector('#jobs .told').textContent.startsWith('Done in')")


def test_two_prompts_at_one_seed_stand_side_by_side(browser: Chromium) -> None:
    fill(browser, report=REPORT, other="No lesion.", steps=2, seed=7)
    click(browser, "#both")
    browser.until("!document.querySelector('#compared').hidden")
    titles = "[...document.querySelectorAll('#compared h3')].map((one) => one.textContent)"
    browser.until(f"({titles}).at(-1) === 'Difference, absolute'")
    wheres = "[...document.querySelectorAll('#compared .where')].map((one) => one.textContent)"
    browser.until(f"({wheres}).every((one) => one.includes('value'))")
    browser.evaluate("document.querySelector('#compared canvas').focus()")
    before = browser.evaluate(wheres)
    browser.press("ArrowRight")
    # The crosshairs go together.
    browser.until(f"({wheres}).every((one, at) => one !== {json.dumps(before)}[at])")
    after = browser.evaluate(wheres)
    assert len({one.partition(",")[0] for one in after}) == 1
    assert browser.problems == []


def test_a_reload_goes_on_with_what_was_asked(browser: Chromium, server: Server) -> None:
    asked = generate(browser, report="Reloaded text.", steps=300, seed=1)
    browser.until("document.querySelector('#jobs .told').textContent.startsWith('Step')")
    visit(browser, server, "ask")
    assert number(browser) == asked
    assert browser.evaluate("document.querySelector('#report').value") == "Reloaded text."
    browser.until("document.querySelector('#jobs .told').textContent.startsWith('Step')")
    click(browser, "#jobs article button")
    browser.until("document.querySelector('#jobs .told').textContent === 'Cancelled.'")
    assert browser.problems == []


def test_cases_are_compared_and_marked_with_the_keyboard(
    browser: Chromium, server: Server, run: Path
) -> None:
    visit(browser, server, "compare")
    browser.until("document.body.dataset.shown === '0'")
    titles = browser.evaluate(
        "[...document.querySelectorAll('#volumes h3')].map((one) => one.textContent)"
    )
    assert titles[:2] == ["Synthetic: case-00-s000", "Real counterpart: case-00"]
    browser.evaluate("document.activeElement.blur()")
    browser.type("n")
    browser.until("document.body.dataset.shown === '1'")
    browser.type("3")
    browser.until("document.querySelector('#kept').textContent === 'marked artefact'")
    fill(browser, note="a ring")
    click(browser, "#marking button[type=submit]")
    browser.until("document.querySelector('#status').textContent.includes('case-01-s000')")
    visit(browser, server, "compare")  # the mark and the place are there again
    browser.until("document.querySelector('#kept').textContent === 'not marked'")
    browser.type("n")
    browser.until("document.querySelector('#kept').textContent === 'marked artefact'")
    assert browser.evaluate("document.querySelector('#note').value") == "a ring"
    assert read_marks(run / "samples")["case-01-s000"].note == "a ring"
    assert browser.problems == []


@pytest.mark.parametrize("page", ["ask", "compare", "data", "runs"])
def test_axe_finds_nothing_serious_and_nothing_overflows(
    browser: Chromium, server: Server, page: str
) -> None:
    for dark, width in ((False, 1280), (True, 390)):
        browser.look(dark=dark, width=width)
        visit(browser, server, page)
        if page == "data":
            click(browser, "#cases button")
            browser.until("document.body.dataset.shown === '0'")
            browser.evaluate("document.querySelector('#problem').hidden = true")
        assert serious(browser) == []
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    browser.problems.clear()


def test_a_wrong_token_and_a_strange_origin_are_told_no(browser: Chromium, server: Server) -> None:
    wrong = server.ask("GET", "/?token=wrong")
    assert (wrong[0], wrong[1]["problem"]) == (
        403, "The token in this address is wrong or out of date."
    )  # fmt: skip
    assert server.ask("GET", "/ask", cookie="")[0] == 403
    assert server.ask("POST", "/api/ask/jobs", {}, origin="http://evil.example")[0] == 403
    assert server.ask("GET", "/ask", host="evil.example")[0] == 421
    # From a page of another origin in the same browser: no answer, and no job.
    before = len(server.ask("GET", "/api/ask/jobs")[1])
    browser.visit("data:text/html,<body>other</body>", "true", scheme="data")
    sent = browser.evaluate(
        f"fetch('{server.origin}/api/ask/jobs', {{method: 'POST', credentials: 'include', "
        "body: '{\"steps\": 2}'}).then(() => 'answered', () => 'refused')"
    )
    assert sent == "refused"
    assert len(server.ask("GET", "/api/ask/jobs")[1]) == before
    browser.problems.clear()


def test_fifty_requests_at_once_are_all_answered(server: Server) -> None:
    paths = ["/api/runs", "/api/data/cases", "/api/compare/0", "/api/compare/0/1", "/api/ask/model"]
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda place: server.ask("GET", paths[place % 5]), range(50)))
    assert [status for status, _ in found] == [200] * 50
    asked = {"steps": 200, "seed": 0}
    with ThreadPoolExecutor(50) as pool:
        jobs = list(pool.map(lambda _: server.ask("POST", "/api/ask/jobs", asked), range(50)))
    taken = [told["number"] for status, told in jobs if status == 202]
    assert 8 <= len(taken) <= 10  # one that runs, and the queue
    assert {status for status, _ in jobs} == {202, 429}
    for one in taken:
        server.ask("POST", f"/api/ask/jobs/{one}/cancel", {})
    states = {"running"}
    until = time.monotonic() + 30
    while states & {"running", "waiting"} and time.monotonic() < until:
        time.sleep(0.1)
        states = {job["state"] for job in server.ask("GET", "/api/ask/jobs")[1]}
    assert not states & {"running", "waiting"}


def test_after_a_kill_a_new_server_goes_on_with_the_marks(
    browser: Chromium, run: Path, tmp_path: Path
) -> None:
    first = Server(run, tmp_path / "saved")
    browser.visit(first.address, READY)
    assert first.ask("POST", "/api/compare/0/2/mark", {"mark": "good", "note": ""})[0] == 200
    first.end(signal.SIGKILL)
    click(browser, "#generate")
    browser.until(
        "document.querySelector('#problem').textContent.startsWith('The server does not')"
    )
    second = Server(run, tmp_path / "saved", first.port)
    try:
        refused = second.ask("GET", "/ask", cookie=f"voxella-{first.port}={first.token}")
        assert "the server is a new one" in refused[1]["problem"]
        browser.visit(second.address, f"{READY} && location.search === ''")
        assert second.ask("GET", "/api/compare/0/2")[1]["marked"]["mark"] == "good"
    finally:
        second.end()
    assert second.process.returncode in (0, 130, 143)
    browser.problems.clear()
