"""Section "Runs": stages, training curves as they grow, and measured numbers, run beside run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from voxella.errors import UserError
from voxella.metrics.declared.lookup import number_of
from voxella.pipeline.stages import STAGES
from voxella.report.curves import read_log
from voxella.report.measured import evaluation_of
from voxella.report.run_folder import RunFolder
from voxella.view.answers import Refused, answer
from voxella.view.app import Section

__all__ = ["runs_section"]

# Of a curve; more cannot be told apart on a screen.
_POINTS = 600
# Stage of the command line -> the record that says it is done.
_RECORDS = {
    "encode": ("encode latents", "encode text"),
    "check-autoencoder": ("train-autoencoder",),
}
_NOT_SHOWN = ("check-autoencoder", "classify")


def runs_section(runs: Sequence[RunFolder]) -> Section:
    """Return the section."""
    routes = _Routes([run.folders.run for run in runs])
    return Section(
        "runs",
        "Runs",
        "runs.html",
        "runs.js",
        [Route("/api/runs", routes.runs), Route("/api/runs/{run:int}/log", routes.log)],
    )


class _Routes:
    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)

    def runs(self, _: Request) -> Response:
        return answer([_told(folder) for folder in self._folders])

    def log(self, request: Request) -> Response:
        """Answer the scalars of a run's log, thinned evenly; the last point is always there."""
        number = int(request.path_params["run"])
        if number >= len(self._folders):
            raise Refused(404, "There is no such run.")
        scalars = read_log(self._folders[number] / "train" / "log.jsonl")
        return answer({name: _thinned(points) for name, points in sorted(scalars.items())})


def _told(folder: Path) -> dict[str, Any]:
    # Opened anew each time: a run goes on while it is looked at.
    try:
        run = RunFolder.open(folder)
        records, found = run.records, evaluation_of(run)
    except UserError as error:
        return {"name": folder.name, "problem": str(error), "stages": [], "metrics": []}
    steps = read_log(run.folders.run / "train" / "log.jsonl").get("loss/total", [])
    return {
        "name": run.name,
        "problem": "",
        "step": steps[-1][0] if steps else None,
        "steps": run.recipe.train.steps,
        "stages": [
            _stage(stage.name, records, bool(steps))
            for stage in STAGES
            if stage.name not in _NOT_SHOWN
        ],
        "metrics": _metrics({} if found is None else found.get("metrics", {})),
        "tensorboard": (run.folders.run / "tensorboard").is_dir()
        and f"tensorboard --logdir {shlex.quote(run.name)}/tensorboard",
        "page": (run.folders.run / "report.html").is_file(),
    }


def _stage(name: str, records: dict[str, dict[str, Any]], begun: bool) -> dict[str, Any]:
    own = [records.get(record) for record in _RECORDS.get(name, (name,))]
    done = [record for record in own if record is not None]
    state = "done" if done and len(done) == len(own) else "not done"
    if state == "not done" and (done or (name == "train" and begun)):
        state = "begun"
    seconds = sum(float(record.get("seconds") or 0.0) for record in done)
    return {"name": name, "state": state, "seconds": round(seconds, 1) if done else None}


def _metrics(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    told = []
    for key, entry in found.items():
        value = entry.get("value")
        if value is None or not math.isfinite(value):
            continue
        number = number_of(key)
        told.append(
            {
                "key": key,
                "label": number.label,
                "unit": number.unit,
                "better": number.better,
                "group": number.group,
                "value": value,
                "low": entry.get("low"),
                "high": entry.get("high"),
                "n": entry.get("n"),
                "baseline": (entry.get("floor") or {}).get("value"),
            }
        )
    return told


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if len(finite) <= _POINTS:
        return finite
    every = len(finite) / _POINTS
    kept = [finite[int(place * every)] for place in range(_POINTS)]
    return kept if kept[-1] == finite[-1] else [*kept, finite[-1]]
