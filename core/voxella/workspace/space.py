"""Room on the disk, asked for before an hour of work and not after it."""

from __future__ import annotations

import shutil
from pathlib import Path

from voxella.errors import UserError
from voxella.wording import human_bytes

__all__ = ["require_space"]

# A full disk breaks more than this stage; leave some of it.
_RESERVE_BYTES = 64 * 2**20


def require_space(folder: Path, needed_bytes: int, what: str, *, then_bytes: int = 0) -> str:
    """Return a line that forecasts the size of ``what``, once it is sure to fit.

    Args:
        folder: Where it will be.
        needed_bytes: What it takes.
        what: For the line.
        then_bytes: What has to fit there beside it, after it.

    Raises:
        UserError: The disk that holds ``folder`` has less room than that.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    then = f", what follows {human_bytes(then_bytes)}" if then_bytes else ""
    if needed_bytes + then_bytes + _RESERVE_BYTES > free:
        raise UserError(
            f"{what} will take {human_bytes(needed_bytes)}{then}; "
            f"the disk of {folder} has {human_bytes(free)} free",
            remedy="make room, point `workspace` at a larger disk, or store less: "
            "--set text.dtype=compact --set latent.dtype=compact",
        )
    return f"{what}: {human_bytes(needed_bytes)} to write{then}, {human_bytes(free)} free"
