"""LatentDiffusion: backbone and conditioner as one module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from voxella.conditioning import LABEL, SPACING, TEXT, Conditioning, arguments, completed, unread
from voxella.diffusion.losses import focal_loss, masked_mean, reconstruction_loss
from voxella.diffusion.names import Prediction
from voxella.diffusion.prediction import target
from voxella.diffusion.schedule import Schedule
from voxella.errors import UserError
from voxella.ldm.batch import Batch
from voxella.ldm.model_folder.folder import ModelOrigin
from voxella.ldm.scale import Scale
from voxella.plugins.contracts import Backbone, Conditioner
from voxella.recipe.model import Loss

__all__ = ["SPACING", "LatentDiffusion"]

CLASS = "class"
_NO_SPACING = "this model is conditioned on voxel spacing: give spacing_mm"


class LatentDiffusion(nn.Module):
    """A denoiser and what conditions it; the module that DeepSpeed wraps and that is exported.

    Args:
        backbone: The denoiser.
        conditioner: Turns text features and labels into a :class:`Conditioning`.
        schedule: The forward process.
        prediction: What the backbone predicts: ``epsilon``, ``v``, ``x0`` or ``flow``.
        vectors: ``{name: factor}`` in the order of joining. The paper multiplies class and spacing
            by 100 before their MLPs.
        num_classes: Number of classes K.
        spatial_dims: 2 or 3; width of the spacing vector.
        loss: Weights and forms of the losses.
        conditions: ``{name: width}`` of the recipe's conditions, named by the conditioner's
            ``needs`` or joined as vectors.
    """

    null_text: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        conditioner: Conditioner,
        *,
        schedule: Schedule,
        prediction: Prediction,
        vectors: Mapping[str, float],
        num_classes: int,
        spatial_dims: int,
        loss: Loss,
        conditions: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = cast(nn.Module, backbone)
        self.conditioner = cast(nn.Module, conditioner)
        self.needs = conditioner.needs
        self._unread = unread(self.conditioner, self.needs)
        self.conditions = dict(conditions or {})
        self.schedule = schedule
        self.prediction = prediction
        self.vectors = dict(vectors)
        self.num_classes = num_classes
        self.spatial_dims = spatial_dims
        self.loss = loss
        # Factor on latents, or by channel: 1/std over the training set. Not a buffer: a module cast
        # to bf16 would round it, and every sample would be decoded at the wrong brightness.
        self.latent_scale: Scale = 1.0
        # Where `voxella.load_model` has read it; None for one that was built.
        self.origin: ModelOrigin | None = None
        # Features of the empty report; they stand in wherever a case has no text.
        self.register_buffer("null_text", None, persistent=False)

    def save(self, folder: Path | str) -> Path:
        """Write a model that :func:`voxella.load_model` has read to a folder of its own.

        The same tensors, facts, recipe and autoencoder; loading it gives the same model.

        Raises:
            UserError: The model was built, not loaded; or its autoencoder is gone meanwhile.
        """
        if self.origin is None:
            raise UserError(
                "this model was built from a recipe: what a folder has to say of its training "
                "is not known",
                expected="a model of voxella.load_model(FOLDER)",
                remedy="voxella train RECIPE --out RUN   (writes RUN/model)",
            )
        state = {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()}
        scale = self.latent_scale
        null_text = None if self.null_text is None else self.null_text.detach().cpu()
        written = list(scale) if isinstance(scale, tuple) else scale
        return self.origin.save(Path(folder), state, written, null_text)

    def condition(
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor | None = None,
        text_mask: Tensor | None = None,
        label: Tensor | None = None,
        spacing_mm: Tensor | None = None,
        conditions: Mapping[str, Tensor] | None = None,
        drop_label: Tensor | None = None,
    ) -> Conditioning:
        """Return what the backbone is told about ``B`` samples.

        Args:
            timesteps: ``(B,)``, in steps of the schedule.
            text_features: ``(B, L, F)``; None stands for cases without a report, which see the
                features of the empty report (CCELLA paper, section 3.1).
            text_mask: ``(B, L)`` bool, True where a token is real; None when all are.
            label: ``(B,)`` class indices (-1: unknown) or ``(B, K)`` one-hot; None: unknown.
            spacing_mm: ``(B, n)``, needed when the recipe lists a spacing vector.
            conditions: ``{name: (B, width)}``, see :class:`voxella.recipe.condition.Condition`; one
                that is not given is missing in all samples.
            drop_label: ``(B,)`` bool, True where label and class vector are nulled.

        Raises:
            ValueError: When text or spacing is needed and neither given nor known.
        """
        count = timesteps.shape[0]
        if "text" in self.needs and text_features is None:
            text_features, text_mask = self._empty_report(count), None
        given = completed(self.conditions, conditions or {}, count, timesteps.device)
        if LABEL in self.needs:
            given[LABEL] = _nulled(self._one_hot(label, timesteps), drop_label)
        if spacing_mm is not None:
            given[SPACING] = spacing_mm
        elif SPACING in self.needs:
            raise ValueError(_NO_SPACING)
        if text_features is not None:
            given[TEXT] = text_features
        made: Conditioning = self.conditioner(
            timesteps=timesteps, **arguments(self.needs, given, text_mask), **self._unread
        )
        return made._replace(vectors=self._scaled_vectors(made, given, drop_label))

    def predict(self, x_t: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the backbone's prediction for ``x_t`` ``(B, C, *spatial)``, in float32."""
        output: Tensor = self.backbone(x_t, timesteps, conditioning)
        return output.float()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return named losses: ``total = reconstruction + class_weight * class`` (paper, eq. 1).

        Where the recipe weighs timesteps the total has the weighted mean; ``reconstruction`` stays
        the plain one, so that timesteps can be compared.

        Scalars carry gradients. Entries ending in ``_per_case`` and ``class_logits`` are detached,
        ``(B, ...)``, for monitoring.
        """
        x_t = self.schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        conditioning = self.condition(
            timesteps=batch.timesteps,
            text_features=batch.text_features,
            text_mask=batch.text_mask,
            label=batch.label,
            spacing_mm=batch.spacing_mm,
            conditions=batch.conditions,
            drop_label=batch.drop_label,
        )
        if batch.present is not None:
            # Of a sequence that a case lacks the network sees zeros, and nothing is asked.
            x_t = x_t * batch.present.reshape(*batch.present.shape, *[1] * (x_t.ndim - 2))
        predicted = self.predict(x_t, batch.timesteps, conditioning)
        wanted = target(self.prediction, batch.latents, batch.noise, batch.timesteps, self.schedule)
        kind = self.loss.reconstruction
        per_case = reconstruction_loss(kind, predicted, wanted, batch.present)
        losses = {"total": per_case.mean(), "reconstruction": per_case.mean()}
        losses["reconstruction_per_case"] = per_case.detach()
        if (weighting := self.loss.weighting) is not None:
            t = batch.timesteps
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            weighted = per_case * weighting.weights(self.prediction, alpha, sigma)
            losses["total"] = weighted.mean()
            losses["weighted_per_case"] = weighted.detach()
        with torch.no_grad():
            # What a network that predicts 0 would lose: the measure of whether this one learns.
            nothing = torch.zeros_like(predicted)
            losses["zero_per_case"] = reconstruction_loss(kind, nothing, wanted, batch.present)
        if conditioning.class_logits is not None:
            losses |= self._class_losses(batch, conditioning.class_logits.float())
            losses["total"] = losses["total"] + self.loss.class_weight * losses["class"]
        return losses

    def _class_losses(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        """Focal loss of each case, averaged over those that have a report and a known label."""
        # The released code scales the target by 100, and the loss is linear in it: its published
        # weight of 1e-4 acts as 1e-2. Ours is 1 unless the recipe asks for paper mode. As there,
        # a case's loss is the sum over its classes: their mean would be half of it.
        per_case = focal_loss(
            logits,
            batch.label * self.loss.class_target_scale,
            gamma=self.loss.focal_gamma,
            alpha=self.loss.focal_alpha,
        ).sum(dim=1)
        counted = batch.has_report & (batch.label.sum(dim=1) > 0)
        return {
            "class": masked_mean(per_case, counted, batch.class_count),
            "class_per_case": per_case.detach(),
            "class_logits": logits.detach(),
        }

    def _scaled_vectors(
        self, made: Conditioning, given: Mapping[str, Tensor], drop_label: Tensor | None
    ) -> dict[str, Tensor]:
        """Put the vectors in the recipe's order, scaled, the class nulled where asked.

        What the conditioner does not make of its own is joined as it was given.
        """
        raw = {**given, **made.vectors}
        if SPACING in self.vectors and SPACING not in raw:
            raise ValueError(_NO_SPACING)
        if CLASS in raw:
            raw[CLASS] = _nulled(raw[CLASS], drop_label)
        return {name: raw[name] * factor for name, factor in self.vectors.items()}

    def _one_hot(self, label: Tensor | None, timesteps: Tensor) -> Tensor:
        if label is None:
            return torch.zeros(timesteps.shape[0], self.num_classes, device=timesteps.device)
        if label.ndim == 2:
            return label.float()
        known = (label >= 0)[:, None]
        one_hot = nn.functional.one_hot(label.clamp(min=0).long(), self.num_classes)
        return (one_hot * known).float()

    def _empty_report(self, count: int) -> Tensor:
        if self.null_text is None:
            raise ValueError(
                "this model reads reports: give text_features, or train or load it so that it "
                "knows the features of the empty report"
            )
        return self.null_text.expand(count, -1, -1)


def _nulled(rows: Tensor, drop: Tensor | None) -> Tensor:
    return rows if drop is None else rows.masked_fill(drop[:, None], 0.0)
