"""Section "Data": the cases of a data set with what the check says of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from voxella.case import Case, Manifest
from voxella.case.manifest import MANY
from voxella.case.texts import in_order
from voxella.check.finding import SEVERITIES
from voxella.check.quick import quick_check
from voxella.check.settings import CheckSettings
from voxella.errors import UserError
from voxella.plain_json import json_or_none
from voxella.view.answers import Refused, answer
from voxella.view.app import Section
from voxella.view.volumes import file_response

__all__ = ["data_section"]

_RESULT = Path("check") / "check.json"
_PAGE = 50
# Headers of more cases than these are not read while somebody waits.
_MOST_QUICK = 2000

Findings = dict[str | None, list[dict[str, Any]]]


def data_section(folder: Path, *, show_reports: bool) -> Section:
    """Return the section.

    Args:
        folder: With a manifest.
        show_reports: Report texts may be shown: switched on by the command line.

    Raises:
        UserError: There is no manifest, or it cannot be read.
    """
    routes = _Routes(Manifest.open(folder), show_reports=show_reports)
    start = "/api/data"
    one = f"{start}/cases/{{place:int}}"
    return Section(
        "data",
        "Data",
        "data.html",
        "data.js",
        [
            Route(f"{start}/cases", routes.cases),
            Route(one, routes.case),
            Route(f"{one}/{{file}}", routes.volume),
        ],
        {"severities": SEVERITIES, "show_reports": show_reports},
    )


class _Routes:
    def __init__(self, manifest: Manifest, *, show_reports: bool) -> None:
        self._manifest = manifest
        self._show_reports = show_reports
        self._looking = threading.Lock()
        self._quick: Findings | None = None

    def cases(self, request: Request) -> Response:
        """Answer one page of cases: ``?start=0&only=error``."""
        query = request.query_params
        start, only = query.get("start", "0"), query.get("only", "")
        if not (start.isascii() and start.isdecimal()) or only not in ("", *SEVERITIES):
            raise Refused(422, "start is a number from 0, only one of error, warning, note.")
        findings, how = self._findings()
        places = self._places(findings, only)
        first = min(int(start), max(0, len(places) - 1)) // _PAGE * _PAGE
        rows = [
            self._row(place, self._manifest.cases[place], findings)
            for place in places[first : first + _PAGE]
        ]
        own = findings.get(None, [])
        return answer(
            {"rows": rows, "start": first, "found": len(places), "page": _PAGE,
             "cases": len(self._manifest), "how": how, "dataset": own}
        )  # fmt: skip

    def case(self, request: Request) -> Response:
        place, case = self._case(request)
        findings, _ = self._findings()
        texts = {}
        if self._show_reports:
            texts = {name: self._manifest.read_text(case, name) for name in in_order(case.texts)}
        shown = {
            "images": list(case.images),
            "group": case.group,
            "conditions": dict(case.conditions),
            "findings": findings.get(case.id, []),
            "texts": texts,
            "has_texts": list(case.texts),
        }
        return answer({**self._row(place, case, findings), **shown})

    def volume(self, request: Request) -> Response:
        _, case = self._case(request)
        sequence, _, suffix = str(request.path_params["file"]).rpartition(".")
        if sequence not in case.images or suffix not in ("nii", "png"):
            raise Refused(404, "There is no such image.")
        return file_response(_inside(self._manifest, case, sequence), suffix, (0.5, 99.5))

    def _case(self, request: Request) -> tuple[int, Case]:
        place = int(request.path_params["place"])
        if place >= len(self._manifest):
            raise Refused(404, f"The data set has {len(self._manifest)} cases.")
        return place, self._manifest.cases[place]

    def _row(self, place: int, case: Case, findings: Findings) -> dict[str, Any]:
        own = findings.get(case.id, [])
        counts: dict[str, int] = {n: sum(f["severity"] == n for f in own) for n in SEVERITIES}
        return {"place": place, "id": case.id, "label": case.label, "split": case.split, **counts}

    def _places(self, findings: Findings, only: str) -> Sequence[int]:
        if not only:
            return range(len(self._manifest))
        if len(self._manifest) > MANY:
            raise Refused(422, f"Of more than {MANY:,} cases the list is shown whole.")
        wanted = {case for case, own in findings.items() if any(f["severity"] == only for f in own)}
        return [place for place, case in enumerate(self._manifest) if case.id in wanted]

    def _findings(self) -> tuple[Findings, str]:
        """Return findings by case, and where they are from; None stands for the data set."""
        path = self._manifest.folder / _RESULT
        try:
            found = json_or_none(path.read_text("utf-8")) if path.is_file() else None
        except (OSError, ValueError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("findings"), list):
            return _by_case(found["findings"]), "as voxella check has found them"
        if len(self._manifest) > _MOST_QUICK:
            return {}, "not checked yet: voxella check DATASET"
        with self._looking:
            if self._quick is None:
                settings = CheckSettings.without_recipe(self._manifest)
                every = [f.as_json() for f in quick_check(self._manifest, settings)]
                self._quick = _by_case(every)
        return self._quick, "of manifest and headers alone; voxella check DATASET reads all"


def _by_case(findings: Sequence[dict[str, Any]]) -> Findings:
    found: Findings = {}
    for finding in findings:
        found.setdefault(finding.get("case"), []).append(finding)
    return found


def _inside(manifest: Manifest, case: Case, sequence: str) -> Path:
    """Return an image's path; a manifest may name files elsewhere, which no page shows.

    Raises:
        UserError: It leaves the data set's folder.
    """
    path = manifest.image_path(case, sequence)
    if not path.resolve().is_relative_to(manifest.folder.resolve()):
        raise UserError(f"{case.id}: its {sequence} lies outside of the data set's folder")
    return path
