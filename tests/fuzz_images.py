"""Read damaged images in a process of its own, with little memory and little time for each.

    python tests/fuzz_images.py FOLDER FIRST COUNT

Writes FOLDER/outcomes.json. FOLDER/now holds the number of the damage being read, for the case that
the process does not live to say what happened.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from image_damage import REWRITTEN, damaged, make_bases

from voxella.errors import UserError
from voxella.imaging.headers import read_text_header
from voxella.imaging.prepare import prepare_images
from voxella.imaging.readers import read_itk
from voxella.imaging.volume import Volume, read_volume
from voxella.recipe.model import Prepare

_MEMORY = 512 << 20
_SECONDS = 10
_MANY_VOXELS = 1_000_000
_SETTINGS = (
    Prepare(crop_mm=[6.0, None, 4.0], size=[5, 4, 3]),
    Prepare(crop_mm=[30.0, 6.0, None], size=[4, 5, 3], straighten=True, interpolation="linear"),
)


def main(folder: Path, first: int, count: int) -> None:
    """Read damages ``first`` to ``first + count - 1`` and write what came of them."""
    bases = make_bases(folder / "bases")
    intact = {name: read_volume(parts[0]) for name, parts in bases.items()}
    read_itk(bases["plain.mha"][0])  # What loads once is loaded before memory is limited.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # A warning would reach the user's terminal without the file's name.
    warnings.simplefilter("error")
    work = folder / "work"
    work.mkdir()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(first, first + count):
        path, kind = damaged(bases, number, work)
        (folder / "now").write_text(f"{number} ({kind} of {path.name})")
        # Not caught: the process ends, and with it a loop in a library.
        signal.alarm(_SECONDS)
        try:
            outcome = attempt(path, kind, bases[path.name], intact[path.name])
        except Exception as error:
            outcome = "raised"
            wrong.append(f"{number} ({kind} of {path.name}): {type(error).__name__}: {error}")
        outcomes[f"{path.name} {outcome}"] += 1
    signal.alarm(0)
    found = {"outcomes": outcomes, "wrong": wrong}
    (folder / "outcomes.json").write_text(json.dumps(found))


def attempt(path: Path, kind: str, parts: list[Path], intact: Volume) -> str:
    """Read and prepare one file; return how it ended, or raise what should not be."""
    try:
        volume = read_volume(path)
    except UserError as error:
        message = str(error)
        assert path.stem in message or any(part.name in message for part in parts), message
        assert "alloc" not in message.lower(), message
        assert "memory" not in message.lower(), message
        return "refused"
    assert volume.array.ndim == 3
    assert volume.array.size <= _MANY_VOXELS
    assert np.isfinite(volume.affine).all()
    if _sealed(path, kind, parts):
        np.testing.assert_array_equal(volume.array, intact.array)
    for settings in _SETTINGS:
        try:
            prepared = prepare_images({"t2w": volume}, settings).images["t2w"]
        except UserError:
            return "read"
        assert prepared.min() >= 0.0
        assert prepared.max() <= 1.0
    return "prepared"


def _sealed(path: Path, kind: str, parts: list[Path]) -> bool:
    """Return whether a checksum holds every voxel of the damaged file."""
    if path.name == "packed.nii.gz":
        return kind not in REWRITTEN
    if path.name.split(".")[0] not in {"packed", "zipped"}:
        return False
    whole = parts[0].read_bytes()
    # A header apart from its voxels is whole in the first file.
    end = read_text_header(parts[0]).data_offset or len(whole)
    return path.read_bytes()[:end] == whole[:end]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
