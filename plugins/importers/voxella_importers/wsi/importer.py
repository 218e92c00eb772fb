"""The importer: slides to tiles in parallel, resumable, and a manifest that points into shards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from pydantic import ValidationError

from voxella.case import Case, Manifest, Split
from voxella.data.drafts import split_of, warn
from voxella.data.tile_store import TileStore, write_cases
from voxella.errors import UserError
from voxella.files import make_folder
from voxella.hashing import sha256_json, stat_marks
from voxella.machine import raise_if_machine
from voxella.progress import Steps
from voxella.wording import counted, listed
from voxella.workspace.pool import KilledError, processes_for, run_in_processes
from voxella_importers.slide_summaries import read_summaries
from voxella_importers.tile_cases import TileCases, check_splits
from voxella_importers.wsi.cut import COLUMNS, Job, cut_slide
from voxella_importers.wsi.settings import WsiSettings
from voxella_importers.wsi.slide import SUFFIXES, plan_of, slide_files

__all__ = ["WsiImporter"]

_SLIDES_WORTH_A_PROCESS = 2


class WsiImporter:
    """Writes the tiles of a folder of slides; slides that are there and whole are kept.

    Args:
        settings: Checked settings.
    """

    def __init__(self, settings: WsiSettings) -> None:
        self.settings = settings

    def __call__(self, out: Path) -> Manifest:
        """Write shards, texts and the manifest under ``out`` and return the manifest.

        Raises:
            UserError: What is wrong with any slide: all of them at once, by name. What was cut
                before is kept, and the same command goes on from there.
        """
        out = Path(out)
        slides = self._slides()
        self._check_headers(slides)
        self._check_tables(list(slides))
        patients = {slide: self._group(slide) for slide in slides}
        names = [*slides, *patients.values()]
        source = self.settings.summaries
        summaries = {} if source is None else read_summaries(source, names, out)
        splits = {slide: self._split(group) for slide, group in patients.items()}
        check_splits("wsi", splits)
        make_folder(out)
        self._cut(slides, out)
        store = TileStore(out, COLUMNS)
        counts = {slide: sum(1 for _ in store.rows(slide)) for slide in slides}
        self._tell(counts, patients, summaries)
        cases = self._cases(out, patients, splits, summaries)
        above = self.settings.parquet_above
        return write_cases(out, cases, sum(counts.values()), parquet_above=above)

    def _slides(self) -> dict[str, Path]:
        """Return the slides' files by id."""
        slides: dict[str, Path] = {}
        problems = []
        for path in slide_files(self.settings.source):
            try:
                Case(id=path.stem, group="", images={})
            except ValidationError:
                problems.append(
                    f"{path.name}: a slide's name is letters, digits and _ . - only, 128 at most"
                )
            if path.stem in slides:
                problems.append(f"{path.stem}: {slides[path.stem].name} and {path.name}")
            slides[path.stem] = path
        if problems:
            raise self._refused(problems, "rename them, or import another folder")
        if not slides:
            raise UserError(
                f"importer wsi: no slide in {self.settings.source}", expected=", ".join(SUFFIXES)
            )
        return slides

    def _check_headers(self, slides: dict[str, Path]) -> None:
        import openslide

        problems = []
        for slide, path in slides.items():
            try:
                with openslide.OpenSlide(path) as opened:
                    plan_of(opened, slide, self.settings)
            except (openslide.OpenSlideError, ValueError) as error:
                raise_if_machine(error, path)
                problems.append(f"slide {slide}: {error}")
        if problems:
            raise self._refused(problems, "fix or remove these; nothing was written")

    def _check_tables(self, slides: list[str]) -> None:
        """Refuse a folder of tables of which none is a slide's; tell which slides have none."""
        for name, folder in {"tumor": self.settings.tumor, "til": self.settings.til}.items():
            if folder is None:
                continue
            absent = [slide for slide in slides if not (folder / f"{slide}.csv").is_file()]
            if len(absent) == len(slides):
                raise UserError(
                    f"importer wsi: {name}: {folder} has a table of none of {len(slides)} slides",
                    expected="SLIDE.csv, as WSInfer's model-outputs-csv",
                )
            if absent:
                warn(f"{len(absent)} slides have no probabilities of {name}: {listed(absent)}")

    def _group(self, slide: str) -> str:
        found = re.search(self.settings.group or "(.*)", slide)
        return slide if found is None or not found[1] else found[1]

    def _split(self, group: str) -> Split:
        settings = self.settings
        shares = {"val_share": settings.val_share, "test_share": settings.test_share}
        return split_of(group, seed=settings.seed, **shares)

    def _facts(self, slide: str, path: Path) -> str:
        """Return a hash of what decides a slide's shard: settings, the file, its tables."""
        folders = [self.settings.tumor, self.settings.til]
        tables = [None if folder is None else folder / f"{slide}.csv" for folder in folders]
        marks = [None if table is None else stat_marks(table) for table in tables]
        # A MIRAX slide's pixels lie in a folder of its name.
        own = [stat_marks(path), stat_marks(path.with_suffix(""))]
        return sha256_json([self.settings.tiles_hash(slide), self.settings.columns, own, marks])

    def _cut(self, slides: dict[str, Path], out: Path) -> None:
        store = TileStore(out, COLUMNS)
        facts = {slide: self._facts(slide, path) for slide, path in slides.items()}
        jobs = [
            Job(slide, path, out, self.settings, facts[slide])
            for slide, path in slides.items()
            if not store.is_whole(slide, facts[slide])
        ]
        problems: dict[str, str] = {}
        with Steps("slides", len(slides), first=len(slides) - len(jobs)) as steps:
            for slide, problem in self._results(jobs):
                if problem is not None:
                    problems[slide] = problem
                steps.advance(slide)
        if problems:
            told = [f"slide {slide}: {problems[slide]}" for slide in sorted(problems)]
            remedy = "fix or remove these and give the same command: the other slides are kept"
            raise self._refused(told, remedy)

    def _results(self, jobs: list[Job]) -> Iterator[tuple[str, str | None]]:
        workers = processes_for(len(jobs), self.settings.workers, _SLIDES_WORTH_A_PROCESS)
        if workers <= 1:
            yield from ((job.slide, cut_slide(job)) for job in jobs)
            return
        for job, result in run_in_processes(cut_slide, jobs, workers):
            if isinstance(result, KilledError):
                raise result.mistake(f"slide {job.slide}")
            if isinstance(result, BrokenProcessPool):
                yield job.slide, "reading it ended the process (a crash)"
            else:
                yield job.slide, result

    def _tell(
        self, counts: dict[str, int], patients: dict[str, str], summaries: dict[str, list[str]]
    ) -> None:
        empty = [slide for slide, count in counts.items() if count == 0]
        if len(empty) == len(counts):
            raise UserError(
                f"importer wsi: none of {len(counts)} slides has a tile with enough tissue",
                remedy="ask for less: --set tissue=0.1   (or a lower edges)",
            )
        if empty:
            warn(f"{len(empty)} slides have no tile with enough tissue: {listed(empty)}")
        if self.settings.summaries is not None:
            without = [s for s, g in patients.items() if s not in summaries and g not in summaries]
            if without:
                warn(f"{len(without)} slides have no summary: {listed(without)}")

    def _cases(
        self,
        out: Path,
        patients: dict[str, str],
        splits: dict[str, Split],
        summaries: dict[str, list[str]],
    ) -> Iterator[Case]:
        settings = self.settings
        captions = settings.text == "caption"
        made = TileCases(out, settings.rule, "wsinfer", captions=captions)
        store = TileStore(out, COLUMNS)
        for slide, group in patients.items():
            texts = summaries.get(slide) or summaries.get(group) or []
            for tile in store.rows(slide):
                kept = {name: tile.values[name] for name in ("x", "y", "mpp")}
                extra = {name: value for name, value in kept.items() if value is not None}
                yield made.case(
                    slide, tile, group=group, split=splits[slide], summaries=texts, extra=extra
                )

    def _refused(self, problems: list[str], remedy: str) -> UserError:
        count = f"importer wsi: {counted(len(problems), 'problem')} in {self.settings.source}"
        return UserError("\n".join([count, *problems]), remedy=remedy)
