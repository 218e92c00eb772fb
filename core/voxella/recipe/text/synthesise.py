"""The block ``text.synthesise``: reports written by rule for training cases that have none."""

from __future__ import annotations

import re
from string import Formatter

from pydantic import Field, field_validator, model_validator

from voxella.recipe.block import Block, Label

__all__ = ["LABEL", "Synthesise", "fields_of"]

LABEL = "label"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_\-]*")
# Decimals alone: what else a format can do belongs to programs.
_SPEC = re.compile(r"(\.[0-9]f)?")


def fields_of(sentence: str) -> list[tuple[str, str]]:
    """Return the fields of a sentence in order, each with its format.

    Raises:
        ValueError: The braces do not match.
    """
    parts = Formatter().parse(sentence)
    # A conversion (!r) is told as part of the name, which then is none.
    return [
        (f"{name}!{conversion}" if conversion else name, spec or "")
        for _, name, spec, conversion in parts
        if name is not None
    ]


class Synthesise(Block):
    """Sentences about label and metadata; the image is never looked at.

    A sentence is left out where one of its fields is not known of the case.
    """

    sentences: list[str] = Field(
        min_length=1,
        description="in order; {label} and {NAME} of the manifest's conditions, {psa:.1f} with "
        "decimals",
    )
    labels: dict[Label, str] = Field(
        default_factory=dict, description="how {label} is put into words; else the class's name"
    )

    @field_validator("sentences")
    @classmethod
    def _plain_fields(cls, sentences: list[str]) -> list[str]:
        for number, sentence in enumerate(sentences, start=1):
            try:
                fields = fields_of(sentence)
            except ValueError as problem:
                raise ValueError(f"sentence {number}: {problem}") from None
            for name, spec in fields:
                if not _NAME.fullmatch(name) or not _SPEC.fullmatch(spec):
                    raise ValueError(
                        f"sentence {number}: a field is {{label}}, {{NAME}} or {{NAME:.1f}}"
                    )
        return sentences

    @model_validator(mode="after")
    def _says_something(self) -> Synthesise:
        if not any(fields_of(sentence) for sentence in self.sentences):
            raise ValueError(
                "no sentence has a field: every case would be told the same; expected: {label} or "
                "a condition's name"
            )
        return self
