"""Snapshots on the disk: one file for each average at each step, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from voxella.engine.ema import Ema
from voxella.errors import UserError
from voxella.files import remove, write_json_atomic
from voxella.ldm.model_folder.facts import load_facts
from voxella.ldm.model_folder.folder import AUTOENCODER, CONDITIONS, RECIPE, save_model
from voxella.ldm.snapshots.profiles import Profile, exponent, mixture
from voxella.ldm.snapshots.tracked import TrackedEma
from voxella.ranks import Ranks
from voxella.recipe.training import Snapshots
from voxella.weights import write_state_dict

__all__ = ["averaging", "kept", "reconstruct", "snapshot_path", "write_model"]

_NAME = re.compile(r"step-(\d{8})_sigma-([0-9.]+)\.safetensors")
_MADE = "ema.json"


def averaging(
    block: Snapshots | None, run: Path, ranks: Ranks, *, fresh: bool
) -> type[Ema] | partial[TrackedEma]:
    """Return what makes the average of a training: with others beside it, where a recipe says so.

    Args:
        block: ``train.snapshots``.
        run: The run folder; snapshots are written below it.
        ranks: This process.
        fresh: Training starts from the beginning: snapshots that are there are another's.
    """
    if block is None:
        return Ema
    folder = run / "snapshots"
    if fresh and ranks.is_main:
        remove(folder)
    return partial(
        TrackedEma,
        widths=block.sigma_rel,
        every=block.every,
        keep=ranks.is_main,
        write=partial(_write, folder, getattr(torch, block.dtype)),
    )


def snapshot_path(folder: Path, profile: Profile) -> Path:
    """Return the file of one average."""
    return folder / f"step-{profile.time:08d}_sigma-{profile.sigma_rel:g}.safetensors"


def _write(folder: Path, dtype: torch.dtype, profile: Profile, state: Mapping[str, Tensor]) -> Path:
    stored = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    return write_state_dict(snapshot_path(folder, profile), stored)


def kept(folder: Path) -> list[Profile]:
    """Return the averages of a folder, earliest first.

    Raises:
        UserError: There is none.
    """
    matches = (_NAME.fullmatch(path.name) for path in folder.glob("*.safetensors"))
    found = [Profile(int(m[1]), float(m[2])) for m in matches if m]
    if not found:
        raise UserError(
            f"{folder} holds no snapshots of weights",
            expected="step-00001000_sigma-0.05.safetensors and the like",
            remedy="--set 'train.snapshots={every: 1000}' before voxella train",
        )
    return sorted(found, key=lambda one: (one.time, one.sigma_rel))


def reconstruct(folder: Path, wanted: Profile) -> dict[str, Tensor]:
    """Return the weights of an average that was not kept, float32, on the CPU.

    One file after another is read, so that memory is needed for two states and not for all.

    Raises:
        UserError: No snapshot is as early as the average.
    """
    usable = [one for one in kept(folder) if one.time <= wanted.time]
    if not usable:
        first = kept(folder)[0].time
        raise UserError(f"the first snapshot is of step {first}; received step {wanted.time}")
    newest = load_file(snapshot_path(folder, usable[-1]))
    sums = {n: t.double() for n, t in newest.items() if t.is_floating_point()}
    base = {name: tensor.clone() for name, tensor in sums.items()}
    for profile, factor in zip(usable, mixture(usable, wanted), strict=True):
        for name, tensor in load_file(snapshot_path(folder, profile)).items():
            # As differences: what never changes stays as it is, also where factors add up to
            # nearly 1.
            if name in sums:
                sums[name] += float(factor) * (tensor.double() - base[name])
    return {name: sums[name].float() if name in sums else newest[name] for name in newest}


def write_model(run: Path, sigma_rel: float, out: Path, step: int | None = None) -> Path:
    """Write a run's model with its weights averaged over another length.

    Args:
        run: The run folder; its training has ended.
        sigma_rel: Relative width of the average.
        out: The model folder to write.
        step: Optimizer steps after which it is taken; None: the newest snapshot's.

    Raises:
        UserError: There are no snapshots, no exported model; or numbers out of their range.
    """
    model, folder = run / "model", run / "snapshots"
    facts, averages = load_facts(model), kept(folder)
    try:
        exponent(sigma_rel)
    except ValueError as error:
        raise UserError(f"--sigma-rel: {error}") from None
    last = averages[-1].time
    wanted = Profile(last if step is None else step, sigma_rel)
    if wanted.time > last:
        raise UserError(f"--step: received {step}; expected: at most {last}, the newest snapshot")
    if out.resolve() == model.resolve():
        raise UserError(
            f"--out: {out} is the model that training exported", expected="another folder"
        )
    inside = model / AUTOENCODER if AUTOENCODER in facts.files else None
    save_model(
        out,
        reconstruct(folder, wanted),
        (model / RECIPE).read_text(encoding="utf-8"),
        facts.averaged_over(wanted.time),
        load_file(model / CONDITIONS).get("null_text"),
        autoencoder=inside,
    )
    used = [one.time for one in averages if one.time <= wanted.time]
    told = {"sigma_rel": sigma_rel, "step": wanted.time, "snapshots": used}
    write_json_atomic(out / _MADE, told)
    return out
