"""A prompt: what a volume is asked for by, and every value of it judged before one is made.

Its report goes to the text encoder and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from voxella.case import Case, ConditionValue
from voxella.case.texts import first_name
from voxella.case_fields import conditions_problem
from voxella.errors import UserError
from voxella.hashing import sha256_bytes
from voxella.imaging.affine import edges_problem
from voxella.ldm.conditions import wrong_conditions
from voxella.ldm.model_folder.facts import ModelFacts
from voxella.recipe.condition import Condition
from voxella.recipe.model import Recipe
from voxella.recipe.sampling import Split
from voxella.sampling.given import GivenRules, read_given, wrong_given
from voxella.texts.documents import document_of_text
from voxella.texts.placeholders import stated

__all__ = [
    "Prompt",
    "PromptRules",
    "asked_case",
    "case_of",
    "wrong_fields",
    "wrong_text",
    "wrong_values",
]

# A spacing this many times finer or coarser than any that was seen is refused.
_FAR = 4.0
_EXPECTED = {
    "id": "letters, digits and _ . - in quotes, at most 100 and the first no sign",
    "report": "a text in quotes",
    "label": "a text in quotes, or null",
    "spacing_mm": "a list of numbers, unquoted, or null",
    "conditions": "numbers and words in quotes, or null, by name",
    "given": "paths of image files in quotes, by sequence",
}


class Prompt(BaseModel):
    """One line of the file; ``report`` is patient data."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=100)
    report: str = ""
    label: str | None = None
    spacing_mm: list[float] | None = None
    conditions: dict[str, ConditionValue] = Field(default_factory=dict)
    given: dict[str, str] = Field(default_factory=dict)

    def beside(self, file: Path) -> Prompt:
        """Return the prompt with given paths that are relative to a file's folder made absolute."""
        given = {name: str(file.absolute().parent / path) for name, path in self.given.items()}
        return self.model_copy(update={"given": given})

    @field_validator("conditions")
    @classmethod
    def _finite(cls, value: dict[str, ConditionValue]) -> dict[str, ConditionValue]:
        if (why := conditions_problem(value)) is not None:
            raise ValueError(why)
        return value


@dataclass(frozen=True)
class PromptRules:
    """What the values of a prompt are held to.

    Attributes:
        axes: Of an image.
        conditions: The recipe's, by name.
        classes: Those a label may name.
        text_source: Which text of a case the prompt's stands for.
        given: What sequences that are given are held to.
        facts: Of the model, which says what it has seen; None where it is not there yet.
    """

    axes: int
    conditions: Mapping[str, Condition]
    classes: Sequence[str]
    text_source: str
    given: GivenRules
    facts: ModelFacts | None = None

    @classmethod
    def of(cls, recipe: Recipe, facts: ModelFacts | None = None) -> PromptRules:
        """Return those of a recipe; the classes are the model's where it is there."""
        classes = recipe.data.classes if facts is None else facts.classes
        axes, source = len(recipe.latent.size), recipe.text_source
        stacked = recipe.autoencoder.per_sequence
        given = GivenRules(recipe.data.sequences, recipe.prepare, stacked)
        return cls(axes, recipe.conditions, classes, source, given, facts)


def case_of(prompt: Prompt, split: Split, rules: PromptRules) -> Case:
    """Return the case that a prompt stands for, with the middle spacing where it names none."""
    given = read_given(prompt.given, rules.given) if prompt.given else None
    own = prompt.spacing_mm if given is None else given.spacing_mm
    spacing = own or _usual_spacing(rules)
    # Of what is given the hashes alone: they decide the volume.
    held = {} if given is None else {"given_sha256": given.sha256}
    text = {first_name(rules.text_source): sha256_bytes(prompt.report.encode())}
    return Case(
        id=prompt.id,
        group=f"prompt-{prompt.id}",
        images={},
        label=prompt.label,
        label_source=None if prompt.label is None else "given",
        texts_sha256=text if stated(prompt.report) else {},
        split=split,
        conditions=prompt.conditions,
        extra={**({} if spacing is None else {"spacing_mm": list(spacing)}), **held},
    )


def asked_case(
    rules: PromptRules,
    split: Split,
    name: str,
    report: str | None,
    label: str | None,
    conditions: Mapping[str, ConditionValue] | None,
    spacing_mm: Sequence[float] | None = None,
    given: Mapping[str, str] | None = None,
) -> Case:
    """Return the case that the arguments of :meth:`voxella.Generator.generate` stand for.

    Raises:
        UserError: Naming every argument that is wrong; none of a report is quoted.
    """
    asked = {
        "id": name,
        "report": report or "",
        "label": label,
        "spacing_mm": None if spacing_mm is None else [float(mm) for mm in spacing_mm],
        "conditions": dict(conditions or {}),
        "given": dict(given or {}),
    }
    try:
        prompt = Prompt.model_validate(asked)
    except ValidationError as error:
        # What a file calls id is the argument name here.
        raise UserError(
            f"generate: {wrong_fields(error).replace('id is', 'name is')}",
            expected='name="a1", report="...", label="positive", spacing_mm=[0.5, 0.5, 0.75], '
            'conditions={"age": 63}',
        ) from None
    problems = list(wrong_values(prompt, rules))
    if (wrong := wrong_text(prompt.report)) is not None:
        problems.append(f"report {wrong}")
    if problems:
        raise UserError("\n".join(f"generate: {problem}" for problem in problems))
    return case_of(prompt, split, rules)


def _usual_spacing(rules: PromptRules) -> list[float] | None:
    if rules.facts is None or (trained := rules.facts.spacing_mm) is None:
        # Pictures of two axes; volumes have one, or the model is of a version that kept none.
        return None if rules.axes == 2 else [1.0] * rules.axes
    pairs = zip(trained["min"], trained["max"], strict=True)
    return [round((low + high) / 2, 6) for low, high in pairs]


def wrong_values(prompt: Prompt, rules: PromptRules) -> Iterator[str]:
    """Yield what is wrong with a prompt's label, spacing and conditions."""
    facts = rules.facts
    yield from _wrong_label(prompt, rules.classes)
    if prompt.given:
        if prompt.spacing_mm is not None:
            yield "spacing_mm: what is given decides it, so both cannot stand"
        yield from wrong_given(prompt.given, rules.given)
    yield from _wrong_spacing(rules.axes, prompt, None if facts is None else facts.spacing_mm)
    trained = None if facts is None else facts.conditions
    yield from wrong_conditions(rules.conditions, prompt.conditions, trained)


def _wrong_label(prompt: Prompt, classes: Sequence[str]) -> Iterator[str]:
    if prompt.label is not None and prompt.label not in classes:
        yield f"label is none of {', '.join(classes)}"


def _wrong_spacing(
    axes: int, prompt: Prompt, trained: dict[str, list[float]] | None
) -> Iterator[str]:
    """Judge the voxel edges: a model told of others than it knows makes volumes of no meaning."""
    given = prompt.spacing_mm
    if given is None:
        return
    edges = " x ".join(f"{edge:g}" for edge in given)
    if len(given) != axes:
        yield f"spacing_mm has {len(given)} entries, and there are {axes} axes"
    elif edges_problem(given) is not None:
        yield f"spacing_mm: {edges} mm: an edge has to be a number above 0"
    elif trained is not None:
        seen = list(zip(trained["min"], trained["max"], strict=True))
        pairs = zip(given, seen, strict=True)
        if any(not low / _FAR <= edge <= high * _FAR for edge, (low, high) in pairs):
            known = " x ".join(f"{a:g}" if a == b else f"{a:g}..{b:g}" for a, b in seen)
            yield (
                f"spacing_mm: {edges} mm is far from what the model was trained on ({known} mm); "
                f"up to {_FAR:g} times finer or coarser is taken"
            )


def wrong_text(report: str) -> str | None:
    """Return why a text is no report that an encoder can be given, or None."""
    return "holds characters that are no text" if "\0" in report else document_of_text(report)


def wrong_fields(error: ValidationError) -> str:
    """Return what is wrong with the fields of a prompt; none of their values is quoted."""
    # Without the input: it is a report.
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(sorted({_field(item) for item in found if item["loc"]})) or "not an object"


def _field(item: Any) -> str:  # noqa: ANN401 - pydantic's own dict
    """Say what is wrong with a field; its value may be a report and is not quoted."""
    name = str(item["loc"][0])
    if name not in Prompt.model_fields:
        # It may be anything, a report as well.
        return "a field that no prompt has"
    if item["type"] == "missing":
        return f"{name} is missing"
    return f"{name} is not {_EXPECTED[name]}"
