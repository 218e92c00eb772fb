"""``voxella report --viewer``: whole volumes in the page, turned in WebGL, slices elsewhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from chromium import Chromium, binary
from numpy.typing import NDArray
from report_run import SHAPE, SYNTHETIC, real_value, write_run

from voxella.cli import main
from voxella.report.pairs import Shown
from voxella.report.whole_volumes import viewer_scripts, whole_pair

STATIC = Path(__file__).parents[1] / "core" / "voxella" / "view" / "static"
DRAWN = ".viewer[data-drawn='{}']"


def read(coded: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(coded)))


def grey(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("viewer") / "run").run


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    out = run / "whole.html"
    assert main(["report", str(run), "--viewer", "--out", str(out)]) == 0
    return out


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    if binary() is None:
        pytest.skip("needs Chromium")
    with Chromium(tmp_path / "profile") as opened:
        yield opened


def test_voxels_and_places_are_those_of_the_volume() -> None:
    array = grey(0, (8, 6, 4))
    found = whole_pair(None, Shown(array, (1.0, 1.0, 3.0)), 10**6)
    assert found is not None
    assert found.real is None
    assert not found.shrunk
    image = read(found.synthetic)
    assert np.abs(np.asarray(image.dataobj) / 255 - array).max() <= 0.5 / 255 + 1e-6
    assert np.allclose(np.linalg.norm(image.affine[:3, :3], axis=0), (1, 1, 3))
    # The centre of the volume is the origin.
    assert np.allclose(image.affine @ [3.5, 2.5, 1.5, 1], [0, 0, 0, 1])


def test_what_does_not_fit_is_averaged_until_it_does() -> None:
    array = grey(1, (80, 70, 40))
    whole = whole_pair(None, Shown(array, (0.5, 0.6, 3.0)), 10**7)
    assert whole is not None
    allowance = len(whole.synthetic) // 2 + 1000
    found = whole_pair(None, Shown(array, (0.5, 0.6, 3.0)), allowance)
    assert found is not None
    assert found.shrunk
    assert len(found.synthetic) <= allowance
    image = read(found.synthetic)
    # The finest axis first: pairs of voxels along R.
    assert image.shape == (40, 70, 40)
    expected = (array[::2] + array[1::2]) / 2
    assert np.abs(np.asarray(image.dataobj) / 255 - expected).max() <= 0.5 / 255 + 1e-6
    assert np.allclose(np.linalg.norm(image.affine[:3, :3], axis=0), (1, 0.6, 3))
    tiny = whole_pair(None, Shown(array, (0.5, 0.6, 3.0)), 1)
    assert tiny is not None
    assert max(read(tiny.synthetic).shape) <= 40  # and no further


def test_a_slice_has_nothing_to_turn() -> None:
    assert whole_pair(None, Shown(grey(2, (8, 8, 1)), (1, 1, 1)), 10**6) is None
    colours = np.stack([grey(3, (8, 8, 4))] * 3)
    assert whole_pair(None, Shown(colours, (1, 1, 1)), 10**6) is None


def test_the_page_holds_the_volumes_and_the_same_viewer_file(run: Path, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    niivue, _ = viewer_scripts()
    assert niivue == (STATIC / "niivue.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(niivue.encode()).digest()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert f"sha256-{base64.b64encode(digest).decode()}" in policy[1].replace("&#43;", "+")
    assert "unsafe" not in policy[1]
    held = re.findall(r'data-pair="(\d)" data-side="(\w+)">([^<]+)<', text)
    assert [(pair, side) for pair, side, _ in held] == [
        (str(pair), side) for pair in range(SYNTHETIC) for side in ("real", "synthetic")
    ]
    for pair, side, coded in held:
        image = read(coded)
        assert image.shape == SHAPE
        wanted = 255 * real_value(int(pair), side == "synthetic", 5)
        assert np.abs(np.asarray(image.dataobj)[:, :, 5] - wanted).max() <= 1


def test_nobody_who_did_not_ask_gets_it(run: Path, tmp_path: Path) -> None:
    assert main(["report", str(run), "--out", str(tmp_path / "plain.html")]) == 0
    plain = (tmp_path / "plain.html").read_text(encoding="utf-8")
    assert "niivue" not in plain.lower()
    assert 'class="whole"' not in plain
    assert len(plain) < 2_000_000


def black(browser: Chromium, path: Path) -> float:
    """Return the share of the first viewer's pixels that are dark."""
    from PIL import Image

    browser.screenshot(path)
    return float((np.asarray(Image.open(path).convert("L")) < 20).mean())


def test_volumes_are_turned_in_the_browser(browser: Chromium, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.until(f"document.querySelector({DRAWN.format(0)!r}) !== null")
    assert not browser.evaluate("document.querySelector('.whole').hidden")
    assert browser.evaluate("document.querySelector('.planes').hidden")
    browser.evaluate("document.querySelector('.stage').scrollIntoView()")
    assert 0.05 < black(browser, tmp_path / "whole.png") < 0.9
    # The crosshair of both moves by keys, in mm.
    browser.evaluate("document.querySelectorAll('.whole canvas')[0].focus()")
    browser.press("ArrowRight")
    browser.until("document.querySelector('.where').textContent.includes('mm')")
    before = browser.evaluate("document.querySelector('.where').textContent")
    browser.press("ArrowRight")
    browser.until(f"document.querySelector('.where').textContent !== {before!r}")
    after = browser.evaluate("document.querySelector('.where').textContent")
    r = [float(words.split()[1]) for words in (before, after)]
    assert r[1] - r[0] == pytest.approx(2.0, abs=0.11)  # one voxel of report_run
    browser.evaluate("document.querySelectorAll('.thumb')[1].click()")
    browser.until(f"document.querySelector({DRAWN.format(1)!r}) !== null")
    browser.evaluate("document.querySelector('[data-how=slices]').click()")
    assert browser.evaluate("document.querySelector('.whole').hidden")
    assert not browser.evaluate("document.querySelector('.planes').hidden")
    # A machine without a GPU draws in software, of which the browser warns.
    assert [told for told in browser.problems if "WebGL" not in told] == []
    allowed = ("data:", "blob:", page.as_uri())
    assert all(url.startswith(allowed) for url in browser.requests)


def test_without_webgl_the_slices_are_there(browser: Chromium, page: Path) -> None:
    without = """HTMLCanvasElement.prototype.getContext = new Proxy(
      HTMLCanvasElement.prototype.getContext,
      {apply: (f, own, [kind, ...more]) =>
        kind.startsWith("webgl") ? null : Reflect.apply(f, own, [kind, ...more])});"""
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=without)
    browser.open(page)
    assert browser.evaluate("document.querySelector('.how').hidden")
    assert browser.evaluate("document.querySelector('.whole').hidden")
    assert browser.evaluate("document.querySelector('.plane canvas').width") > 0
    assert browser.problems == []
