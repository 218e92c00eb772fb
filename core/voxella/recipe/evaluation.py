"""Block of `voxella evaluate`: with what, against which cases, how sure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from voxella.plugins.component import Component
from voxella.recipe.block import Block, Pairs, Resamples, ResamplesOrNone, Seed, Width

__all__ = ["Evaluate"]


class Evaluate(Block):
    """Measures the synthetic data set against the real one."""

    real_split: Literal["train", "val", "test"] | None = Field(
        None,
        description="real cases that the synthetic ones are compared with; None: the split whose "
        "reports they were made from",
    )
    sequence: str | None = Field(
        None, description="image that the features see; None: the first of data.sequences"
    )
    medicalnet: Path | None = Field(
        None, description="MedicalNet ResNet-50 weights (.pth) for 3D features; None: random ones"
    )
    medicalnet_sha256: str | None = Field(None, description="of that file; another is refused")
    radimagenet: Path | None = Field(
        None, description="RadImageNet ResNet-50 weights for 2D features; None: random ones"
    )
    radimagenet_sha256: str | None = Field(None, description="of that file; another is refused")
    inception: Path | None = Field(
        None,
        description="pytorch-fid's Inception-v3 weights (.pth) for FID and KID of pictures; None: "
        "random ones, where they are in colour",
    )
    inception_sha256: str | None = Field(None, description="of that file; another is refused")
    classifier: Path | None = Field(
        None,
        description="RUN/classify/NAME, trained on real images: how far it agrees with the labels, "
        "and 3D features where medicalnet names none; None: neither",
    )
    feature_seed: Seed = Field(0, description="of the random networks")
    feature_dim: Width = Field(
        16, description="features of the random networks; FID needs more cases than features"
    )
    bootstrap: Resamples = Field(1000, description="resamples of every interval but FID's")
    fid_bootstrap: ResamplesOrNone = Field(
        200, description="resamples of FID's interval; 0: no interval"
    )
    fid_singular: Literal["refuse", "note"] = Field(
        "refuse",
        description="FID of fewer cases than features; note: as published numbers were taken",
    )
    baseline_halves: Resamples = Field(
        20, description="random halves of the real cases, for the real-vs-real baseline"
    )
    ms_ssim_pairs: Pairs = Field(100, description="pairs of volumes for the diversity")
    level: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    metrics: list[Component] | None = Field(
        None, description="what is measured, by plugin; None: every metric that is installed"
    )
    gate: float | None = Field(
        None, ge=0, le=1, description="largest share of copies of training cases that is exported"
    )
    counterfactuals: int = Field(
        0,
        ge=0,
        le=10_000,
        description="real cases of which one fact is changed at a time, where a probe can draw "
        "them so: each costs some eight further volumes; 0: none",
        exclude_if=lambda cases: cases == 0,
    )
    size_tolerance_mm: float = Field(5.0, gt=0, description="of a phantom's lesion size")

    @model_validator(mode="after")
    def _gate_has_copies(self) -> Evaluate:
        chosen = None if self.metrics is None else [metric.name for metric in self.metrics]
        if self.gate is not None and chosen is not None and "copies" not in chosen:
            raise ValueError("gate needs the metric copies among metrics (null: all of them)")
        return self
