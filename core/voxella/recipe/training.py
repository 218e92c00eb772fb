"""Blocks of a recipe that say how the diffusion model learns, and its autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from voxella.recipe.block import Batch, Block, Count, CountOrNone, SolverSteps, Voxels, Width
from voxella.recipe.start import RateGroup

__all__ = [
    "Adversarial",
    "AutoencoderTraining",
    "Dropout",
    "Equivariance",
    "Optimizer",
    "Perceptual",
    "Snapshots",
    "Train",
]

_BETAS = (0.9, 0.999)
_Beta = Annotated[float, Field(ge=0, lt=1)]


class Dropout(Block):
    """Null conditioning during training, for classifier-free guidance. Off in the paper."""

    text: float = Field(0.0, ge=0, le=1, description="share of cases that see the empty report")
    label: float = Field(0.0, ge=0, le=1, description="share of cases whose class vector is zero")
    both: float = Field(
        0.0, ge=0, le=1, description="share of cases that lose both, and all conditions"
    )
    # Left out where it is none: hashes from before are those without it.
    conditions: float = Field(
        0.0,
        ge=0,
        le=1,
        exclude_if=lambda share: share == 0.0,
        description="share of cases whose named conditions are all missing",
    )
    spared: dict[str, float] = Field(
        default_factory=dict,
        exclude_if=lambda spared: not spared,
        description="by condition: cases of at least this value never lose their text (PathLDM's "
        "released code: {prob_til: 0.5}); one of which it is not known may",
    )


class Optimizer(Block):
    """AdamW with polynomial decay to zero, or in steps. Without `weight_decay` it is Adam."""

    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    decay_power: float = Field(2.0, ge=0, description="0 keeps the rate constant")
    warmup_steps: CountOrNone = 0
    # Left out where there are none: hashes from before are those without them.
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=list,
        exclude_if=lambda milestones: not milestones,
        description="shares of the training, after each of which the rate is multiplied by "
        "milestone_factor: [0.5, 0.75] is epochs 20 and 30 of 40",
    )
    milestone_factor: float = Field(0.1, gt=0, exclude_if=lambda factor: factor == 0.1)
    # Left out where there is none: recipes and hashes from before are those without it.
    groups: list[RateGroup] = Field(
        default_factory=list,
        exclude_if=lambda groups: not groups,
        description="other learning rates; the first that matches a parameter counts",
    )


class Snapshots(Block):
    """Averages of the weights kept while training, for `voxella ema` (arXiv:2312.02696).

    Each is a power-function average, as large as the weights in memory and in every file.
    """

    every: Count = Field(description="steps")
    sigma_rel: list[Annotated[float, Field(gt=0, le=0.2886)]] = Field(
        [0.05, 0.1], min_length=1, description="relative widths; two cover those between and beyond"
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="of the files")


class Train(Block):
    """Length and bookkeeping of the training stage. The batch is `deepspeed.train_batch_size`."""

    epochs: Count | None = None
    steps: Count | None = Field(None, description="optimizer steps; exactly one of epochs, steps")
    ema_decay: float | None = Field(0.9999, gt=0, lt=1, description="None: no average is kept")
    # Left out where there are none: hashes from before are those without them.
    snapshots: Snapshots | None = Field(
        None,
        exclude_if=lambda snapshots: snapshots is None,
        description="averages kept as training goes; None: none",
    )
    gradient_checkpointing: bool = False
    compile: bool = False
    checkpoint_every: Count = Field(1000, description="steps")
    keep_checkpoints: Count = 2
    log_every: Count = Field(10, description="steps")
    panel_every: CountOrNone = Field(
        0, description="steps between fixed-seed sample panels; 0: none"
    )
    panel_steps: SolverSteps = Field(20, description="sampler steps of a panel")
    validate_every: CountOrNone = Field(0, description="steps between validation losses; 0: none")

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps (null removes an inherited one)")
        if self.snapshots is not None and self.ema_decay is None:
            raise ValueError("snapshots are taken beside the average; expected: an ema_decay")
        return self


class Adversarial(Block):
    """A patch discriminator that tells originals from reconstructions, and teaches by it."""

    weight: float = Field(
        0.1, gt=0, description="of the term that asks to be taken for an original"
    )
    # Each left out where it is MAISI's: recipes and hashes from before are those without them.
    loss: Literal["least_squares", "hinge"] = Field(
        "least_squares",
        exclude_if=lambda loss: loss == "least_squares",
        description="least_squares as MAISI's; hinge as latent diffusion's: the discriminator sees "
        "images in [-1, 1]",
    )
    norm: Literal["instance", "batch"] = Field(
        "instance",
        exclude_if=lambda norm: norm == "instance",
        description="batch, as latent diffusion's: statistics of the micro batch of one process",
    )
    adaptive: bool = Field(
        False,
        exclude_if=lambda adaptive: adaptive is False,
        description="multiply the weight by the ratio of the gradients at the decoder's last "
        "layer, of all other losses to this one",
    )
    from_step: CountOrNone = Field(0, description="steps done before the discriminator comes in")
    channels: Width = Field(32, description="width of its first level")
    layers: int = Field(
        3, ge=1, le=12, description="levels; patches need edges of 3 * 2^layers voxels"
    )


class Perceptual(Block):
    """LPIPS between tiles in colour and their reconstructions, of networks in two local files."""

    weight: float = Field(
        0.5,
        gt=0,
        description="latent diffusion's 1 stands beside an L1 of images in [-1, 1], which is twice "
        "that of images in [0, 1]: 0.5 is the same",
    )
    vgg16: Path = Field(description="torchvision's VGG16 of ImageNet, vgg16-397923af.pth")
    heads: Path = Field(description="linear heads of LPIPS 0.1 for it, vgg.pth")


class Equivariance(Block):
    """The decoder gives the turned, smaller image for the turned, smaller latent (EQ-VAE)."""

    weight: float = Field(0.5, gt=0, description="of the L1 between the two")
    scale: float = Field(
        0.25, gt=0, le=1, description="smallest factor of the size, drawn anew each step; 1: none"
    )
    turns: bool = Field(True, description="by 90 degrees, in planes of equal edges")


class AutoencoderTraining(Block):
    """`voxella train-autoencoder`; absent where the weights come from a file.

    Where `autoencoder.weights` names a file as well, training starts from it.
    """

    steps: Count = 1000
    batch_size: Batch = 2
    patch_size: list[Voxels] | None = Field(None, description="voxels; None uses whole volumes")
    lr: float = Field(1e-3, gt=0)
    # Left out where they are those of before, as in the hashes of before.
    lr_schedule: Literal["cosine", "constant"] = Field(
        "cosine",
        exclude_if=lambda schedule: schedule == "cosine",
        description="cosine: a short warm-up, then a cosine to 0; constant: lr throughout",
    )
    betas: tuple[_Beta, _Beta] = Field(
        _BETAS,
        exclude_if=lambda betas: tuple(betas) == _BETAS,
        description="Adam's, of the autoencoder and of its discriminator",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: networks under autocast, weights and losses in fp32"
    )
    kl_weight: float = Field(1e-6, ge=0)
    gradient_weight: float = Field(
        0.0, ge=0, description="weight of the L1 between image gradients"
    )
    spectral_weight: float = Field(
        0.0, ge=0, description="weight of the L1 between log amplitudes of the spectra"
    )
    adversarial: Adversarial | None = Field(None, description="a discriminator; None: none")
    # Left out where there is none: hashes from before are those without it.
    perceptual: Perceptual | None = Field(
        None,
        exclude_if=lambda perceptual: perceptual is None,
        description="LPIPS, of tiles in colour; None: none",
    )
    equivariance: Equivariance | None = Field(
        None,
        exclude_if=lambda equivariance: equivariance is None,
        description="latents that turn and shrink with their image (arXiv:2502.09509); None: not",
    )
    ema_decay: float | None = Field(None, gt=0, lt=1, description="None: no average is kept")
    log_every: Count = 10
    checkpoint_every: Count = Field(100, description="steps: what a kill can cost at most")
    validate_every: CountOrNone = Field(
        0, description="steps between reconstructions of held-out cases, measured; 0: none"
    )
    panel_every: CountOrNone = Field(
        0, description="steps between pictures of reconstructions; 0: none"
    )
    deepspeed: dict[str, Any] = Field(
        default_factory=dict,
        description="ZeRO, accumulation, clipping (1), in DeepSpeed's own words",
    )
