"""What keeps an image from being used: one message, and the code that `voxella check` knows it by.

Reading and preparing raise it, the check reports it, so both judge by the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from voxella.errors import UserError
from voxella.limits import VOXELS, Limit
from voxella.machine import raise_if_machine

__all__ = ["ImageError", "Problem", "check_size", "reading"]

# Code and message; the message names neither file nor sequence.
Problem = tuple[str, str]


class ImageError(UserError):
    """An image that cannot be used.

    Args:
        problem: What was found, and in which file or sequence.
        code: The kind of finding, a key of :data:`voxella.check.catalogue.CATALOGUE`.
        expected: What would have been accepted.
        remedy: The next thing to do.
    """

    # A default, because exceptions travel between processes by their message alone.
    def __init__(
        self,
        problem: str,
        *,
        code: str = "image.unreadable",
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, remedy=remedy)
        self.code = code


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises over a damaged file into one message that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise_if_machine(error, path)
        # The last line is the reason; SimpleITK's earlier ones are its own source positions.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ImageError(
            f"{path}: cannot be read, truncated or damaged: {reason}",
            code="image.damaged",
            remedy="open it in a viewer, or copy it again from its source",
        ) from error


def check_size(path: Path, shape: Sequence[int], limit: Limit = VOXELS) -> None:
    """Refuse an image of more voxels, or pixels, than a limit.

    Raises:
        ImageError: It claims more.
    """
    count = math.prod(int(voxels) for voxels in shape)
    if count > limit.most:
        size = " x ".join(str(voxels) for voxels in shape)
        raise ImageError(
            f"{path}: its header claims {size} = {count:,} {limit.unit.split()[0]}",
            code="image.impossible-size",
            expected=f"at most {limit.most:,}",
            remedy=f"copy the file again; {limit.remedy(count)}",
        )
