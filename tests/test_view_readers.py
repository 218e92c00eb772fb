"""The reader study in the browser: its routes one by one, then a reading to its result."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accessibility import serious
from chromium import Chromium, binary
from reading import data_sets
from starlette.testclient import TestClient

from voxella.readers.answers import read_answers
from voxella.readers.study import ANSWERS, ReaderStudy, StudySettings, make_study
from voxella.view.access import Access
from voxella.view.app import make_app
from voxella.view.readers import readers_section

BASE = "http://127.0.0.1:4711"


def client(study: ReaderStudy) -> TestClient:
    access = Access(token="t")
    browser = TestClient(make_app([readers_section(study)], access, shown="run/samples"), BASE)
    browser.cookies.set("voxella-4711", "t")
    return browser


@pytest.fixture
def study(tmp_path: Path) -> ReaderStudy:
    synthetic, real = data_sets(tmp_path)
    return make_study(tmp_path / "out", synthetic, real, StudySettings(cases=4))


def post(browser: TestClient, **body: Any) -> Any:
    return browser.post("/api/readers/answer", json=body, headers={"origin": BASE})


def test_a_study_is_read_to_its_result(study: ReaderStudy) -> None:
    browser = client(study)
    assert browser.get("/").status_code == 200
    early = browser.get("/api/readers/results")
    assert early.status_code == 409
    assert "8 answers are still to come" in early.json()["problem"]
    kinds = {item.number: item.kind for item in study.items}
    for reader in (1, 2):
        told = browser.get(f"/api/readers/reader/{reader}").json()
        assert told == {"order": study.order(reader), "answers": {}}
        for item in told["order"]:
            kept = post(browser, reader=reader, item=item, verdict=kinds[item], quality=3)
            assert kept.status_code == 200
    assert kept.json() == {"complete": True}
    found = browser.get("/api/readers/results").json()
    assert found["metrics"]["accuracy"]["value"] == 1.0
    assert found["metrics"]["kappa_verdict"]["value"] == 1.0
    assert json.loads((study.folder / "metrics.json").read_text())["complete"]
    assert browser.get("/api/readers/state").json()["complete"]
    # Who has seen the results answers no more.
    late = post(browser, reader=1, item=1, verdict="real", quality=1)
    assert late.status_code == 409


def test_nothing_that_is_sent_tells_what_a_volume_is(study: ReaderStudy) -> None:
    browser = client(study)
    answers = {n: browser.get(f"/api/readers/volumes/{n}.nii") for n in range(1, 5)}
    assert {one.status_code for one in answers.values()} == {200}
    assert len({tuple(sorted(one.headers.items())) for one in answers.values()}) == 1
    assert len({one.content[:352] for one in answers.values()}) == 1
    assert len({len(one.content) for one in answers.values()}) == 1
    stills = [browser.get(f"/api/readers/volumes/{n}.png") for n in range(1, 5)]
    assert len({tuple(sorted(one.headers.items())) for one in stills}) == 1
    paths = ("/readers", "/api/readers/state", "/api/readers/reader/1", "/api/readers/results")
    every = [browser.get(path) for path in paths]
    every.append(post(browser, reader=1, item=1, verdict="real", quality=1))
    said = "".join(one.text + str(one.headers) for one in [*every, *stills])
    for item in study.items:
        assert item.case not in said
        assert item.group not in said
    assert "prepared" not in said
    assert str(study.folder) not in said


@pytest.mark.parametrize(
    "path",
    ["volumes/0.nii", "volumes/5.nii", "volumes/1.json", "volumes/..%2fstudy.json", "reader/0",
     "reader/3", "volumes/-1.nii", "study.json", "volumes/0001.nii.gz"],
)  # fmt: skip
def test_no_address_leads_elsewhere(study: ReaderStudy, path: str) -> None:
    refused = client(study).get(f"/api/readers/{path}")
    assert refused.status_code == 404
    assert refused.json()["problem"].endswith(".")


@pytest.mark.parametrize(
    "wrong",
    [{"reader": 3}, {"item": 9}, {"verdict": "unsure"}, {"quality": 0}, {"quality": "3"},
     {"more": 1}, {"quality": True}],
)  # fmt: skip
def test_an_answer_that_is_none_is_a_sentence(study: ReaderStudy, wrong: dict[str, Any]) -> None:
    body = {"reader": 1, "item": 1, "verdict": "real", "quality": 3} | wrong
    refused = post(client(study), **body)
    assert refused.status_code == 422
    assert refused.json()["problem"]
    assert not (study.folder / ANSWERS).exists()


class Server:
    """The command in a process of its own."""

    def __init__(self, words: list[str]) -> None:
        program = "import sys; from voxella.cli import main; sys.exit(main(sys.argv[1:]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        self.address = next(line for line in self.process.stdout if "token=" in line).strip()

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(30)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Chromium]:
    if binary() is None:
        pytest.skip("needs Chromium")
    with Chromium(tmp_path / "profile") as browser:
        yield browser


def go(page: Chromium, address: str, part: str) -> None:
    page.call("Page.navigate", url=address)
    page.until(f"document.querySelector('#{part}')?.hidden === false")


def answer_one(page: Chromium, key: str, quality: int) -> None:
    """Answer by keys, as a reader would, once the volume is drawn."""
    page.until("!document.querySelector('#next').disabled")
    before = page.evaluate("document.querySelector('#place').textContent")
    for one in (key, str(quality)):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=one, text=one)
        page.call("Input.dispatchKeyEvent", type="keyUp", key=one)
    assert page.evaluate("document.querySelectorAll('#questions input:checked').length") == 2
    page.evaluate("document.querySelector('#questions').requestSubmit()")
    page.until(
        f"document.querySelector('#place').textContent !== {json.dumps(before)}"
        " || document.querySelector('#reading').hidden"
    )


def test_two_readers_in_the_browser_with_a_kill_between(tmp_path: Path, page: Chromium) -> None:
    synthetic, real = data_sets(tmp_path)
    words = ["reader-study", str(synthetic.folder), "--real", str(real.folder), "--no-browser"]
    server = Server([*words, "--cases", "4", "--seed", "1"])
    go(page, server.address, "begin")
    assert serious(page) == []
    pressing = "[...document.querySelectorAll('#who button')][{}].click()"
    page.evaluate(pressing.format(0))
    page.until("document.querySelector('#place').textContent.includes('volume 1 of 4')")
    answer_one(page, "r", 4)
    answer_one(page, "s", 2)
    page.until("!document.querySelector('#next').disabled")
    # Killed in the middle: what was answered is on the disk, and the reading goes on there.
    server.end(signal.SIGKILL)
    server = Server(words)
    try:
        go(page, server.address, "begin")
        label = page.evaluate("document.querySelector('#who button').textContent")
        assert label == "Reader 1: 2 of 4 read"
        page.evaluate(pressing.format(0))
        page.until("document.querySelector('#place').textContent.includes('volume 3 of 4')")
        page.until("!document.querySelector('#next').disabled")
        assert serious(page) == []
        page.screenshot(tmp_path / "reading.png")
        answer_one(page, "r", 5)
        answer_one(page, "s", 1)
        page.until("!document.querySelector('#end').hidden")
        assert "1 of 2 readers" in page.evaluate("document.querySelector('#left').textContent")
        page.evaluate("document.querySelector('#others').click()")
        page.until("!document.querySelector('#begin').hidden")
        page.evaluate(pressing.format(1))
        page.until("document.querySelector('#place').textContent.includes('volume 1 of 4')")
        for key, quality in (("r", 4), ("s", 3), ("s", 2), ("r", 3)):
            answer_one(page, key, quality)
        page.until("!document.querySelector('#results').hidden")
        rows = page.evaluate("document.querySelector('#rows').textContent")
        assert serious(page) == []
        page.screenshot(tmp_path / "results.png")
    finally:
        server.end(signal.SIGTERM)
    study = ReaderStudy.read(synthetic.folder / "reader-study")
    assert study is not None
    answers = read_answers(study)
    kinds = {item.number: item.kind for item in study.items}
    given = [answers[1, number].verdict for number in study.order(1)]
    assert given == ["real", "synthetic", "real", "synthetic"]
    right = sum(answers[2, n].verdict == kinds[n] for n in kinds)
    shown = re.search(r"Right, reader 2([0-9.]+?)(?=0\.|\d+ to|1 to|undefined)", rows)
    assert shown is not None, rows
    assert float(shown[1]) == pytest.approx(right / 4)
    assert "Agreement on real or synthetic" in rows
    # A machine without a GPU draws in software, of which the browser warns.
    assert [told for told in page.problems if "WebGL" not in told] == []
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))
               for url in page.requests)  # fmt: skip
