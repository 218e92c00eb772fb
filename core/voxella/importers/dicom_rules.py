"""Which series becomes which sequence: rules that a recipe states, and those for common naming."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from voxella.quoting import quoted
from voxella.recipe.block import Block

__all__ = ["DEFAULT_RULES", "KeyedBy", "Plane", "SeriesRule", "rules_for"]

Plane = Literal["axial", "sagittal", "coronal"]
# The original identifier that tables of reports and labels are keyed by.
KeyedBy = Literal["study", "accession", "patient"]


class SeriesRule(Block):
    """What a series has to be like to become a sequence.

    Example:
        ``{description: "t2_tse_tra", plane: axial, pick: last}``
    """

    description: str = Field(
        min_length=1,
        description="regular expression searched in SeriesDescription, case ignored "
        "(ProtocolName where that is empty)",
    )
    exclude: str | None = Field(None, description="series whose description has this do not fit")
    plane: Plane | None = Field(None, description="nearest plane of the slices; null: any")
    b_value: float | Literal["highest"] | None = Field(
        None, description="take the volume of this b-value (s/mm2) out of the series that fit"
    )
    pick: Literal["only", "first", "last"] = Field(
        "only", description="by series number, where several fit; only: several are refused"
    )

    @field_validator("description", "exclude")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def fits(self, description: str) -> bool:
        """Tell whether a series of this description is meant."""
        found = re.search(self.description, description, re.IGNORECASE)
        barred = self.exclude and re.search(self.exclude, description, re.IGNORECASE)
        return found is not None and not barred


# Siemens, GE and Philips prostate protocols as they are commonly named.
_T2 = r"(^|[^a-z0-9])t2([^0-9]|$)"
# In "1.5x1.5_t3" t is the slices' thickness; a T2 map or T2* image is not T2-weighted.
_NOT_T2 = r"[0-9]_t[0-9.]+$|t2 ?\*|t2_?star|map"
DEFAULT_RULES: dict[str, SeriesRule] = {
    "t2w": SeriesRule(description=_T2, exclude=_NOT_T2, plane="axial"),
    "sag": SeriesRule(description=_T2, exclude=_NOT_T2, plane="sagittal"),
    "cor": SeriesRule(description=_T2, exclude=_NOT_T2, plane="coronal"),
    "adc": SeriesRule(description=r"adc|apparent", exclude=r"eadc|exponential", plane="axial"),
    "hbv": SeriesRule(
        description=r"diff|dwi|trace|b_?val|hbv|(^|[^a-z])b[ =_-]?[0-9]{3,4}",
        exclude=r"adc|apparent|exponential|(^|[^a-z])(col)?fa([^a-z]|$)",
        plane="axial",
        b_value="highest",
    ),
}


def rules_for(
    sequences: tuple[str, ...] | None, given: Mapping[str, SeriesRule]
) -> tuple[dict[str, SeriesRule], list[str]]:
    """Return each wanted sequence's rule, a given one before a default one, and what is wrong.

    Args:
        sequences: The wanted sequences; None: those with a given rule, or else t2w.
        given: The recipe's rules.
    """
    wanted = sequences if sequences is not None else (tuple(given) or ("t2w",))
    problems = ["sequences: at least one is needed"] if not wanted else []
    rules = {**DEFAULT_RULES, **given}
    legal = ", ".join(DEFAULT_RULES)
    problems += [
        f"sequences: {quoted(name)} has no rule, and only {legal} have one by default "
        f"(--set 'rules.{name}={{description: ...}}')"
        for name in wanted
        if name not in rules
    ]
    problems += [
        f"rules: {quoted(name)} is not among the sequences {', '.join(wanted)}"
        for name in given
        if name not in wanted
    ]
    problems += [
        f"sequences: {quoted(name)} cannot name a file; letters, digits and _ only"
        for name in wanted
        if not re.fullmatch(r"[A-Za-z0-9_]+", name)
    ]
    return {name: rules[name] for name in wanted if name in rules}, problems
