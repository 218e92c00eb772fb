"""Which windows the autoencoder works in, and how many volumes it decodes at a time.

The recipe's windows, or the largest that memory allows; of a batch, as many as memory allows.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from typing_extensions import TypedDict

from voxella.autoencoder.load import AutoencoderPlan, LoadedAutoencoder
from voxella.autoencoder.tiling.autoencoder import HALO, TiledAutoencoder, Windows
from voxella.autoencoder.tiling.memory import available_bytes, pass_bytes
from voxella.autoencoder.tiling.windows import window_sizes
from voxella.engine.runtime import broadcast_object
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.hashing import sha256_json
from voxella.machine import raise_if_machine
from voxella.progress import print_line
from voxella.recipe.inputs import Latent
from voxella.wording import human_bytes
from voxella.workspace.state import StateFile, sealed

__all__ = ["RECORD", "tiled"]

RECORD = "tiling.json"


class _Choice(TypedDict):
    settings: str
    encode: list[int] | None
    decode: list[int] | None
    batch_size: int
    decode_batch: int


_CHOICES: StateFile[dict[str, Any]] = StateFile(_Choice, "rm {path}")


def tiled(
    coder: LoadedAutoencoder,
    plan: AutoencoderPlan,
    device: torch.device,
    folder: Path | None = None,
    *,
    batch_size: int = 1,
    alone: bool = False,
    quiet: bool = False,
) -> TiledAutoencoder:
    """Return the autoencoder in windows as ``latent.tiling`` asks.

    Collective, unless ``alone``.

    With ``auto`` the choice depends on the memory that is free at the time, and so does the number
    of volumes decoded at a time. So that a result can be had again, both are written to ``folder``
    and hold for later runs there with the same autoencoder and sizes.

    Args:
        coder: The autoencoder, on ``device``.
        plan: What it was built from.
        device: Where it computes.
        folder: Of the stage; None: nothing is written.
        batch_size: Volumes that there will be to decode at a time, where memory allows.
        alone: For a stage that one process does while the others wait.
        quiet: Say nothing; for every rank but the first.

    Raises:
        UserError: The recipe's windows do not suit the autoencoder.
    """
    settings = _settings(coder, plan)
    record = None if folder is None else folder / RECORD
    known = {} if record is None else _known(record, settings)
    found = _windows(known, coder, plan, device)
    count = _known_count(known, found, batch_size)
    number = _decoded_at_once(coder, plan, device, batch_size) if count is None else count
    # One choice for all processes: those of other hosts may have less memory, or more.
    windows, at_once = (found, number) if alone else broadcast_object((found, number))
    if record is not None and (count is None or (plan.latent.tiling == "auto" and not known)):
        kept = {"batch_size": batch_size, "decode_batch": at_once}
        write_json_atomic(record, sealed({"settings": settings, **windows.as_json(), **kept}))
    if plan.latent.tiling == "auto":
        _print_summary(windows, quiet=quiet)
    if windows.decode is None and at_once < batch_size:
        short = "memory is too short for more"
        print_line(f"decoding {at_once} of {batch_size} volumes at a time: {short}", quiet=quiet)
    return TiledAutoencoder(coder.model, windows, at_once, plan.passes)


def _settings(coder: LoadedAutoencoder, plan: AutoencoderPlan) -> str:
    """Return a hash of what a choice holds for."""
    wanted = plan.latent.tiling
    sizes = [coder.fingerprint, plan.channels, plan.latent.size, HALO]
    return sha256_json(sizes if wanted == "auto" else [*sizes, wanted])


def _windows(
    known: dict[str, Any], coder: LoadedAutoencoder, plan: AutoencoderPlan, device: torch.device
) -> Windows:
    wanted = plan.latent.tiling
    if wanted == "never":
        return Windows()
    if wanted != "auto":
        return _given(wanted, coder.model.factor, plan.latent)
    if not known:
        return _largest(coder, plan, device)
    sizes = {name: known[name] for name in ("encode", "decode")}
    return Windows(**{name: None if n is None else tuple(n) for name, n in sizes.items()})


def _print_summary(windows: Windows, *, quiet: bool) -> None:
    for what, window in (("encoding", windows.encode), ("decoding", windows.decode)):
        if window is not None:
            short = "memory is too short for the whole"
            print_line(f"{what} in windows of {list(window)} voxels: {short}", quiet=quiet)


def _image_size(factor: int, latent: Latent) -> tuple[int, ...]:
    return tuple(n * factor for n in latent.size)


def _given(window: Sequence[int], factor: int, latent: Latent) -> Windows:
    """Check the recipe's own windows."""
    size = _image_size(factor, latent)
    least = (2 * HALO + 1) * factor
    fits = len(window) == len(size) and all(
        w >= n or (w >= least and w % factor == 0) for w, n in zip(window, size, strict=True)
    )
    if not fits:
        raise UserError(
            f"latent.tiling {list(window)} does not suit volumes of {list(size)} voxels",
            expected=f"auto, never, or {len(size)} numbers: multiples of {factor} from {least}, "
            "or as large as the volume",
        )
    cut = None if all(w >= n for w, n in zip(window, size, strict=True)) else tuple(window)
    return Windows(cut, cut)


def _known(record: Path, settings: str) -> dict[str, Any]:
    """Return what an earlier run chose, if it was for the same; else nothing."""
    written = _CHOICES.read_or_remake(record)
    return written if written is not None and written["settings"] == settings else {}


def _known_count(known: dict[str, Any], windows: Windows, batch_size: int) -> int | None:
    """Return how many volumes to decode at a time; None where memory has to be asked."""
    if batch_size == 1 or windows.decode is not None:
        return 1
    return known.get("decode_batch") if known.get("batch_size") == batch_size else None


def _decoded_at_once(
    coder: LoadedAutoencoder, plan: AutoencoderPlan, device: torch.device, batch_size: int
) -> int:
    """Return how many volumes of a batch there is memory to decode together."""
    shape = (plan.pass_channels[1], *plan.latent.size)
    free = available_bytes(device)

    def need(count: int) -> float:
        return _need(coder.model.decode, (count, *shape), device) or math.inf

    if math.isinf(need(1)):
        return 1  # cannot be told
    return max(1, bisect_right(range(1, batch_size + 1), free, key=need))


def _largest(coder: LoadedAutoencoder, plan: AutoencoderPlan, device: torch.device) -> Windows:
    free = available_bytes(device)
    model, factor = coder.model, coder.model.factor
    size = _image_size(factor, plan.latent)
    found = Windows()
    for name, work, channels, down in (
        ("encode", model.encode, plan.pass_channels[0], 1),
        ("decode", model.decode, plan.pass_channels[1], factor),
    ):
        window = size
        for window in window_sizes(size, halo=HALO * factor, unit=factor):
            shape = (1, channels, *(n // down for n in window))
            need = _need(work, shape, device)
            if need is not None and need <= free:
                break
        else:
            print_line(
                f"{name}: even windows of {list(window)} voxels may exceed {human_bytes(int(free))}"
            )
        found = replace(found, **{name: None if window == size else window})
    return found


def _need(
    work: Callable[[torch.Tensor], object], shape: Sequence[int], device: torch.device
) -> int | None:
    """Return the bytes a pass takes; None for a size that the autoencoder refuses."""
    try:
        return pass_bytes(work, shape, device)
    except UserError:
        return None
    except Exception as error:
        raise_if_machine(error)
        # A plugin may do what cannot be traced. It worked before there were windows.
        print_line(f"the memory that the autoencoder needs cannot be told ({type(error).__name__})")
        return 0
