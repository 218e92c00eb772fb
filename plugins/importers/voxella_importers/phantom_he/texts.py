"""The texts of a slide and of its tiles, and where they lie."""

from __future__ import annotations

from functools import lru_cache

from voxella.case.texts import REPORT
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Report, Summariser
from voxella_importers.captions import caption
from voxella_importers.phantom.settings import fraction
from voxella_importers.phantom_he.facts import SlideFacts, draw_slide
from voxella_importers.phantom_he.report import write_report
from voxella_importers.phantom_he.settings import HESettings
from voxella_importers.phantom_he.truth import TileTruth

__all__ = ["captions", "report_path", "slide_texts", "text_paths"]

# Slides behind those of any data set: a summary of one of them is nobody's in another split.
_BEYOND = 100_000


def slide_texts(seed: int, slide: SlideFacts) -> dict[str, str]:
    """Return the report of a slide and its summary, by path."""
    report = write_report(seed, slide)
    return {report_path(slide.id): report, _summary_path(slide.id): _summary(slide.id, report, 0)}


def captions(settings: HESettings, slide: SlideFacts, tile: TileTruth) -> dict[str, str]:
    """Return the captions of a tile, by path: one for each summary."""
    told = slide if settings.summary_of == "own" else _another(settings.seed, tile.id)
    report = write_report(settings.seed, told)
    return {
        path: caption(
            settings.rule, tile.prob_tumor, tile.prob_til, _summary(told.id, report, variant)
        )
        for variant, path in enumerate(text_paths(settings, slide.id, tile.id).values())
    }


def text_paths(settings: HESettings, slide: str, tile: str) -> dict[str, str]:
    """Return the files of the texts that a case has, by their names."""
    if settings.text == "report":
        return {REPORT: report_path(slide)}
    if settings.text == "summary":
        return {REPORT: _summary_path(slide)}
    more = {f"summary-{n}": f"captions/{tile}-{n}.txt" for n in range(2, settings.summaries + 1)}
    return {REPORT: f"captions/{tile}.txt"} | more


def report_path(slide: str) -> str:
    """Return the file of a slide's whole report."""
    return f"reports/{slide}.txt"


def _summary_path(slide: str) -> str:
    return f"summaries/{slide}.txt"


def _another(seed: int, tile: str) -> SlideFacts:
    """Return a slide of the same population that is not in the data set."""
    return draw_slide(seed, _BEYOND + int(_BEYOND * fraction(seed, "summary", tile)))


@lru_cache(maxsize=64)
def _summary(slide: str, report: str, variant: int) -> str:
    summariser: Summariser = registry.build("summarisers", Component(name="extractive"))
    (summary,) = summariser([Report(slide, report)], variant=variant)
    return summary
