"""What routes answer with: JSON, and refusals that are sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from voxella.errors import UserError

__all__ = ["Refused", "answer", "on_mistake", "on_refused", "read_body", "refusal"]

_Form = TypeVar("_Form", bound=BaseModel)


class Refused(Exception):
    """A request that cannot be answered.

    Attributes:
        status: Of HTTP.
        problem: A sentence.
        remedy: What to do; "" where nothing is.
    """

    def __init__(self, status: int, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.remedy = remedy


def answer(value: Any, status: int = 200) -> Response:  # noqa: ANN401 - any JSON value
    """Return JSON; NaN and infinities, which JSON has no word for, must not be in it."""
    content = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Response(content, status, media_type="application/json")


def refusal(status: int, problem: str, remedy: str = "") -> Response:
    """Return what is wrong and what to do, as JSON that the page shows."""
    return answer({"problem": problem, "remedy": remedy}, status)


async def read_body(request: Request, form: type[_Form]) -> _Form:
    """Read a JSON body into a form.

    Raises:
        Refused: It is no JSON, or not of that form. What was sent is not repeated: it may be a
            report.
    """
    try:
        return form.model_validate_json(await request.body())
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the request'}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise Refused(422, f"The request cannot be read: {told}.") from None


def on_refused(_: Request, error: Exception) -> Response:
    """Answer a :class:`Refused`."""
    if not isinstance(error, Refused):
        raise error
    return refusal(error.status, error.problem, error.remedy)


def on_mistake(_: Request, error: Exception) -> Response:
    """Answer a mistake of the user's that the engine has found."""
    return refusal(422, str(error))


HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    Refused: on_refused,
    UserError: on_mistake,
}
