"""One side of a comparison, in a process of its own: it works when told, and tells what it took.

    python bench/side.py --side ours --work train    (started by side_by_side.py)

Reads a line ``step`` for each step and answers in JSON; at the end of its input it tells its
memory. Nothing else is printed to stdout.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from benchmark import options, random_batch, sized_recipe
from device_peak import synchronize
from memory import peak_gib, reset_peak, resident_gib, saved_gib
from reference import Reference, ReferenceTraining

import voxella
from voxella.engine.optimizer import build_optimizer
from voxella.engine.processor.guard import reduced_precision
from voxella.engine.runtime import initialize
from voxella.engine.settings import deepspeed_config
from voxella.ldm.batch import Batch
from voxella.ldm.build import LatentDiffusion
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe

__all__ = ["SIDES", "prepared"]

SIDES = ("reference", "ours", "ours_bf16")
# The narrow size: every kind of layer of the paper's model at a fraction of its widths.
NARROW = (
    "backbone.channels=[32,64,128]",
    "backbone.attention=[false,true,true]",
    "text.width=512",
    "conditioner.width=128",
    "conditioner.queries=64",
    "conditioner.head_hidden=64",
)


def main() -> None:
    """Answer until the input ends."""
    arguments = _arguments()
    with redirect_stdout(sys.stderr):
        device = Ranks.from_environment().device
        libraries = resident_gib(device)
        narrow = NARROW if arguments.narrow else ()
        recipe = sized_recipe(arguments, *narrow)
        work, parameters = prepared(arguments.side, arguments.work, recipe, arguments.batch)
        training = arguments.work == "train"
        saved = saved_gib(work)  # the first step also prepares what is prepared once
        synchronize(device)
    reset_peak(device)
    # Weights and, in training, gradients and two moments: float32 all of them.
    states = parameters * 4 * (4 if training else 1) / 2**30
    print(
        json.dumps(
            {
                "parameters": parameters,
                "libraries_gib": libraries,
                "states_gib": states,
                "activations_gib": saved if training else 0.0,
            }
        ),
        flush=True,
    )
    for line in sys.stdin:
        if line.strip() != "step":
            break
        with redirect_stdout(sys.stderr):
            cpu, wall = time.process_time(), time.perf_counter()
            value = work()
            synchronize(device)
            took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print(json.dumps({**took, "value": value}), flush=True)
    print(json.dumps({"peak_gib": peak_gib(device)}), flush=True)
    # DeepSpeed's group need not be taken down: nobody waits for it.
    sys.stdout.flush()
    os._exit(0)


def prepared(
    side: str, work: str, recipe: Recipe, batch_size: int
) -> tuple[Callable[[], float], int]:
    """Return one step of a side, and its parameters.

    A step gives the loss, or a number of what it predicted.

    Args:
        side: One of :data:`SIDES`.
        work: ``train`` or ``sample``.
        recipe: At the size that is measured.
        batch_size: Cases of a step.
    """
    ranks = Ranks.from_environment()
    model = voxella.build_model(recipe).to(ranks.device)
    batch = random_batch(recipe, batch_size, ranks.device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if side == "reference":
        return _reference(work, model, recipe, batch), parameters
    reduced = side == "ours_bf16" or ranks.device.type == "cuda"
    make = _training if work == "train" else _sampling
    return make(model, recipe, batch, ranks, reduced), parameters


def _reference(
    work: str, ours: LatentDiffusion, recipe: Recipe, batch: Batch
) -> Callable[[], float]:
    plain = Reference(ours, recipe).to(batch.latents.device)
    training = ReferenceTraining(plain, ours, recipe)
    ours.conditioner = ours.backbone = torch.nn.Identity()
    if work == "train":
        return lambda: training.step(batch)
    plain.eval()

    def step() -> float:
        assert batch.text_features is not None
        assert batch.spacing_mm is not None
        with torch.no_grad(), training.precision():
            told = (batch.text_features, batch.spacing_mm)
            return float(plain(batch.latents, batch.timesteps, *told)[0].float().abs().mean())

    return step


def _training(
    model: LatentDiffusion, recipe: Recipe, batch: Batch, ranks: Ranks, reduced: bool
) -> Callable[[], float]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer, schedule = build_optimizer(parameters, recipe.optimizer, total_steps=10**6)
    block = copy.deepcopy(recipe.deepspeed)
    # What a training on one process takes.
    block["zero_optimization"] = {"stage": 0}
    block["torch_autocast"] = {"enabled": reduced, "dtype": "bfloat16"}
    config = deepspeed_config(block, world=1, device=ranks.device)
    engine = initialize(ranks, model, config, optimizer, schedule)

    def step() -> float:
        with reduced_precision(ranks.device, reduced=reduced):
            loss = engine(batch)["total"]
            engine.backward(loss)
            engine.step()
        return float(loss.detach())

    return step


def _sampling(
    model: LatentDiffusion, recipe: Recipe, batch: Batch, ranks: Ranks, reduced: bool
) -> Callable[[], float]:
    model.eval()

    def step() -> float:
        device = ranks.device
        with (
            torch.no_grad(),
            reduced_precision(device, reduced=reduced),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced),
        ):
            conditioning = model.condition(
                timesteps=batch.timesteps,
                text_features=batch.text_features,
                label=batch.label,
                spacing_mm=batch.spacing_mm,
            )
            predicted = model.predict(batch.latents, batch.timesteps, conditioning)
            return float(predicted.abs().mean())

    return step


def _arguments() -> argparse.Namespace:
    parser = options(__doc__ or "")
    parser.add_argument("--side", choices=SIDES, required=True)
    parser.add_argument("--work", choices=["train", "sample"], required=True)
    parser.add_argument("--narrow", action="store_true", help="a fraction of the paper's widths")
    return parser.parse_args()


if __name__ == "__main__":
    main()
