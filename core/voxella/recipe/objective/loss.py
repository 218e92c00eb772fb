"""The blocks ``loss`` and ``loss.weighting``: what an error costs, and at which timestep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from voxella.diffusion.names import Prediction, Reconstruction
from voxella.recipe.block import Block

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Loss", "Weighting"]

# What a weighting is given where a recipe does not say: of the papers.
_USUAL: dict[str, dict[str, float]] = {"p2": {"k": 1.0, "gamma": 1.0}, "min_snr": {"gamma": 5.0}}


class Weighting(Block):
    """How much a timestep counts, beside what the prediction's own error says.

    ``p2``: 1 / (k + SNR)^gamma (Choi et al. 2022, arXiv:2204.00227, equation 8): less where little
    noise hides what is seen anyway. ``min_snr``: of the squared error of x_0, min(SNR, gamma) (Hang
    et al. 2023, arXiv:2303.09556), for any prediction.
    """

    name: Literal["p2", "min_snr"]
    # Left out where there is none, so that a weighting without it can be read back.
    k: float | None = Field(
        None, gt=0, exclude_if=lambda k: k is None, description="of p2; None: 1, as in its paper"
    )
    gamma: float | None = Field(
        None,
        ge=0,
        description="p2: 0 is 1 at all timesteps; min_snr: the SNR above which timesteps count "
        "the same. None: as in its paper, 1 for p2 and 5 for min_snr",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_in_the_papers(cls, value: Any) -> Any:  # noqa: ANN401 - as it was written
        if not isinstance(value, dict) or value.get("name") not in _USUAL:
            return value
        given = {key: found for key, found in value.items() if found is not None}
        return {**_USUAL[value["name"]], **given}

    @model_validator(mode="after")
    def _in_its_range(self) -> Weighting:
        if self.name == "min_snr" and self.k is not None:
            raise ValueError(f"received k {self.k:g} with min_snr; expected: gamma alone")
        if self.name == "min_snr" and self.gamma == 0.0:
            raise ValueError("received gamma 0 with min_snr, under which nothing counts; above 0")
        return self

    def weights(self, prediction: Prediction, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the factor on the error of what is predicted.

        Args:
            prediction: ``diffusion.prediction``.
            alpha: Signal factor by case, any shape.
            sigma: Noise standard deviation, of the same shape, above 0.
        """
        from voxella.diffusion.losses import min_snr_weight, p2_weight

        assert self.gamma is not None, "filled in when the recipe is read"
        if self.name == "min_snr":
            return min_snr_weight(prediction, alpha, sigma, gamma=self.gamma)
        assert self.k is not None, "filled in when the recipe is read"
        return p2_weight(alpha, sigma, k=self.k, gamma=self.gamma)


class Loss(Block):
    """Reconstruction + class_weight x focal (CCELLA paper, equation 1)."""

    reconstruction: Reconstruction = "l1"
    class_weight: float = Field(0.0, ge=0)
    focal_gamma: float = Field(2.0, ge=0)
    focal_alpha: float | None = Field(
        0.75, ge=0, le=1, description="weight of the last class; None: no weights"
    )
    class_target_scale: float = Field(
        1.0, gt=0, description="100 in paper mode: the released code's target"
    )
    weighting: Weighting | None = Field(
        None,
        # Left out where there is none: hashes from before are those without it.
        exclude_if=lambda weighting: weighting is None,
        description="of timesteps; None: all count the same",
    )
