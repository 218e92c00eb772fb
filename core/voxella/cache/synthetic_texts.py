"""Reports written by rule, from label and metadata, for training cases that have none.

The CCELLA paper's second proposal for cases without a report. What is written is metadata of a
patient: like a report it goes to the encoder and nowhere else.

A writer is given a case's label and conditions, never its images. Held-out cases get nothing, so
that a model that was trained with such texts is measured on the same prompts as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping

from voxella.case import Case, ConditionValue, Manifest
from voxella.case.texts import SYNTHETIC, text_id
from voxella.errors import UserError
from voxella.recipe.text.synthesise import LABEL, Synthesise, fields_of
from voxella.wording import listed

__all__ = ["synthetic_text", "synthetic_texts"]


def synthetic_texts(settings: Synthesise, manifest: Manifest) -> dict[str, str]:
    """Return a text for each training case that something is known of, by its id.

    Cases with a report get theirs, too: which reports are read is the training's to decide
    (``text.reports_share``).

    Raises:
        UserError: A case has a text of that name, or no training case knows a field.
    """
    cases = [case for case in manifest if case.split == "train"]
    taken = [case.id for case in manifest if SYNTHETIC in case.texts]
    if taken:
        raise UserError(
            f"{len(taken)} cases have a text that is called {SYNTHETIC}: {listed(taken)}",
            expected="another name: this one is of the texts that text.synthesise writes",
        )
    known = {name for case in cases for name, value in _facts(case).items() if value is not None}
    asked = {name for sentence in settings.sentences for name, _ in fields_of(sentence)}
    if cases and (absent := sorted(asked - known)):
        raise UserError(
            f"text.synthesise: no training case has {', '.join(absent)}",
            expected=", ".join(sorted(known)) or "labels or conditions in the manifest",
        )
    texts = {case.id: synthetic_text(settings, case.label, case.conditions) for case in cases}
    return {text_id(case_id, SYNTHETIC): text for case_id, text in texts.items() if text}


def synthetic_text(
    settings: Synthesise, label: str | None, conditions: Mapping[str, ConditionValue]
) -> str:
    """Return the sentences whose fields are all known, "" where none has any.

    Args:
        settings: The recipe's block.
        label: The case's class.
        conditions: The case's, by name.
    """
    facts = {**conditions, LABEL: None if label is None else settings.labels.get(label, label)}
    told, knows = [], False
    for sentence in settings.sentences:
        fields = fields_of(sentence)
        values = {name: facts.get(name) for name, _ in fields}
        if any(value is None for value in values.values()):
            continue
        knows = knows or bool(fields)
        words = {name: _Value(value) for name, value in values.items() if value is not None}
        told.append(sentence.format_map(words))
    return " ".join(told) if knows else ""


class _Value:
    """A number with the decimals that are asked for, 6.4 and not 6.400000; a word as it is."""

    def __init__(self, value: float | str) -> None:
        self._value = value

    def __format__(self, spec: str) -> str:
        if isinstance(self._value, str):
            return self._value
        return format(self._value, spec or "g")


def _facts(case: Case) -> dict[str, ConditionValue]:
    return {**case.conditions, LABEL: case.label}
