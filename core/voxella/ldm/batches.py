"""From keys to batches: latents, noise, timesteps, text, all functions of (seed, case, epoch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxella.cache.latents import LatentCache
from voxella.cache.online import OnlineLatents
from voxella.cache.text import TextCache
from voxella.case import Case
from voxella.case.texts import draw_text
from voxella.case_fields import spacing_of
from voxella.diffusion.noise import seeded_noise, seeded_timesteps, seeded_uniform
from voxella.diffusion.timesteps import draw_timestep
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.build import Batch
from voxella.ldm.conditions import class_index
from voxella.ldm.scale import Scale, over_channels

__all__ = ["LatentBatchBuilder", "pad_features"]


def pad_features(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Join ``(L_i, F)`` features into ``(B, L, F)``, zeros behind, and a ``(B, L)`` bool mask."""
    longest = max(len(item) for item in features)
    joined = features[0].new_zeros(len(features), longest, features[0].shape[1])
    mask = torch.zeros(len(features), longest, dtype=torch.bool)
    for row, item in enumerate(features):
        joined[row, : len(item)] = item
        mask[row, : len(item)] = True
    return joined, mask


@dataclass(frozen=True)
class LatentBatchBuilder:
    """Makes a :class:`Batch` of visits. Holds no state, so any process makes the same batch.

    Attributes:
        settings: What the recipe says of them.
        cases: The training cases by id.
        latents: Means and log sigmas, cached or encoded as training goes.
        text: Cached token features, or None when the conditioner reads none.
        scale: Factor on latents, or one for each channel.
        draws_text: Of several texts of a case each visit sees one by chance; else the first.
    """

    settings: BatchSettings
    cases: dict[str, Case]
    latents: LatentCache | OnlineLatents
    text: TextCache | None
    scale: Scale
    draws_text: bool = True

    def make(
        self, keys: Sequence[SampleKey], *, global_keys: Sequence[SampleKey] | None = None
    ) -> Batch:
        """Return the batch of ``keys``.

        Args:
            keys: This micro batch.
            global_keys: All keys of the optimizer step, over all processes and micro batches;
                the class loss is averaged over those among them that have a report.
        """
        scaled = torch.stack([self._latent(key) for key in keys])
        present = self._present(keys)
        noise = torch.stack([self._noise(key, scaled.shape[1:]) for key in keys])
        drops = [self._drops(key) for key in keys]
        features, mask = self._text(keys, [text for text, _ in drops])
        counted = torch.tensor([self._counts(key) for key in keys])
        return Batch(
            case_ids=tuple(key.case_id for key in keys),
            latents=scaled,
            noise=noise,
            timesteps=torch.tensor([self._timestep(key, scaled.shape[2:]) for key in keys]),
            text_features=features,
            text_mask=mask,
            label=torch.stack([self._label(key.case_id) for key in keys]),
            has_report=counted,
            spacing_mm=self._spacing(keys),
            drop_label=torch.tensor([label for _, label in drops]),
            class_count=self._class_count(keys, global_keys or keys),
            conditions=self._conditions(keys),
            present=present,
        )

    def _latent(self, key: SampleKey) -> Tensor:
        entry = self._entry(key)
        # Without sigma there is nothing to draw.
        if self.settings.draw == "mean" or not self.latents.has_sigma:
            mean = self.latents.mean(entry, key.epoch)
            return mean * over_channels(self.scale, mean.ndim - 1)
        mean, log_sigma = self.latents.read(entry, key.epoch)
        # Paper mode keeps one draw per case for ever; by default each visit draws anew.
        epoch = 0 if self.settings.draw == "fixed" else key.epoch
        eps = seeded_noise(
            mean.shape,
            seed=self.settings.seed,
            case_id=key.case_id,
            step=epoch,
            purpose="latent",
        )
        return (mean + log_sigma.exp() * eps) * over_channels(self.scale, mean.ndim - 1)

    def _present(self, keys: Sequence[SampleKey]) -> Tensor | None:
        """Return the channels that have a sequence behind them; None where all have, in all."""
        if not self.latents.has_absent:
            return None
        return torch.stack([self.latents.present(key.case_id) for key in keys])

    def _entry(self, key: SampleKey) -> str:
        """Return which of a case's latents this visit sees: its own, or an augmented variation."""
        entries = self.latents.entries(key.case_id)
        if len(entries) == 1:
            return entries[0]
        drawn = seeded_uniform(
            (),
            seed=self.settings.seed,
            case_id=key.case_id,
            step=key.epoch,
            purpose="variation",
        )
        return entries[int(float(drawn) * len(entries))]

    def _noise(self, key: SampleKey, shape: Sequence[int]) -> Tensor:
        return seeded_noise(
            tuple(shape), seed=self.settings.seed, case_id=key.case_id, step=key.epoch
        )

    def _timestep(self, key: SampleKey, size: Sequence[int]) -> int:
        steps, draws = self.settings.timesteps, self.settings.draws
        seed, case_id, step = self.settings.seed, key.case_id, key.epoch
        if draws is None:
            return int(seeded_timesteps((), steps, seed=seed, case_id=case_id, step=step))
        return draw_timestep(
            draws.name,
            steps,
            location=draws.location,
            scale=draws.scale,
            shift=draws.shift,
            size=size,
            seed=seed,
            case_id=case_id,
            step=step,
        )

    def _drops(self, key: SampleKey) -> tuple[bool, bool]:
        """Decide whether text and label are nulled at this visit: (text, label)."""
        dropout = self.settings.dropout
        draw = seeded_uniform(
            (3,),
            seed=self.settings.seed,
            case_id=key.case_id,
            step=key.epoch,
            purpose="dropout",
        )
        both = draw[0] < dropout.both
        text = bool(both or draw[1] < dropout.text) and not self._is_spared(key.case_id)
        return text, bool(both or draw[2] < dropout.label)

    def _is_spared(self, case_id: str) -> bool:
        """Return whether the case never loses its text, by ``dropout.spared``."""
        known = self.cases[case_id].conditions
        values = ((known.get(n), least) for n, least in self.settings.dropout.spared.items())
        return any(isinstance(v, int | float) and v >= least for v, least in values)

    def _counts(self, key: SampleKey) -> bool:
        """Return whether the visit takes part in the class loss: its report is there and seen."""
        if self.text is None:
            return False
        return self.text.has_report(key.case_id) and not self._drops(key)[0]

    def _class_count(self, keys: Sequence[SampleKey], everyone: Sequence[SampleKey]) -> Tensor:
        """What a micro batch divides its class loss by: the step's mean is over all its reports.

        DeepSpeed averages micro batches with equal weight; the cases with a report are not spread
        equally over them, and the loss must not depend on how a step is cut into micro batches.
        """
        counted = [v for v in everyone if self._counts(v) and self.cases[v.case_id].label]
        return torch.tensor(len(counted) * len(keys) / len(everyone))

    def _text(
        self, keys: Sequence[SampleKey], dropped: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.text is None:
            return None, None
        features = [
            self.text.empty if drop else self.text.read(key.case_id, self._name(key))[0]
            for key, drop in zip(keys, dropped, strict=True)
        ]
        joined, mask = pad_features(features)
        # All of one length: no mask, so that paper mode attends to padding as released.
        return joined, None if bool(mask.all()) else mask

    def _name(self, key: SampleKey) -> str | None:
        """Return which text the visit sees; None: the first, or the empty one where none is."""
        if self.text is None or not self.draws_text:
            return None
        names = self.text.names(key.case_id)
        return draw_text(names, seed=self.settings.seed, case_id=key.case_id, epoch=key.epoch)

    def _conditions(self, keys: Sequence[SampleKey]) -> dict[str, Tensor]:
        """Return the named conditions of the visits; all zeros, "not known", where dropped."""
        rows = [
            {} if self._drops_conditions(key) else self.cases[key.case_id].conditions
            for key in keys
        ]
        return {
            name: torch.tensor([block.encode(row.get(name)) for row in rows])
            for name, block in self.settings.conditions.items()
        }

    def _drops_conditions(self, key: SampleKey) -> bool:
        dropout, seed = self.settings.dropout, self.settings.seed

        def draw(shape: tuple[int, ...], purpose: str) -> Tensor:
            case_id, step = key.case_id, key.epoch
            return seeded_uniform(shape, seed=seed, case_id=case_id, step=step, purpose=purpose)

        # The draw that decides `both` is the one of text and label: a case loses all of them.
        both = draw((3,), "dropout")[0] < dropout.both
        return bool(both or draw((), "dropout-conditions") < dropout.conditions)

    def _label(self, case_id: str) -> Tensor:
        one_hot = torch.zeros(len(self.settings.classes))
        index = class_index(self.settings.classes, self.cases[case_id])
        if index is not None:
            one_hot[index] = 1.0
        return one_hot

    def _spacing(self, keys: Sequence[SampleKey]) -> Tensor | None:
        if not self.settings.spacing:
            return None
        return torch.tensor([self._edges(self.cases[v.case_id]) for v in keys]).float()

    @staticmethod
    def _edges(case: Case) -> tuple[float, ...]:
        if (edges := spacing_of(case.extra)) is None:
            raise UserError(
                f"case {case.id} has no voxel spacing in mm, which the recipe's vectors ask for",
                remedy="leave spacing out of the recipe's vectors: --set vectors=[]",
            )
        return edges
