"""The ``dicom`` importer's arguments, checked before a file is read.

Which series becomes which sequence: rules that a recipe states, and those for common naming.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from voxella.recipe.block import Block
from voxella.texts.encodings import encoding_problem
from voxella.wording import quoted, why_no_name
from voxella_importers.dicom.keep import keep_problems

__all__ = ["COLUMNS", "DEFAULT_RULES", "DicomSettings", "KeyedBy", "SeriesRule"]

# Our names of the label table's columns.
COLUMNS = ("id", "label")

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
        """Return whether a series of this description is meant."""
        found = re.search(self.description, description, re.IGNORECASE)
        barred = self.exclude and re.search(self.exclude, description, re.IGNORECASE)
        return found is not None and not barred


@dataclass(frozen=True)
class DicomSettings:
    """The builder's arguments, see :func:`voxella_importers.dicom.plugin.dicom`."""

    source: Path
    sequences: tuple[str, ...] | None = None
    given_rules: Mapping[str, SeriesRule] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    key_file: Path | None = None
    keyed_by: KeyedBy = "accession"
    reports: Path | None = None
    reports_map: Path | None = None
    labels: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    label_names: Mapping[str, str] = field(default_factory=dict)
    label_source: str = "table"
    classes: tuple[str, ...] = ("negative", "positive")
    skip_bad: bool = False
    show_paths: bool = False
    encoding: str | None = None
    visible_only: bool = False

    @property
    def rules(self) -> dict[str, SeriesRule]:
        """Return the rule of each wanted sequence, in order."""
        return rules_for(self.sequences, self.given_rules)[0]

    @property
    def read(self) -> tuple[str, ...]:
        """Return the keywords of all fields that a case takes from a header."""
        return tuple(dict.fromkeys((*self.keep, *self.conditions.values())))

    def column(self, field: str) -> str:
        """Return the label table's name for one of our columns."""
        return self.columns.get(field, field)

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        found = [*rules_for(self.sequences, self.given_rules)[1], *keep_problems(self.keep)]
        found += keep_problems(self.conditions.values(), "conditions")
        found += [
            f"conditions: a name that {why}"
            for name in self.conditions
            if (why := why_no_name(name)) is not None
        ]
        found += [
            f"columns: {quoted(name)} is none of {', '.join(COLUMNS)}"
            for name in self.columns
            if name not in COLUMNS
        ]
        found += [
            f"label_names: {quoted(value)} is none of the classes {', '.join(self.classes)}"
            for value in dict.fromkeys(self.label_names.values())
            if value not in self.classes
        ]
        return found + [p for p in (encoding_problem(self.encoding),) if p]


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
    expected = ", ".join(DEFAULT_RULES)
    problems += [
        f"sequences: {quoted(name)} has no rule, and only {expected} have one by default "
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
