"""The importer: slides to files, in parallel, resumable, with a manifest at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from voxella.case import Case, Manifest, Split
from voxella.errors import UserError
from voxella.files import atomic_path, make_folder, write_json_atomic, write_text_atomic
from voxella.hashing import sha256_file
from voxella.progress import Steps
from voxella_importers.captions import class_number
from voxella_importers.phantom.making import is_whole, made
from voxella_importers.phantom.settings import fraction
from voxella_importers.phantom_he.facts import draw_slide, draw_tile, slide_id
from voxella_importers.phantom_he.settings import HESettings
from voxella_importers.phantom_he.texts import captions, report_path, slide_texts, text_paths
from voxella_importers.phantom_he.texture import Grid
from voxella_importers.phantom_he.tile import render
from voxella_importers.phantom_he.truth import SlideTruth, TileTruth, read_slide, tile_truth

__all__ = ["PhantomHEImporter", "make_slide", "split_of"]

_TILES_WORTH_A_PROCESS = 40


class PhantomHEImporter:
    """Writes a data set of tiles; slides that are already there and whole are kept.

    Args:
        settings: Checked settings.
    """

    def __init__(self, settings: HESettings) -> None:
        self.settings = settings

    def __call__(self, out: Path) -> Manifest:
        """Write tiles, texts, truth and the manifest under ``out`` and return the manifest."""
        out = Path(out)
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file, not a folder", remedy="give --out another path")
        make_folder(out)
        total = self.settings.slides
        missing = [n for n in range(total) if not _is_whole(self.settings, n, out)]
        with Steps("H&E phantom slides", total, first=total - len(missing)) as steps:
            for _ in self._made(missing, out):
                steps.advance()
        cases = [case for index in range(total) for case in self._cases(index, out)]
        manifest = Manifest(out, cases)
        manifest.write()
        return manifest

    def _made(self, missing: list[int], out: Path) -> Iterator[int]:
        """Make the missing slides, yielding each when its files are there."""
        worth = len(missing) * self.settings.tiles // _TILES_WORTH_A_PROCESS
        workers = min(self.settings.workers, worth, len(missing))
        return made(
            make_slide,
            self.settings,
            missing,
            out,
            workers=workers,
            importer="phantom_he",
            what="slides",
        )

    def _cases(self, index: int, out: Path) -> Iterator[Case]:
        """Yield the manifest's entries of a slide, from the truth on disk."""
        settings = self.settings
        path = _truth_path(index)
        slide = read_slide(out / path)
        split = split_of(
            settings.seed, index, val_share=settings.val_share, test_share=settings.test_share
        )
        for tile in slide.tiles:
            number = class_number(settings.rule, tile.prob_tumor, tile.prob_til)
            texts = text_paths(settings, slide.id, tile.id)
            known = {"prob_tumor": tile.prob_tumor, "prob_til": tile.prob_til}
            yield Case(
                id=tile.id,
                group=slide.id,
                images={"he": _image_path(tile.id)},
                texts=texts,
                texts_sha256={name: slide.files[text] for name, text in texts.items()},
                label=None if number is None else str(number),
                label_source="phantom_he",
                split=split,
                truth=path,
                conditions={name: value for name, value in known.items() if value is not None},
                extra={"mpp": slide.mpp, "pathology_report": report_path(slide.id)},
            )


def make_slide(settings: HESettings, index: int, out: Path) -> int:
    """Write slide ``index`` under ``out`` and return the index.

    The truth is written last and holds the other files' hashes: it marks the slide as whole.
    """
    slide = draw_slide(settings.seed, index)
    grid = Grid(settings.pixels, settings.mpp)
    truth_path = _truth_path(index)
    (out / truth_path).unlink(missing_ok=True)
    texts = slide_texts(settings.seed, slide)
    tiles: list[TileTruth] = []
    written: list[str] = []
    for number in range(settings.tiles):
        facts = draw_tile(settings, slide, index, number)
        tile = render(settings.seed, facts, slide.stain, grid)
        missing = settings.missing_probabilities
        truth = tile_truth(settings.seed, facts, tile, missing=missing)
        written.append(_image_path(facts.id))
        with atomic_path(out / written[-1]) as temporary:
            Image.fromarray(tile.image).save(temporary, format="PNG", compress_level=4)
        if settings.text == "caption":
            texts |= captions(settings, slide, truth)
        tiles.append(truth)
    for name, text in texts.items():
        write_text_atomic(out / name, text if text.endswith("\n") else text + "\n")
    hashes = {name: sha256_file(out / name) for name in (*written, *texts)}
    whole = SlideTruth.of(
        slide,
        tuple(tiles),
        mpp=settings.mpp,
        settings_sha256=settings.slide_hash(),
        files=hashes,
    )
    write_json_atomic(out / truth_path, whole.model_dump(mode="json"))
    return index


def split_of(seed: int, index: int, *, val_share: float, test_share: float) -> Split:
    """Return the split of slide ``index``, whatever the number of slides.

    By a hash of (seed, slide), with slides 0, 1 and 2 fixed to train, test and val: three slides
    hold one of each. A share of zero empties its split.
    """
    if index == 0:
        return "train"
    if index == 1 and test_share > 0:
        return "test"
    if index == 2 and val_share > 0:
        return "val"
    place = fraction(seed, "split", slide_id(index))
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"


def _is_whole(settings: HESettings, index: int, out: Path) -> bool:
    """Return whether the slide lies there already, made from the same settings and unharmed."""
    return is_whole(read_slide, out / _truth_path(index), out, settings.slide_hash())


def _truth_path(index: int) -> str:
    return f"truth/{slide_id(index)}.json"


def _image_path(tile: str) -> str:
    return f"images/{tile}.png"
