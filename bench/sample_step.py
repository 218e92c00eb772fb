"""Sampling steps per second: conditioner and denoiser at one timestep.

python bench/sample_step.py --json bench/results/sample_step-cpu.json
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from benchmark import count_flops, options, random_batch, record, sized_recipe, timed

import voxella
from voxella.engine.log import peak_memory_gib
from voxella.ranks import Ranks


def main() -> None:
    """Measure and print."""
    arguments = options(__doc__ or "").parse_args()
    device = Ranks.from_environment().device
    recipe = sized_recipe(arguments)
    model = voxella.build_model(recipe).to(device).eval()
    batch = random_batch(recipe, arguments.batch, device)
    autocast = (
        torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()
    )

    def step() -> None:
        with torch.no_grad(), autocast:
            conditioning = model.condition(
                timesteps=batch.timesteps,
                text_features=batch.text_features,
                label=batch.label,
                spacing_mm=batch.spacing_mm,
            )
            model.predict(batch.latents, batch.timesteps, conditioning)

    flops = count_flops(step)  # also warms up
    seconds = timed(step, arguments.repeats, device)
    median = sorted(seconds)[len(seconds) // 2]
    record(
        arguments,
        "sample_step",
        seconds,
        flops,
        parameters=sum(p.numel() for p in model.parameters()),
        peak_memory_gib=round(peak_memory_gib(), 2),
        seconds_per_volume_at_recipe_steps=round(median * recipe.sample.steps / arguments.batch, 1),
    )


if __name__ == "__main__":
    main()
