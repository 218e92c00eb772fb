"""Which windows the autoencoder works in: the recipe's, or the largest that memory allows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from voxella.cache.space import human_bytes
from voxella.engine.runtime import agreed
from voxella.errors import UserError
from voxella.files import sha256_json, write_json_atomic
from voxella.progress import say
from voxella.recipe.model import Recipe
from voxella.stages.autoencoder_model import LoadedAutoencoder
from voxella.tiling.autoencoder import HALO, TiledAutoencoder, Windows
from voxella.tiling.memory import available_bytes, pass_bytes
from voxella.tiling.windows import window_sizes

__all__ = ["RECORD", "tiled"]

RECORD = "tiling.json"


def tiled(
    coder: LoadedAutoencoder,
    recipe: Recipe,
    device: torch.device,
    folder: Path | None = None,
    *,
    alone: bool = False,
    quiet: bool = False,
) -> TiledAutoencoder:
    """Return the autoencoder in windows as the recipe's ``latent.tiling`` asks.

    Collective, unless ``alone``.

    With ``auto`` the choice depends on the memory that is free at the time. So that a result can be
    had again, it is written to ``folder`` and holds for later runs there with the same autoencoder
    and sizes.

    Args:
        coder: The autoencoder, on ``device``.
        recipe: The experiment.
        device: Where it computes.
        folder: Of the stage; None: nothing is written.
        alone: For a stage that one process does while the others wait.
        quiet: Say nothing; for every rank but the first.

    Raises:
        UserError: The recipe's windows do not suit the autoencoder.
    """
    wanted = recipe.latent.tiling
    if wanted == "never":
        return TiledAutoencoder(coder.model, Windows())
    if wanted != "auto":
        return TiledAutoencoder(coder.model, _given(wanted, coder, recipe))
    channels = len(recipe.data.sequences)
    settings = sha256_json([coder.fingerprint, channels, recipe.latent.size, HALO])
    record = None if folder is None else folder / RECORD
    known = None if record is None else _known(record, settings)
    # One choice for all processes: those of other hosts may have less memory, or more.
    found = known or _largest(coder, recipe, device)
    chosen = found if alone else agreed(found)
    if record is not None and known is None:
        write_json_atomic(record, {"settings": settings, **chosen.as_json()})
    for what, window in (("encoding", chosen.encode), ("decoding", chosen.decode)):
        if window is not None:
            short = "memory is too short for the whole"
            say(f"{what} in windows of {list(window)} voxels: {short}", quiet=quiet)
    return TiledAutoencoder(coder.model, chosen)


def _image_size(coder: LoadedAutoencoder, recipe: Recipe) -> tuple[int, ...]:
    return tuple(n * coder.model.factor for n in recipe.latent.size)


def _given(window: Sequence[int], coder: LoadedAutoencoder, recipe: Recipe) -> Windows:
    """Check the recipe's own windows."""
    size, factor = _image_size(coder, recipe), coder.model.factor
    least = (2 * HALO + 1) * factor
    fits = len(window) == len(size) and all(
        w >= n or (w >= least and w % factor == 0) for w, n in zip(window, size, strict=True)
    )
    if not fits:
        raise UserError(
            f"latent.tiling {list(window)} does not suit volumes of {list(size)} voxels",
            legal=f"auto, never, or {len(size)} numbers: multiples of {factor} from {least}, "
            "or as large as the volume",
        )
    cut = None if all(w >= n for w, n in zip(window, size, strict=True)) else tuple(window)
    return Windows(cut, cut)


def _known(record: Path, settings: str) -> Windows | None:
    """Return what an earlier run chose, if it was for the same."""
    try:
        written = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if written.get("settings") != settings:
        return None
    sizes = {name: written[name] for name in ("encode", "decode")}
    return Windows(**{name: None if n is None else tuple(n) for name, n in sizes.items()})


def _largest(coder: LoadedAutoencoder, recipe: Recipe, device: torch.device) -> Windows:
    free = available_bytes(device)
    model, factor = coder.model, coder.model.factor
    size = _image_size(coder, recipe)
    found = Windows()
    for name, work, channels, down in (
        ("encode", model.encode, len(recipe.data.sequences), 1),
        ("decode", model.decode, recipe.latent.channels, factor),
    ):
        window = size
        for window in window_sizes(size, halo=HALO * factor, unit=factor):
            shape = (1, channels, *(n // down for n in window))
            need = _need(work, shape, device)
            if need is not None and need <= free:
                break
        else:
            say(
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
        # A plugin may do what cannot be traced. It worked before there were windows.
        say(f"the memory that the autoencoder needs cannot be told ({type(error).__name__})")
        return 0
