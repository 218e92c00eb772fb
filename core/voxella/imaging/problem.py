"""What keeps an image from being used: one message, and the code that `voxella check` knows it by.

Reading and preparing raise it, the check reports it, so both judge by the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from voxella.errors import UserError
from voxella.limits import VOXELS

__all__ = ["ImageError", "Problem", "check_size"]

# Code and message; the message names neither file nor sequence.
Problem = tuple[str, str]


class ImageError(UserError):
    """An image that cannot be used.

    Args:
        problem: What was found, and in which file or sequence.
        code: The kind of finding, a key of :data:`voxella.check.catalogue.CATALOGUE`.
        legal: What would have been accepted.
        remedy: The next thing to do.
    """

    # A default, because exceptions travel between processes by their message alone.
    def __init__(
        self,
        problem: str,
        *,
        code: str = "image.unreadable",
        legal: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem, legal=legal, remedy=remedy)
        self.code = code


def check_size(path: Path, shape: Sequence[int]) -> None:
    """Refuse an image of more voxels than :data:`voxella.limits.VOXELS`.

    Raises:
        ImageError: It claims more.
    """
    count = math.prod(int(voxels) for voxels in shape)
    if count > VOXELS.most:
        size = " x ".join(str(voxels) for voxels in shape)
        raise ImageError(
            f"{path}: its header claims {size} = {count:,} voxels",
            code="image.impossible-size",
            legal=f"at most {VOXELS.most:,}",
            remedy=f"copy the file again; {VOXELS.remedy(count)}",
        )
