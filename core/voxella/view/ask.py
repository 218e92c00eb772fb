"""Section "Ask": a report in, a volume out, with progress, cancelling and a queue."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from voxella.case import ConditionValue
from voxella.files import write_text_atomic
from voxella.sampling.synthetic_image import SyntheticImage
from voxella.view.answers import Refused, answer, read_body
from voxella.view.app import Section
from voxella.view.asking import MOST_COUNT, AskedModel
from voxella.view.jobs import Asked, Job, Jobs, difference
from voxella.view.volumes import volume_response

__all__ = ["ask_section"]

_LONGEST_TEXT = 20_000
_LOOK_SECONDS = 0.1
# A proxy or a tunnel closes what says nothing.
_ALIVE_SECONDS = 10.0


class _Prompt(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    report: str = Field("", max_length=_LONGEST_TEXT)
    label: str | None = None
    conditions: dict[str, ConditionValue] = Field(default_factory=dict, max_length=100)
    patient: bool = False


class _Wanted(_Prompt):
    seed: int = Field(0, ge=0, lt=2**63)
    steps: int = Field(ge=1, le=1000)
    guidance: float = Field(1.0, ge=0.0, le=100.0, allow_inf_nan=False)
    count: int = Field(1, ge=1, le=MOST_COUNT)


class _Save(BaseModel):
    model_config = ConfigDict(extra="forbid")

    with_text: bool = False


def ask_section(
    model: AskedModel, jobs: Jobs, examples: Sequence[dict[str, Any]], out: Path
) -> Section:
    """Return the section.

    Args:
        model: What is asked.
        jobs: Its queue.
        examples: Prompts to begin with; their reports may be shown.
        out: Where "save" writes, and nothing else.
    """
    routes = _Routes(model, jobs, list(examples), out)
    return Section("ask", "Ask", "ask.html", "ask.js", routes.all())


class _Routes:
    def __init__(
        self, model: AskedModel, jobs: Jobs, examples: list[dict[str, Any]], out: Path
    ) -> None:
        self._model = model
        self._jobs = jobs
        self._examples = examples
        self._out = out

    def all(self) -> list[Route]:
        start = "/api/ask"
        one = f"{start}/jobs/{{number:int}}"
        apart = f"{start}/difference/{{number:int}}/{{place:int}}/{{other:int}}/{{other_place:int}}"
        return [
            Route(f"{start}/model", self.model),
            Route(f"{start}/text", self.text, methods=["POST"]),
            Route(f"{start}/jobs", self.list),
            Route(f"{start}/jobs", self.add, methods=["POST"]),
            Route(f"{one}/events", self.events),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/save", self.save, methods=["POST"]),
            Route(f"{one}/images/{{place:int}}/{{file}}", self.image),
            Route(f"{apart}/{{file}}", self.apart),
        ]

    def model(self, _: Request) -> Response:
        return answer({**self._model.told(), "examples": self._examples, "out": self._out.name})

    async def text(self, request: Request) -> Response:
        prompt = await read_body(request, _Prompt)
        tokens = await run_in_threadpool(self._model.tokens, prompt.report)
        head = await run_in_threadpool(
            self._model.head,
            prompt.report,
            prompt.label,
            prompt.conditions,
            patient=prompt.patient,
        )
        return answer({"tokens": tokens, "head": head.probabilities, "why": head.why})

    def list(self, _: Request) -> Response:
        return answer([self._told(job, whole=True) for job in self._jobs.all()])

    async def add(self, request: Request) -> Response:
        wanted = await read_body(request, _Wanted)
        given = wanted.model_dump(exclude={"patient"})
        return answer(self._told(self._jobs.add(Asked(**given))), 202)

    def cancel(self, request: Request) -> Response:
        job = self._job(request)
        self._jobs.cancel(job)
        return answer(self._told(job))

    async def save(self, request: Request) -> Response:
        wanted, job = await read_body(request, _Save), self._job(request)
        if not job.images:
            raise Refused(409, f"Request {job.number} has no images that could be saved.")
        folder = await run_in_threadpool(self._write, job, with_text=wanted.with_text)
        return answer({"folder": f"{self._out.name}/{folder.name}"})

    def _write(self, job: Job, *, with_text: bool) -> Path:
        """Write a request's images, each with what it was made of; the one place of a text."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = self._out / f"{stamp}-request-{job.number}"
        for image in job.images:
            image.save(folder)
        if with_text:
            write_text_atomic(folder / "report.txt", job.asked.report)
        return folder

    async def events(self, request: Request) -> Response:
        job = self._job(request)
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(self._stream(job), media_type="text/event-stream", headers=headers)

    async def _stream(self, job: Job) -> AsyncIterator[str]:
        """Yield the job's state whenever it changes, and at last once."""
        before, sent = "", time.monotonic()
        while True:
            over = job.is_over or self._jobs.is_ending
            told = json.dumps(self._told(job), allow_nan=False)
            now = time.monotonic()
            if told != before or now - sent > _ALIVE_SECONDS:
                before, sent = told, now
                yield f"data: {told}\n\n"
            if over:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def image(self, request: Request) -> Response:
        image = self._image(request, "number", "place")
        sequence, suffix = _file(request, image)
        # Colours lie in [0, 1]; a sequence with a unit is shown in it.
        array = image.quantity(sequence)
        low, high = float(array.min()), float(array.max())
        window = (0.0, 1.0) if len(array) > 1 else (low, max(high, low + 1e-9))
        return volume_response(array, image.affine, image.spacing_mm, suffix, window)

    def apart(self, request: Request) -> Response:
        left = self._image(request, "number", "place")
        right = self._image(request, "other", "other_place")
        sequence, suffix = _file(request, left)
        array = difference(left, right, sequence)
        if suffix == "nii":
            array = array.mean(axis=0, keepdims=True)
        return volume_response(array, left.affine, left.spacing_mm, suffix)

    def _job(self, request: Request, name: str = "number") -> Job:
        return self._jobs.get(int(request.path_params[name]))

    def _image(self, request: Request, number: str, place: str) -> SyntheticImage:
        job, at = self._job(request, number), int(request.path_params[place])
        if not 0 <= at < len(job.images):
            raise Refused(
                404,
                f"Request {job.number} has no image {at} any more: newer ones took its place."
                if job.state == "done"
                else f"Request {job.number} has no image {at}.",
                "generate it again: the same seed gives the same image",
            )
        return job.images[at]

    def _told(self, job: Job, *, whole: bool = False) -> dict[str, Any]:
        asked = job.asked
        left = job.seconds_left()
        told: dict[str, Any] = {
            "number": job.number,
            "state": job.state,
            "done": job.steps[0],
            "steps": job.steps[1],
            "ahead": self._jobs.ahead_of(job) if job.state == "waiting" else 0,
            # Whole seconds: a stream that tells each tenth tells nothing.
            "left": None if left is None else round(left),
            "problem": job.problem,
            "seconds": round(job.seconds, 1) if job.is_over else None,
            "images": len(job.images),
        }
        if job.images and (found := job.images[0].provenance):
            told["predicted"] = [
                [i.provenance.get("predicted_label"), i.provenance.get("predicted_probability")]
                for i in job.images
            ]
            told["label"] = found.get("label")
        if whole:
            fields = ("report", "label", "seed", "guidance", "count")
            told["asked"] = {name: getattr(asked, name) for name in fields}
            told["asked"] |= {"conditions": dict(asked.conditions), "steps": asked.steps}
        return told


def _file(request: Request, image: SyntheticImage) -> tuple[str, str]:
    """Return sequence and form of an address's last part."""
    sequence, _, suffix = str(request.path_params["file"]).rpartition(".")
    if sequence not in image.channels or suffix not in ("nii", "png"):
        raise Refused(404, "There is no such image.")
    return sequence, suffix
