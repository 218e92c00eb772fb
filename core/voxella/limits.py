"""How much a file may ask for, told before anything is allocated; each limit is raised by name.

Some bytes can ask for terabytes: a header that claims 1600 voxels along each axis, one cell in the
last column of a sheet. The limits lie above what real data were seen to need. Whoever needs more
sets the environment variable that the message names.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from voxella.errors import UserError

__all__ = [
    "CELLS",
    "MERGED_CELLS",
    "PIXELS",
    "RECIPE_BYTES",
    "SAMPLES",
    "TEXT_BYTES",
    "UNPACKED_BYTES",
    "VOXELS",
    "Limit",
]

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Limit:
    """A number that files may not exceed.

    Attributes:
        name: The environment variable that raises it.
        usual: The limit where that is not set.
        unit: What is counted.
    """

    name: str
    usual: int
    unit: str

    @property
    def most(self) -> int:
        """Return the limit that holds.

        Raises:
            UserError: The environment variable holds no whole number.
        """
        told = os.environ.get(self.name)
        if told is None:
            return self.usual
        if not (told.isascii() and told.isdecimal() and len(told) < 20):
            raise UserError(
                f"the environment variable {self.name} is no whole number",
                expected=f"{self.unit}, such as {self.usual}",
            )
        return int(told)

    def require(self, asked: int, what: str) -> None:
        """Refuse what asks for more.

        Args:
            asked: How many.
            what: Who asks, for the message.

        Raises:
            UserError: It is more than the limit.
        """
        if asked > self.most:
            raise UserError(
                f"{what}: {asked:,} {self.unit}",
                expected=f"at most {self.most:,}",
                remedy=self.remedy(asked),
            )

    def remedy(self, asked: int) -> str:
        """Return what to do where so many are right."""
        return f"if that is right: {self.name}={asked} before the command"

    def read(self, path: Path) -> bytes:
        """Return a file's bytes, as many as the limit allows.

        Raises:
            UserError: It holds more.
            OSError: It cannot be read.
        """
        with path.open("rb") as handle:
            found = os.fstat(handle.fileno())
            if stat.S_ISREG(found.st_mode):
                self.require(found.st_size, str(path))
            # A device or a pipe does not say how much it holds, nor a file that still grows.
            content = bytearray()
            while chunk := handle.read(_CHUNK_BYTES):
                content += chunk
                self.require(len(content), str(path))
        return bytes(content)


# A whole-body CT has 5e8.
VOXELS = Limit("VOXELLA_MAX_VOXELS", 10**9, "voxels in one image")
# A tile has 1e5 to 1e6. So many in float32 and three colours are 1.2 GB, which kilobytes can claim.
PIXELS = Limit("VOXELLA_MAX_PIXELS", 10**8, "pixels in one picture")
# A sheet has room for 1.7e10; fifty columns of 100,000 cases are 5e6, and take 3 GB in openpyxl.
CELLS = Limit("VOXELLA_MAX_CELLS", 5 * 10**6, "cells, empty ones between others among them")
# openpyxl makes an object of each.
MERGED_CELLS = Limit("VOXELLA_MAX_MERGED_CELLS", 200_000, "cells in merged ranges")
# Of a workbook, which is a ZIP archive.
UNPACKED_BYTES = Limit("VOXELLA_MAX_UNPACKED_BYTES", 2**29, "bytes when unpacked")
# Synthetic volumes in one data set.
SAMPLES = Limit("VOXELLA_MAX_SAMPLES", 10**6, "volumes")
# A manifest of 100,000 cases takes some tens of megabytes.
TEXT_BYTES = Limit("VOXELLA_MAX_TEXT_BYTES", 2**28, "bytes of text in one file")
# The longest recipe here has 12,000.
RECIPE_BYTES = Limit("VOXELLA_MAX_RECIPE_BYTES", 2**20, "bytes of YAML in one file")
