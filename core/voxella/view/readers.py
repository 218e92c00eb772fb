"""Section "Reader study": one blinded volume after another, two questions, then the results.

Nothing that is sent before all have answered depends on what a volume is: numbers are drawn, files
have one length, and answers to requests carry the same headers.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path

import nibabel as nib
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from voxella.imaging.montage import enlarged, three_planes
from voxella.readers.answers import BEST, add_answer, read_answers
from voxella.readers.results import LABELS, is_complete, study_results, write_results
from voxella.readers.study import ReaderStudy
from voxella.view.answers import Refused, answer, read_body
from voxella.view.app import Section

__all__ = ["readers_section"]

_START = "/api/readers"
_PIXELS = 512
_TYPES = {".nii": "application/octet-stream", ".png": "image/png"}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    reader: int
    item: int
    verdict: str = Field(max_length=16)
    quality: int


def readers_section(study: ReaderStudy) -> Section:
    """Return the section.

    Args:
        study: Its answers are kept in its folder as they come.

    Raises:
        UserError: A line of the answers is none.
    """
    read_answers(study)  # told at the start, not in the middle of a reading
    routes = _Routes(study)
    return Section(
        "readers", "Reader study", "readers.html", "readers.js", routes.all(), {"best": BEST}
    )


class _Routes:
    def __init__(self, study: ReaderStudy) -> None:
        self._study = study
        # Two tabs of one browser may answer at once.
        self._lock = threading.Lock()

    def all(self) -> list[Route]:
        return [
            Route(f"{_START}/state", self.state),
            Route(f"{_START}/reader/{{reader:int}}", self.reader),
            Route(f"{_START}/answer", self.add, methods=["POST"]),
            Route(f"{_START}/results", self.results),
            Route(f"{_START}/volumes/{{item:int}}.{{suffix}}", self.volume),
        ]

    def state(self, _: Request) -> Response:
        """Return how far everybody is."""
        study, answers = self._study, read_answers(self._study)
        done = [sum(one == reader for one, _ in answers) for reader in self._readers()]
        return answer(
            {
                "cases": len(study.items),
                "done": done,
                "picture": study.suffix == ".png",
                "complete": is_complete(study, answers),
            }
        )

    def reader(self, request: Request) -> Response:
        """Return a reader's order, and what the reader has answered."""
        study, reader = self._study, request.path_params["reader"]
        if reader not in self._readers():
            raise Refused(404, f"This study has readers 1 to {study.readers}.")
        answers = read_answers(study)
        own = {
            str(item): {"verdict": given.verdict, "quality": given.quality}
            for (one, item), given in answers.items()
            if one == reader
        }
        return answer({"order": study.order(reader), "answers": own})

    async def add(self, request: Request) -> Response:
        given = await read_body(request, _Answer)
        return answer({"complete": await run_in_threadpool(self._add, given)})

    def _add(self, given: _Answer) -> bool:
        study = self._study
        with self._lock:
            if is_complete(study, read_answers(study)):
                raise Refused(409, "All have answered, and the results were shown.")
            add_answer(study, given.reader, given.item, given.verdict, given.quality)
            complete = is_complete(study, read_answers(study))
            if complete:
                write_results(study)
        return complete

    def results(self, _: Request) -> Response:
        study, answers = self._study, read_answers(self._study)
        if not is_complete(study, answers):
            left = study.readers * len(study.items) - len(answers)
            raise Refused(409, f"{left} answers are still to come; results before them would tell.")
        return answer({**study_results(study, answers), "labels": LABELS})

    def volume(self, request: Request) -> Response:
        study, item = self._study, request.path_params["item"]
        suffix = f".{request.path_params['suffix']}"
        if not 1 <= item <= len(study.items) or suffix not in _TYPES:
            raise Refused(404, "This study has no such volume.")
        path = study.file(item)
        if suffix == ".png" and study.suffix != ".png":
            return Response(_still(path), media_type=_TYPES[suffix])
        if suffix != study.suffix:
            raise Refused(404, "This study has no such volume.")
        return Response(path.read_bytes(), media_type=_TYPES[suffix])

    def _readers(self) -> range:
        return range(1, self._study.readers + 1)


def _still(path: Path) -> bytes:
    """Return the three mid-planes of a blinded volume, for a browser without WebGL."""
    image = nib.Nifti1Image.from_bytes(path.read_bytes())
    planes = three_planes(
        image.get_fdata(), [float(edge) for edge in image.header.get_zooms()], window=(0, 255)
    )
    held = io.BytesIO()
    # Uncompressed, as the volumes: a length must not tell.
    Pillow.fromarray(enlarged(planes, _PIXELS)).save(held, format="PNG", compress_level=0)
    return held.getvalue()
