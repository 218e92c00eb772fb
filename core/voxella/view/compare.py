"""Section "Compare": synthetic beside real and beside its nearest training case, with marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from voxella.case import Case, Manifest
from voxella.case.marks import LONGEST_NOTE, MARK_NAMES, add_mark, read_marks
from voxella.case_fields import stored_window
from voxella.evaluation.memorisation import MEMORISATION
from voxella.imaging.shards import is_there
from voxella.report.pairs import Shown, pairs_of, read_shown
from voxella.report.run_folder import RunFolder
from voxella.sampling.space import around_the_origin
from voxella.view.answers import Refused, answer, read_body
from voxella.view.app import Section
from voxella.view.target import Target
from voxella.view.volumes import volume_response

__all__ = ["ComparedSet", "compare_section", "compared_sets"]

# In the list of a page; a larger set is walked through by number all the same.
_MOST_ROWS = 5000
_VERDICT = {
    True: "suspected copy: nearer to this training case than chance brings unseen patients",
    False: "not suspected: no nearer than unseen patients come",
}


@dataclass(frozen=True)
class ComparedSet:
    """One data set to look through, case by case.

    Attributes:
        name: For people.
        manifest: As it lies on the disk, under the names that leave the run.
        run: Whose samples they are; None: nothing is known of where it comes from.
    """

    name: str
    manifest: Manifest
    run: RunFolder | None

    @cached_property
    def named(self) -> Sequence[Case]:
        """Return the same cases in the same order, their sources named where the run can tell."""
        found = None if self.run is None else self.run.synthetic
        return self.manifest.cases if found is None else found.cases

    @cached_property
    def nearest(self) -> dict[str, list[dict[str, Any]]]:
        """Return what the memorisation test says, by the name of the synthetic case."""
        found = (
            None if self.run is None
            else MEMORISATION.read(self.run.evaluation / "memorisation.json")
        )  # fmt: skip
        told: dict[str, list[dict[str, Any]]] = {}
        for space, facts in {} if found is None else found.get("spaces", {}).items():
            for pair in facts.get("nearest") or facts.get("worst", []):
                own = {**pair, "space": space, "threshold": facts["threshold"]}
                told.setdefault(str(pair["synthetic"]), []).append(own)
        return told

    def told(self, place: int) -> dict[str, Any]:
        """Return a case for the page; names are those that the run shows."""
        disk, case = self.manifest.cases[place], self.named[place]
        source = str(case.extra.get("source_case", "")) if self.run else ""
        real = self.real(case) if self.run else {}
        return {
            "place": place,
            "id": disk.id,
            "label": disk.label,
            "split": disk.split,
            "sequences": list(disk.images),
            "predicted": [disk.extra.get(f"predicted_{what}") for what in ("label", "probability")],
            "source": self._shown(source) if source else None,
            "real": list(real),
            "nearest": [
                {
                    "space": pair["space"],
                    "training": self._shown(str(pair["training"])),
                    "distance": pair["distance"],
                    "ratio": pair["ratio"],
                    "p_value": pair["p_value"],
                    "threshold": pair["threshold"],
                    "suspected": bool(pair["suspected"]),
                    "verdict": _VERDICT[bool(pair["suspected"])],
                    "there": list(self._training(pair)),
                }
                for pair in self.nearest.get(case.id, [])
            ],
        }

    def read(self, place: int, side: str, sequence: str) -> Shown:
        """Return a volume of a case: ``synthetic``, ``real``, or ``latent``/``image`` nearest.

        Raises:
            Refused: There is none.
            UserError: Its file cannot be read.
        """
        disk, case = self.manifest.cases[place], self.named[place]
        if side == "synthetic" and sequence in disk.images:
            path = self.manifest.image_path(disk, sequence)
            if "synthetic" not in disk.extra:  # a real data set: its numbers have no fixed window
                return read_shown(path, (0.0, 1.0), (0.5, 99.5))
            return read_shown(path, stored_window(disk.extra, sequence))
        if side == "real" and (found := self.real(case).get(sequence)) is not None:
            return read_shown(found[0], (0.0, 1.0), found[1])
        for pair in self.nearest.get(case.id, []):
            if pair["space"] == side and sequence in (there := self._training(pair)):
                return read_shown(there[sequence], (0.0, 1.0))
        raise Refused(404, "There is no such volume, or its file is no longer on the disk.")

    def real(self, case: Case) -> dict[str, tuple[Path, tuple[float, float] | None]]:
        """Return file and percentiles of the real counterpart by sequence, where it is there."""
        if self.run is None:
            return {}
        pairs = {name: pairs_of(self.run, [case], name) for name in case.images}
        return {
            name: (pair.real_path, pair.percentiles)
            for name, found in pairs.items()
            for pair in found
            if pair.real_path is not None
        }

    def _training(self, pair: Mapping[str, Any]) -> dict[str, Path]:
        prepared = self.run.prepared if self.run else None
        case = self._prepared.get(str(pair["training"]))
        if prepared is None or case is None:
            return {}
        paths = {name: prepared.image_path(case, name) for name in case.images}
        return {name: path for name, path in paths.items() if is_there(path)}

    @cached_property
    def _prepared(self) -> dict[str, Case]:
        return {case.id: case for case in (self.run.prepared if self.run else None) or ()}

    def _shown(self, name: str) -> str:
        return name if self.run is None else self.run.shown(name)


def compared_sets(target: Target) -> list[ComparedSet]:
    """Return the data sets of a target that can be looked through."""
    found = []
    for run in target.runs:
        for name in run.data_sets:
            one = replace(run, data_set=name)
            if one.synthetic is not None:
                told = " / ".join(part for part in (run.name, name) if part)
                found.append(ComparedSet(told, Manifest.open(one.samples), one))
    if not target.runs and target.dataset is not None:
        found.append(ComparedSet(target.name, Manifest.open(target.dataset), None))
    return found


class _Marked(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    mark: str | None
    note: str = Field("", max_length=LONGEST_NOTE)


def compare_section(sets: Sequence[ComparedSet]) -> Section:
    """Return the section."""
    routes = _Routes(sets)
    start = "/api/compare"
    one = f"{start}/{{set:int}}/{{place:int}}"
    return Section(
        "compare",
        "Compare",
        "compare.html",
        "compare.js",
        [
            Route(f"{start}/sets", routes.sets),
            Route(f"{start}/{{set:int}}", routes.cases),
            Route(one, routes.case),
            Route(f"{one}/mark", routes.mark, methods=["POST"]),
            Route(f"{one}/{{side}}/{{file}}", routes.volume),
        ],
        {"marks": MARK_NAMES, "longest_note": LONGEST_NOTE},
    )


class _Routes:
    def __init__(self, sets: Sequence[ComparedSet]) -> None:
        self._sets = list(sets)

    def sets(self, _: Request) -> Response:
        return answer([{"name": one.name, "cases": len(one.manifest)} for one in self._sets])

    def cases(self, request: Request) -> Response:
        """Answer ids and marks of a set, for the list."""
        found = self._set(request)
        marks = read_marks(found.manifest.folder)
        rows = []
        for case, _ in zip(found.manifest, range(_MOST_ROWS), strict=False):
            mark = marks.get(case.id)
            rows.append([case.id, case.label, None if mark is None else mark.mark])
        return answer({"rows": rows, "cases": len(found.manifest)})

    def case(self, request: Request) -> Response:
        found, place = self._at(request)
        told = found.told(place)
        mark = read_marks(found.manifest.folder).get(told["id"])
        noted = None if mark is None else {"mark": mark.mark, "note": mark.note}
        return answer({**told, "marked": noted})

    def volume(self, request: Request) -> Response:
        found, place = self._at(request)
        sequence, _, suffix = str(request.path_params["file"]).rpartition(".")
        if suffix not in ("nii", "png"):
            raise Refused(404, "There is no such volume.")
        shown = found.read(place, str(request.path_params["side"]), sequence)
        array = shown.array if shown.array.ndim == 4 else shown.array[None]
        affine = around_the_origin(array.shape[1:], shown.spacing_mm)
        return volume_response(array, affine, shown.spacing_mm, suffix)

    async def mark(self, request: Request) -> Response:
        wanted = await read_body(request, _Marked)
        found, place = self._at(request)
        if wanted.mark is None and wanted.note:
            raise Refused(422, "A note goes with a mark.", f"choose {', '.join(MARK_NAMES)}")
        case = found.manifest.cases[place].id
        made = await run_in_threadpool(
            add_mark, found.manifest.folder, case, wanted.mark, wanted.note
        )
        return answer({"mark": made.mark, "note": made.note})

    def _set(self, request: Request) -> ComparedSet:
        number = int(request.path_params["set"])
        if number >= len(self._sets):
            raise Refused(404, "There is no such data set.")
        return self._sets[number]

    def _at(self, request: Request) -> tuple[ComparedSet, int]:
        found, place = self._set(request), int(request.path_params["place"])
        if place >= len(found.manifest):
            raise Refused(404, f"The data set has {len(found.manifest)} cases.")
        return found, place
