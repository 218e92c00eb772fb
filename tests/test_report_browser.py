"""The page in headless Chromium: no error, nothing fetched, sliders, keyboard, dark and light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, binary
from PIL import Image
from report_run import SHAPE, real_value, write_run

from voxella.report.write import write_report

pytestmark = pytest.mark.skipif(
    binary() is None, reason="no browser: neither chromium nor google-chrome is installed"
)

# The grey in the middle of a plane's canvas; `place` 0 is the real case, 1 the synthetic one.
GREY = """(() => {
  const canvas = document.querySelectorAll('[data-plane="%s"] canvas')[%d];
  const at = canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
  return at.data[0];
})()"""
SLIDER = "document.querySelector('.plane[data-plane=\"axial\"] input')"
# The smallest contrast (WCAG 2.2, relative luminance) of any text with what lies behind it.
CONTRAST = """(() => {
  const numbers = (color) => color.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = numbers(getComputedStyle(e).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.closest("script, noscript")) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(numbers(ink)), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < worst[0]) worst = [contrast, element.outerHTML.slice(0, 90)];
  }
  return worst;
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("browser") / "run").run)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def value(browser: Chromium) -> int:
    return int(browser.evaluate(f"{SLIDER}.value"))


def tab_to(browser: Chromium, selector: str) -> None:
    """Press Tab until an element has the focus: what no Tab reaches, no keyboard reaches."""
    wanted = f"document.activeElement === document.querySelector('{selector}')"
    for _ in range(60):
        browser.press("Tab")
        if browser.evaluate(wanted):
            return
    raise AssertionError(f"no Tab leads to {selector}")


@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_an_error_and_fetches_nothing(
    browser: Chromium, page: Path, dark: bool, tmp_path: Path
) -> None:
    browser.problems.clear()
    browser.requests.clear()
    browser.open(page, dark=dark)
    picture = Image.open(browser.screenshot(tmp_path / "page.png", whole=True))
    assert browser.problems == []
    fetched = [address for address in browser.requests if not address.startswith("data:")]
    assert fetched == [page.as_uri()]
    greys = np.asarray(picture.convert("L"))
    assert bool(np.median(greys) < 60) is dark
    assert len(np.unique(greys)) > 50


def test_the_policy_stops_what_is_not_the_pages_own(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://localhost:9/x.png\">')"
    )
    # The picture's own event comes after what the console says of it.
    browser.until("document.body.lastElementChild.complete")
    assert any("Content Security Policy" in problem for problem in browser.problems)
    browser.problems.clear()


def test_the_slider_shows_the_slice_that_it_says(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.evaluate(f"{SLIDER}.max") == str(SHAPE[2] - 1)
    for place in (0, 7, SHAPE[2] - 1):
        browser.evaluate(f"{SLIDER}.value = {place}; {SLIDER}.dispatchEvent(new Event('input'))")
        for side, synthetic in enumerate((False, True)):
            grey = browser.evaluate(GREY % ("axial", side))
            assert grey == pytest.approx(255 * real_value(0, synthetic, place), abs=4)
        assert browser.evaluate(f"{SLIDER}.getAttribute('aria-valuetext')") == (
            f"slice {place + 1} of {SHAPE[2]}"
        )


def test_slider_and_cases_obey_the_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page)
    tab_to(browser, '.plane[data-plane="axial"] input')
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.evaluate(outline) == "solid"
    before = value(browser)
    browser.press("ArrowRight")
    assert value(browser) == before + 1
    grey = browser.evaluate(GREY % ("axial", 0))
    assert grey == pytest.approx(255 * real_value(0, False, before + 1), abs=4)
    browser.press("Home")
    assert value(browser) == 0
    tab_to(browser, '.thumb[data-pair="2"]')
    assert browser.evaluate(outline) == "solid"
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert "case-02-s000" in browser.evaluate("document.querySelector('.which').textContent")
    grey = browser.evaluate(GREY % ("axial", 1))
    assert grey == pytest.approx(255 * real_value(2, True, value(browser)), abs=4)


@pytest.mark.parametrize("dark", [False, True])
def test_the_button_changes_the_theme_and_text_can_be_read_in_both(
    browser: Chromium, page: Path, dark: bool
) -> None:
    browser.open(page, dark=dark)
    ground = "getComputedStyle(document.body).backgroundColor"
    grounds = []
    for _ in range(2):
        grounds.append(browser.evaluate(ground))
        contrast, where = browser.evaluate(CONTRAST)
        assert contrast >= 4.5, where
        browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(ground) == grounds[0]
    assert set(grounds) == {"rgb(255, 255, 255)", "rgb(18, 20, 23)"}
    assert (grounds[0] == "rgb(18, 20, 23)") is dark


def test_everything_that_can_be_operated_has_a_name(browser: Chromium, page: Path) -> None:
    browser.open(page)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if node.get("role", {}).get("value") in ("slider", "button", "link", "img", "image")
        and not node.get("ignored")
    ]
    assert {role for role, _ in named} >= {"slider", "button", "link"}
    assert [pair for pair in named if not pair[1].strip()] == []
    assert sum(role == "slider" for role, _ in named) == 3


def test_a_narrow_window_scrolls_in_one_direction_and_print_drops_the_controls(
    browser: Chromium, page: Path
) -> None:
    browser.open(page, width=390)
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= 390
    browser.open(page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = "getComputedStyle(document.querySelector('.bar')).display"
    assert browser.evaluate(hidden) == "none"
    browser.call("Emulation.setEmulatedMedia", media="")
