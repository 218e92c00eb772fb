"""The checks of image files one by one: damage, copies, places, processes, the page."""

from __future__ import annotations

import base64
import io
import re
import tracemalloc
from concurrent.futures.process import BrokenProcessPool
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from broken_dataset import AFFINE, BrokenDataset, scan, write_nifti
from image_damage import damaged, make_bases
from numpy.typing import NDArray
from PIL import Image
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.check.cases import CheckReport
from voxella.check.catalogue import CATALOGUE
from voxella.check.duplicates import Picture, near_duplicates
from voxella.check.examine import examine
from voxella.check.finding import Finding
from voxella.check.geometry import Placement
from voxella.check.grids import case_grids, odd_planes
from voxella.check.headers import read_header
from voxella.check.page import chosen_cases, page_html
from voxella.check.quick import read_leniently
from voxella.check.settings import CaseImages, CheckSettings
from voxella.check.similarity import ALIGNED, CANDIDATE, Floats, aligned, signature, thumbnail
from voxella.check.stage import check
from voxella.check.voxels import content_hash
from voxella.errors import UserError
from voxella.imaging.volume import Volume, read_volume
from voxella.workspace.pool import run_in_processes
from voxella_importers.phantom.facts import draw_facts
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.volume import render

DEFAULTS = CheckSettings.without_recipe()


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def alone(path: Path) -> CaseImages:
    return CaseImages("case", {"t2w": path}, frozenset(), "t2w")


def test_no_damage_escapes_and_none_ends_the_check(tmp_path: Path) -> None:
    bases = make_bases(tmp_path / "bases")
    refused = 0
    for number in range(120):
        folder = tmp_path / str(number)
        folder.mkdir()
        path, kind = damaged(bases, number, folder)
        findings = examine(alone(path), DEFAULTS).findings
        try:
            read_volume(path)
        except UserError:
            refused += 1
            assert any(finding.severity == "error" for finding in findings), (number, kind)
    assert refused > 50


def test_sound_files_of_every_format_have_no_error(tmp_path: Path) -> None:
    for name, parts in make_bases(tmp_path).items():
        # A dozen voxels of a millimetre: smaller than any crop, and that is all there is to say.
        assert codes(examine(alone(parts[0]), DEFAULTS).findings) == ["geometry.field-of-view"], (
            name
        )


def test_a_claim_of_terabytes_allocates_nothing(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "claim.nii", scan(0))
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(data)
    assert read_header(path).claimed_bytes == 2 * 30000**3
    tracemalloc.start()
    found = examine(alone(path), DEFAULTS).findings
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes(found) == ["image.impossible-size"]
    assert peak < 1 << 20


def test_content_is_the_same_in_any_storage_order(tmp_path: Path) -> None:
    array = scan(1)
    turned = np.zeros((4, 4))
    turned[0, 1], turned[1, 0], turned[2, 2], turned[3, 3] = 6.0, 6.0, 10.0, 1.0
    one = read_volume(write_nifti(tmp_path / "a.nii.gz", array))
    other = read_volume(write_nifti(tmp_path / "b.nii", array.transpose(1, 0, 2), turned))
    assert content_hash(one) == content_hash(other)
    assert content_hash(one) != content_hash(Volume(one.array + 1, one.affine))


@pytest.fixture(scope="module")
def phantoms() -> list[Floats]:
    importer = phantom(cases=16, size=(80, 80, 24), spacing_mm=(2, 2, 4), workers=1, seed=1)
    assert isinstance(importer, PhantomImporter)
    drawn = [draw_facts(importer.settings, index) for index in range(16)]
    # One of each patient: two studies of one gland may look alike, and share a split.
    patients = {facts.patient.id: facts for facts in drawn}
    size = importer.settings.size
    return [render(facts, size).image.astype(np.float32) for facts in patients.values()]


def altered(array: Floats) -> dict[str, NDArray[np.float32]]:
    span = float(np.percentile(array, 99.5) - np.percentile(array, 0.5))
    noise = np.random.default_rng(0).normal(0.0, 0.01 * span, array.shape)
    shifted = {
        f"shift along {axis}": np.concatenate(
            [array.take([0], axis), np.delete(array, -1, axis)], axis
        )
        for axis in range(3)
    }
    copies = {"noise": array + noise, "rescaled": np.rint(array * (900 / span) + 100), **shifted}
    return {name: copy.astype(np.float32) for name, copy in copies.items()}


def test_distinct_phantoms_are_not_alike(phantoms: list[Floats]) -> None:
    small = [thumbnail(array) for array in phantoms]
    rows = np.stack([signature(one) for one in small])
    alike = rows @ rows.T
    np.fill_diagonal(alike, 0.0)
    assert alike.max() < CANDIDATE - 0.05
    likest = [divmod(int(at), len(small)) for at in np.argsort(-alike, axis=None)[:20]]
    assert max(aligned(small[i], small[j]) for i, j in likest) < ALIGNED - 0.05


def test_disturbed_copies_are_alike(phantoms: list[Floats]) -> None:
    for array in phantoms[::5]:
        small = thumbnail(array)
        for name, copy in altered(array).items():
            other = thumbnail(copy)
            assert float(signature(small) @ signature(other)) > CANDIDATE + 0.05, name
            assert aligned(small, other) > ALIGNED + 0.05, name


def test_copies_are_found_across_splits_only(phantoms: list[Floats]) -> None:
    arrays = [*phantoms, altered(phantoms[3])["noise"], altered(phantoms[4])["noise"]]
    splits = ["train"] * len(phantoms) + ["test", "train"]
    pictures = [
        Picture(f"case-{index}", "t2w", split, f"content {index}")
        for index, split in enumerate(splits)
    ]
    small = dict(zip(pictures, map(thumbnail, arrays), strict=True))
    rows = np.stack([signature(one) for one in small.values()])
    found = list(near_duplicates(pictures, rows, small.__getitem__))
    copy = f"case-{len(phantoms)}"
    assert [finding.case for finding in found] == ["case-3", copy]
    assert f"{copy} t2w in test" in found[0].message
    assert "case-3 t2w in train" in found[1].message
    # Equal voxels are said once, by another finding.
    same = [Picture(p.case, p.sequence, p.split, "same") for p in pictures]
    assert list(near_duplicates(same, rows, lambda picture: small[pictures[0]])) == []


def test_the_majority_decides_the_plane() -> None:
    planes = {"a": "axial", "b": "axial", "c": "sagittal", "d": None}
    found = list(odd_planes({case: {"t2w": plane} for case, plane in planes.items()}))
    assert [(finding.case, finding.code) for finding in found] == [("c", "geometry.plane")]
    assert list(odd_planes({"a": {"sag": "sagittal"}, "b": {"sag": "sagittal"}})) == []
    (tied,) = odd_planes({"a": {"t2w": "coronal"}, "b": {"t2w": "axial"}})
    assert tied.case == "a"


def test_overlap_is_measured_in_the_crop() -> None:
    own = CaseImages("case", {}, frozenset({"gland"}), "t2w")

    def found(mm: float, name: str = "adc") -> list[str]:
        affine = AFFINE.copy()
        affine[0, 3] = mm
        places = {"t2w": Placement((24, 24, 12), AFFINE), name: Placement((24, 24, 12), affine)}
        return codes(list(case_grids(own, places, DEFAULTS)))

    # The crop takes 128 of 144 mm: what is 8 mm aside still covers all of it.
    assert found(0.3) == []
    assert found(8) == ["geometry.grids-differ"]
    assert found(60) == ["geometry.partial-overlap"]
    assert found(137) == ["geometry.no-overlap"]
    assert found(137, "gland") == ["geometry.grids-differ"]


def test_masks_are_told_from_scans() -> None:
    case = Case(id="a", group="p", images={}, extra={"outline_mask": "a.nii.gz"})
    for name in ("gland", "lesion", "prostate_mask", "t2_seg", "outline"):
        assert DEFAULTS.is_mask(case, name), name
    for name in ("t2w", "adc", "hbv", "sag", "t1", "flair", "segway"):
        assert not DEFAULTS.is_mask(case, name), name
    channel = CheckSettings(("t2w", "gland"), DEFAULTS.prepare, DEFAULTS.classes)
    assert not channel.is_mask(case, "gland"), "preparing takes it for an image"


def test_every_problem_of_a_manifest_is_an_error_here_too(tmp_path: Path) -> None:
    good = Case(id="a", group="p", images={"t2w": "a.nii"}).model_dump_json()
    other = good.replace('"p"', '"r"').replace('"a"', '"c"')
    lines = {
        "not json": "manifest.line",
        "[1]": "manifest.line",
        "{}": "manifest.field",
        good.replace('"train"', '"test"').replace('"a"', '"b"'): "split.patient",
        good.replace('"p"', '"q"'): "manifest.duplicate-id",
        other.replace("a.nii", "../a.nii"): "manifest.path",
        good.replace('"a"', '"-"'): "manifest.field",
        good.replace("{", '{"Mevrouw Jansen": 1, ', 1): "manifest.field",
    }
    for line, code in lines.items():
        (tmp_path / "manifest.jsonl").write_text(f"{good}\n\n{line}\n")
        with pytest.raises(UserError):
            Manifest.read(tmp_path)
        manifest, findings = read_leniently(tmp_path)
        assert code in codes(findings), line
        assert all(finding.severity == "error" for finding in findings)
        assert "a" in [case.id for case in manifest]
        assert not any("Jansen" in finding.message for finding in findings)


def test_a_crashing_job_is_named_and_the_others_are_done() -> None:
    jobs = ["6 * 7", "__import__('os')._exit(3)", "'last'"]
    results = dict(run_in_processes(eval, jobs, 1))
    assert results["6 * 7"] == 42
    assert results["'last'"] == "last"
    assert isinstance(results[jobs[1]], BrokenProcessPool)


class Page(HTMLParser):
    """What a page has in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == [], "a tag was left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name in {"src", "href"}]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in {"meta", "img", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> CheckReport:
    data = BrokenDataset(tmp_path_factory.mktemp("many") / "dataset")
    for number in range(60):
        data.case(f"sound-{number:02}", report=f"ZEBRA-7731 of {number} mm. PI-RADS 4.")
    data.case("bad", make=lambda path, array: path.touch())
    hostile = {"site": "<script>alert(1)</script>"}
    data.case("hostile", label="<img src=http://evil>", extra=hostile)
    data.write()
    return check(data.folder, workers=1, quiet=True)


def test_the_page_stands_alone(many: CheckReport) -> None:
    text = many.page.read_text()
    page = Page(text)
    pictures = [link for link in page.links if link.startswith("data:image/jpeg;base64,")]
    shown = chosen_cases(many, show_all=False)
    assert len(pictures) == len(shown) - 1, "all but the empty file"
    assert all(link.startswith(("data:", "#case-")) for link in page.links)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert "http" not in re.sub(r"base64,[^\"]+|http-equiv|http://evil", "", text)
    assert "&lt;script&gt;" in text
    assert "<img src=http" not in text
    assert "prefers-color-scheme: dark" in text
    assert "ZEBRA" not in text
    decoded = Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2])))
    assert decoded.size[0] > 3 * 100
    assert np.asarray(decoded).std() > 20


def test_the_page_shows_the_worst_and_a_sample(many: CheckReport) -> None:
    shown = [case.id for case in chosen_cases(many, show_all=False)]
    assert shown[:2] == ["bad", "hostile"]
    assert 20 <= len(shown) <= 26
    left = 62 - len(shown)
    assert f"{left} more cases left out" in page_html(many, show_all=False)
    everything = page_html(many, show_all=True)
    assert "left out" not in everything
    assert everything.count('<section class="case') == 62
    assert 'href="#case-bad"' in everything
    assert "bad" in everything


def test_every_code_is_documented() -> None:
    text = (REPOSITORY / "docs" / "reference" / "check.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9.-]+)` \| (\w+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    told = [(kind.code, kind.severity, kind.meaning, kind.remedy) for kind in CATALOGUE.values()]
    assert rows == told
    # A row for each kind, and little to read before them.
    assert len(text.splitlines()) - len(rows) <= 20
