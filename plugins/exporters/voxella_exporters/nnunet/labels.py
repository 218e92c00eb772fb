"""Masks as nnU-Net wants them: whole numbers from 0, background, without a gap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.imaging.volume import Array
from voxella.wording import named

__all__ = ["Labels", "mask_values"]

BACKGROUND = "background"
# nnU-Net's labels are written as int16; a mask of more values than these is an image.
_MOST_VALUES = 256


@dataclass(frozen=True)
class Labels:
    """What each value of a mask becomes.

    Attributes:
        values: Label by the mask's value, without 0.
        names: Name by label, from 1.
    """

    values: Mapping[int, int]
    names: Sequence[str]

    @classmethod
    def given(cls, labels: Mapping[str, int | Sequence[int]]) -> Labels:
        """Return labels that a user names: the values of the mask that become each.

        Raises:
            UserError: A value is named twice, is 0 or no whole number, or a name is background's.
        """
        values: dict[int, int] = {}
        for number, (name, stored) in enumerate(labels.items(), start=1):
            if name == BACKGROUND:
                raise UserError("labels: background is 0 and needs no entry")
            for value in stored if isinstance(stored, list | tuple) else [stored]:
                if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                    raise UserError(
                        f"labels: {named(name)}: a value of the mask that is no number above 0",
                        expected="{NAME: 1, OTHER: [2, 3]}",
                    )
                if value in values:
                    raise UserError(f"labels: the value {value} has two names")
                values[value] = number
        return cls(values, tuple(labels))

    @classmethod
    def found(cls, name: str, values: Iterable[int]) -> Labels:
        """Return labels of the values that masks hold, numbered anew without a gap.

        Args:
            name: The mask's; a single value is called by it, several get their value behind it.
            values: All but 0.
        """
        own = sorted(values)
        names = (name,) if len(own) == 1 else tuple(f"{name}_{value}" for value in own)
        return cls({value: number for number, value in enumerate(own, start=1)}, names)

    @property
    def are_renumbered(self) -> bool:
        """Return whether a mask's value is not its label."""
        return any(value != label for value, label in self.values.items())

    def of(self, mask: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return the labels of a mask's values, each of which has one."""
        labels = np.zeros(mask.shape, dtype=np.int16)
        for value, label in self.values.items():
            labels[mask == value] = label
        return labels

    def declared(self) -> dict[str, int]:
        """Return ``labels`` of ``dataset.json``."""
        return {BACKGROUND: 0, **{name: n for n, name in enumerate(self.names, start=1)}}


def mask_values(array: Array) -> set[int] | str:
    """Return the values of a mask without 0; or, as text, why it is no mask of labels."""
    if not np.isfinite(array).all():
        return "is not finite"
    values = np.unique(array)
    if not np.array_equal(values, np.rint(values)):
        return "holds values that are no whole numbers"
    if values[0] < 0:
        return "holds values below 0"
    if len(values) > _MOST_VALUES:
        return f"holds {len(values)} values, more than {_MOST_VALUES}"
    return {int(value) for value in values if value}
