"""JSON that anybody may have written: whatever cannot be used is one kind of error."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["json_or_none", "parse_json"]

# Nothing that is read here is nested ten levels deep; pydantic's writer stops at 255.
_DEEPEST = 64
# The escape of half a character: no text can hold it, and no file can be written with it.
_HALF = re.compile(r"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON.

    Raises:
        ValueError: It is none; a key is duplicated in an object; it is nested too deep, holds a
            number of thousands of digits, or half of a character. The message quotes nothing of it.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except _Twice:
        raise ValueError("a key is duplicated in one object") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} levels deep") from None
    except ValueError:
        raise ValueError("a whole number of thousands of digits") from None
    if text.count("[") + text.count("{") > _DEEPEST and _is_deeper(value, _DEEPEST):
        raise ValueError(f"nested more than {_DEEPEST} levels deep")
    if _HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a character (a lone surrogate)") from None
    return value


def json_or_none(data: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON that voxella has written itself; None where it is cut or damaged.

    For what lies inside another file: a header, a line, a lock. A whole file of its own is read by
    :class:`voxella.workspace.state.StateFile`, which knows more kinds of damage.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # bytes that are no text, too
        return None


class _Twice(ValueError):
    """Told apart from the decoder's own complaints."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of a key that is duplicated, the decoder would keep the last unasked."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _is_deeper(value: Any, levels: int) -> bool:  # noqa: ANN401 - any JSON value
    layer = [value]
    for _ in range(levels):
        children = [item.values() if isinstance(item, dict) else item for item in layer]
        layer = [child for some in children for child in some if isinstance(child, list | dict)]
        if not layer:
            return False
    return True
