"""What one volume is asked to be: its text, label, spacing, conditions and what is given of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from voxella.case import Case
from voxella.case_fields import spacing_of
from voxella.ldm.conditions import class_index, encoded
from voxella.ldm.held import Held
from voxella.recipe.condition import Condition

__all__ = ["Request", "request_for"]


@dataclass(frozen=True)
class Request:
    """One volume to be made.

    Attributes:
        sample_id: Seeds its noise, together with the recipe's seed.
        text_features: ``(L, F)``; None: the empty report, or a model that reads no text.
        label: Class index, -1 when unknown.
        spacing_mm: One number per axis; None: unknown, for a model that does not ask.
        conditions: ``{name: (width,)}`` of the recipe's conditions; one that is absent is missing.
        held: What is given of it; None: nothing, all is generated.
    """

    sample_id: str
    text_features: Tensor | None
    label: int
    spacing_mm: tuple[float, ...] | None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    held: Held | None = None


def request_for(
    classes: Sequence[str],
    conditions: Mapping[str, Condition],
    case: Case,
    features: Tensor | None,
    sample_id: str,
) -> Request:
    """Return the request that makes a synthetic counterpart of a case: its report, label and so on.

    Args:
        classes: Label names, in order.
        conditions: How a case's values become tensors, by name.
        case: Whose label, spacing and conditions are taken.
        features: ``(L, F)`` of its report; None: the empty one's, or a model without text.
        sample_id: Names which of its counterparts.

    Raises:
        UserError: The case's label is not one of the classes, or a condition cannot be taken.
    """
    index = class_index(classes, case)
    label = -1 if index is None else index
    return Request(sample_id, features, label, spacing_of(case.extra), encoded(conditions, case))
