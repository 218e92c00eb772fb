"""From a folder to its reader study: the one that is there, or one that is made now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.case import Manifest, manifest_file
from voxella.errors import UserError
from voxella.progress import print_line
from voxella.readers.study import ReaderStudy, StudySettings, make_study
from voxella.report.run_folder import RECIPE, RunFolder
from voxella.wording import shown_path

__all__ = ["STUDY_FOLDER", "StudySources", "open_study"]

STUDY_FOLDER = "reader-study"
_HELD_OUT = ("val", "test")


@dataclass(frozen=True)
class StudySources:
    """Where a study's volumes are, and where the study is.

    Attributes:
        synthetic: The data set that is judged.
        real: Real cases; None: not known.
        splits: Of the real cases.
        out: The study's folder.
    """

    synthetic: Path
    real: Path | None
    splits: tuple[str, ...]
    out: Path

    @property
    def name(self) -> str:
        """Return the data set's name, with that of its run."""
        return f"{self.synthetic.parent.name}/{self.synthetic.name}"

    @classmethod
    def of(
        cls, folder: Path, real: Path | None, splits: tuple[str, ...], out: Path | None
    ) -> StudySources:
        """Look what a folder is.

        Args:
            folder: A run, a run's samples, or another data set.
            real: Real cases; None: the prepared cases of the run.
            splits: Of them; none: what is held out.
            out: The study's folder; None: in the data set's.

        Raises:
            UserError: There is no data set in it.
        """
        folder = Path(folder).absolute()
        if not folder.is_dir():
            raise UserError(
                f"{shown_path(folder)}: there is no such folder",
                expected="RUN, RUN/samples, or a data set",
            )
        is_run = (folder / RECIPE).is_file() and manifest_file(folder) is None
        run = folder if is_run else folder.parent
        synthetic = folder / "samples" if is_run else folder
        if real is None and (run / RECIPE).is_file():
            prepared = RunFolder.open(run).folders.prepared
            real = prepared if manifest_file(prepared) is not None else None
        return cls(
            synthetic,
            None if real is None else Path(real).absolute(),
            splits or _HELD_OUT,
            synthetic / STUDY_FOLDER if out is None else Path(out).absolute(),
        )


def open_study(
    sources: StudySources, asked: Mapping[str, Any], *, make: bool = True
) -> ReaderStudy:
    """Return the study of a folder, so that it goes on, or make it.

    Args:
        sources: Where things are.
        asked: Of :class:`StudySettings`, only what was said.
        make: Where there is none.

    Raises:
        UserError: There is none and none is to be made, the one that is there is another, a file of
            it is missing, or from :func:`make_study`.
    """
    study = ReaderStudy.read(sources.out)
    if study is not None:
        _require_same(study, asked)
        return study
    if not make:
        raise UserError(
            f"there is no reader study in {shown_path(sources.out)}",
            remedy=f"voxella reader-study {shown_path(sources.synthetic)}   (makes one)",
        )
    if sources.real is None:
        raise UserError(
            f"{shown_path(sources.synthetic)} is in no run with prepared cases: real ones are "
            "needed beside it",
            expected="--real DIR, a data set on the same grid",
        )
    real, synthetic = Manifest.read(sources.real), Manifest.read(sources.synthetic)
    made = make_study(sources.out, synthetic, real, StudySettings(**asked), sources.splits)
    print_line(
        f"reader study: {len(made.items)} volumes for each of {made.readers} readers, half of them "
        f"real, in {sources.out}"
    )
    return made


def _require_same(study: ReaderStudy, asked: Mapping[str, Any]) -> None:
    there = {
        "readers": study.readers,
        "cases": len(study.items),
        "seed": study.seed,
        "sequence": study.sequence,
    }
    other = [name for name, value in asked.items() if value != there[name]]
    if other:
        told = ", ".join(f"{name} {there[name]}" for name in other)
        raise UserError(
            f"a reader study is already in {study.folder}, with {told}",
            remedy="leave these options out to go on with it, or begin another: --out DIR",
        )
    missing = [item for item in study.items if not study.file(item.number).is_file()]
    if missing:
        raise UserError(
            f"{study.folder}: {len(missing)} of its volumes are missing",
            remedy="restore images/, or begin another study: --out DIR",
        )
