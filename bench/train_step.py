"""Training steps per second through the engine, with memory and the share of the matrix peak.

    python bench/train_step.py --json bench/results/train_step-cpu.json

On a CUDA device the default is the paper's size: latent 4x64x64x32, batch 8, bf16.
"""

from __future__ import annotations

import copy

import torch
from benchmark import count_flops, options, random_batch, record, sized_recipe, timed

import voxella
from voxella.engine.log import peak_memory_gib
from voxella.engine.optimizer import build_optimizer
from voxella.engine.runtime import initialize
from voxella.engine.settings import deepspeed_config
from voxella.ranks import Ranks


def main() -> None:
    """Measure and print."""
    arguments = options(__doc__ or "").parse_args()
    ranks = Ranks.from_environment()
    on_cpu = ranks.device.type == "cpu"
    # A CPU without bf16 instructions is slower in bf16 than in fp32; on the CPU compute in fp32.
    precision = ["deepspeed.torch_autocast.enabled=false"] if on_cpu else []
    recipe = sized_recipe(arguments, *precision)
    model = voxella.build_model(recipe).to(ranks.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer, schedule = build_optimizer(parameters, recipe.optimizer, total_steps=10**6)
    config = deepspeed_config(copy.deepcopy(recipe.deepspeed), world=1, device=ranks.device)
    engine = initialize(ranks, model, config, optimizer, schedule)
    batch = random_batch(recipe, arguments.batch, ranks.device)

    losses: list[float] = []

    def forward_backward() -> None:
        loss = engine(batch)["total"]
        losses.append(float(loss.detach()))
        engine.backward(loss)

    def step() -> None:
        forward_backward()
        engine.step()

    flops = count_flops(forward_backward)  # also warms up
    engine.step()
    seconds = timed(step, arguments.repeats, ranks.device)
    record(
        arguments,
        "train_step",
        seconds,
        flops,
        parameters=sum(p.numel() for p in parameters),
        zero_stage=engine.zero_optimization_stage(),
        peak_memory_gib=round(peak_memory_gib(), 2),
        first_loss=round(losses[0], 6),
        last_loss=round(losses[-1], 6),
        cases_per_second=round(arguments.batch / sorted(seconds)[len(seconds) // 2], 4),
    )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
