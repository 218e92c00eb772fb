"""Block of `voxella sample`: what is generated, how, and how it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, field_validator, model_validator

from voxella.diffusion.samplers import SAMPLERS, eta_takers
from voxella.recipe.block import Batch, Block, Copies, Count, SolverSteps
from voxella.wording import quoted

__all__ = ["Pair", "Sample", "Split", "Sweep", "variant_name"]


Split = Literal["train", "val", "test"]


def _known(name: str) -> str:
    if name not in SAMPLERS:
        raise ValueError(f"received {quoted(name)}; expected: {', '.join(SAMPLERS)}")
    return name


def _listed(schema: dict[str, Any]) -> None:
    schema["enum"] = list(SAMPLERS)


SamplerName = Annotated[str, AfterValidator(_known), Field(json_schema_extra=_listed)]


class Sweep(Block):
    """Several data sets in one call: every number of steps with every guidance."""

    steps: list[SolverSteps] = Field([], max_length=100, description="empty: sample.steps alone")
    guidance: list[NonNegativeFloat] = Field(
        [], max_length=100, description="empty: sample.guidance alone"
    )


class Pair(Block):
    """An invented report, and the same with some words replaced: two volumes of one noise.

    It stands in the recipe and on the page, so it must be nobody's: no report of a patient.
    """

    report: str = Field(description="invented; it is shown on the page")
    replace: dict[str, str] = Field(
        description="words of the report, and what stands in their place afterwards"
    )
    label: str | None = Field(None, description="of both; None: not known")
    conditions: dict[str, float | str] = Field({}, description="of both, by name")

    @property
    def changed(self) -> str:
        """Return the report after the change; each word is replaced where it stands whole."""
        if not self.replace:
            return self.report
        words = "|".join(re.escape(word) for word in self.replace)
        return re.sub(rf"\b(?:{words})\b", lambda found: self.replace[found[0]], self.report)

    @model_validator(mode="after")
    def _changes_something(self) -> Pair:
        if self.changed == self.report:
            named = ", ".join(map(quoted, self.replace))
            raise ValueError(f"replace: none of {named or 'these'} is a word of the report")
        return self


def variant_name(steps: int, guidance: float) -> str:
    """Return the folder of one data set of a sweep."""
    return f"steps-{steps}_guidance-{guidance:g}"


class Sample(Block):
    """Generation."""

    sampler: SamplerName = "ddpm"
    steps: SolverSteps = 1000
    eta: float = Field(
        0.0,
        ge=0,
        le=1,
        # Left out where it is the default: hashes from before are those without it.
        exclude_if=lambda eta: eta == 0.0,
        description="fresh noise of DDIM: 0 is the ODE, 1 as much as the reverse chain",
    )
    # Left out where it is off: recipes and hashes from before are those without it.
    timestep_shift: float | None = Field(
        None,
        gt=0,
        exclude_if=lambda edge: edge is None,
        description="of a flow: edge of the latent cube whose steps are even; larger latents get "
        "more of them where there is more noise (MAISI: 32). None: even for all",
    )
    guidance: float = Field(1.0, ge=0, description="classifier-free guidance scale; 1 is off")
    guidance_null: list[str] = Field(
        ["text", "label", "conditions"],
        description="what the unconditional prediction lacks: text, label, all conditions, or some "
        "by name",
    )
    # Left out where there is none: hashes from before are those without it.
    guidance_interval: tuple[NonNegativeFloat, NonNegativeFloat] | None = Field(
        None,
        exclude_if=lambda interval: interval is None,
        description="noise over signal (sigma / alpha) above and up to which there is guidance, "
        "such as [0.5, 6] (arXiv:2404.07724); None: at every step",
    )
    autoguidance: Path | None = Field(
        None,
        exclude_if=lambda folder: folder is None,
        description="folder of a weaker version of the model (an early snapshot, see voxella ema): "
        "guidance leads away from its prediction under the same conditions (arXiv:2406.02507), not "
        "from the unconditional one; None: from that",
    )
    sweep: Sweep | None = Field(None, description="one data set for each combination")
    split: Split | Annotated[list[Split], Field(min_length=1)] = Field(
        "train", description="whose reports to sample from; several: the first is evaluated on"
    )
    prompts: Path | None = Field(
        None,
        description="JSON lines {id, report, label, spacing_mm, conditions} to generate from; "
        "None: the reports of the splits",
    )
    count: Count | None = Field(None, description="cases of each split; None: all")
    per_case: Copies = 1
    batch_size: Batch = Field(
        1,
        description="1 is the reference; of other sizes volumes differ from it by rounding "
        "(float32: at most one grey of int16)",
    )
    space: Literal["prepared", "source"] = Field(
        "prepared", description="source: resampled to the grid of the case's own scan"
    )
    int16_scale: float | None = Field(
        None, gt=0, description="factor to int16 (the paper's T2: 962); None: float32"
    )
    int16_rounding: Literal["nearest", "down"] = Field(
        "nearest", description="down: the fraction is cut off, as in the released code"
    )
    pair: Pair | None = Field(
        None,
        exclude_if=lambda pair: pair is None,
        description="two volumes of one noise that open the page: a report, and the same with some "
        "words replaced",
    )
    xlsx: bool = Field(False, description="write the released code's spreadsheet as well")

    @field_validator("split")
    @classmethod
    def _each_once(cls, value: Split | list[Split]) -> Split | list[Split]:
        if isinstance(value, list) and len({*value}) < len(value):
            raise ValueError("a split is named twice")
        return value

    @model_validator(mode="after")
    def _autoguidance_has_a_scale(self) -> Sample:
        swept = self.sweep.guidance if self.sweep is not None else []
        if self.autoguidance is not None and {*swept, self.guidance} == {1.0}:
            raise ValueError("autoguidance: guidance 1 is none; expected: guidance above 1, like 2")
        return self

    @field_validator("guidance_interval")
    @classmethod
    def _from_low_to_high(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"received {list(value)}; expected: [low, high], the second larger")
        return value

    @model_validator(mode="after")
    def _eta_is_ddims(self) -> Sample:
        takers = eta_takers()
        if self.eta and self.sampler not in takers:
            raise ValueError(
                f"eta: received {self.eta:g}, and sampler {self.sampler} has none; expected: 0, "
                f"or sampler {' or '.join(takers)}"
            )
        return self

    def shift(self, latent_size: Sequence[int]) -> float:
        """Return by how much timesteps are moved towards the noise: 1, where nothing is asked for.

        Args:
            latent_size: Voxels along each axis.
        """
        if self.timestep_shift is None:
            return 1.0
        edge: float = math.prod(latent_size) ** (1 / len(latent_size))
        return edge / self.timestep_shift

    @property
    def splits(self) -> tuple[Split, ...]:
        """Return the splits, also where there is one."""
        return tuple(self.split) if isinstance(self.split, list) else (self.split,)
