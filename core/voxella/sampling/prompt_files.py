"""A file of prompts: read, and every value of it judged before anything is generated.

A prompt is report text: it goes to the text encoder and nowhere else. Messages name lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from voxella.case import Case, ConditionValue
from voxella.case.texts import first_name
from voxella.case_fields import conditions_problem
from voxella.errors import UserError
from voxella.files import sha256_bytes
from voxella.imaging.affine import edges_problem
from voxella.ldm.conditions import wrong_conditions
from voxella.ldm.export import FACTS, ModelFacts, load_facts
from voxella.limits import TEXT_BYTES
from voxella.machine import raise_if_machine
from voxella.plain_json import parse_json
from voxella.recipe.model import Recipe
from voxella.texts.documents import document_of_text
from voxella.texts.encodings import decode
from voxella.texts.placeholders import stated
from voxella.wording import shown_path

__all__ = [
    "Prompt",
    "case_of",
    "check_prompts",
    "prompt_cases",
    "read_prompts",
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
}
_LEGAL = '{"id": "a1", "report": "...", "label": "positive", "spacing_mm": [0.5, 0.5, 0.75]}'


class Prompt(BaseModel):
    """One line of the file; ``report`` is patient data."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=100)
    report: str = ""
    label: str | None = None
    spacing_mm: list[float] | None = None
    conditions: dict[str, ConditionValue] = Field(default_factory=dict)

    @field_validator("conditions")
    @classmethod
    def _finite(cls, value: dict[str, ConditionValue]) -> dict[str, ConditionValue]:
        if (why := conditions_problem(value)) is not None:
            raise ValueError(why)
        return value


def check_prompts(recipe: Recipe, model: Path) -> None:
    """Refuse, before hours of other stages, prompts that the model could not be given.

    Args:
        recipe: ``sample.prompts``, where it names any.
        model: The run's exported model: says which spacings it knows, where it is there already.

    Raises:
        UserError: As :func:`prompt_cases`.
    """
    if recipe.sample.prompts is not None:
        facts = load_facts(model) if (model / FACTS).is_file() else None
        _judged(recipe, recipe.sample.prompts, recipe.data.classes, facts)


def prompt_cases(recipe: Recipe, facts: ModelFacts) -> list[Case]:
    """Return a case for every prompt of ``sample.prompts``, in the file's order.

    They are of the first split that the recipe samples. A prompt without ``spacing_mm`` takes the
    middle of the range that the model was trained on.

    Raises:
        UserError: Naming every bad line; or what is asked needs a scan, which prompts have not.
    """
    assert recipe.sample.prompts is not None, "asked for only where there is a file"
    prompts = _judged(recipe, recipe.sample.prompts, facts.classes, facts)
    return [case_of(prompt, recipe, facts) for prompt in prompts]


def case_of(prompt: Prompt, recipe: Recipe, facts: ModelFacts) -> Case:
    """Return the case that a prompt stands for, with the middle spacing where it names none."""
    spacing = prompt.spacing_mm or _usual_spacing(recipe, facts)
    text = {first_name(recipe.text_source): sha256_bytes(prompt.report.encode())}
    return Case(
        id=prompt.id,
        group=f"prompt-{prompt.id}",
        images={},
        label=prompt.label,
        label_source=None if prompt.label is None else "given",
        texts_sha256=text if stated(prompt.report) else {},
        split=recipe.sample.splits[0],
        conditions=prompt.conditions,
        extra={} if spacing is None else {"spacing_mm": spacing},
    )


def _usual_spacing(recipe: Recipe, facts: ModelFacts) -> list[float] | None:
    if facts.spacing_mm is None:
        # Pictures of two axes; volumes have one, or the model is of a version that kept none.
        axes = len(recipe.latent.size)
        return None if axes == 2 else [1.0] * axes
    least, most = facts.spacing_mm["min"], facts.spacing_mm["max"]
    return [round((low + high) / 2, 6) for low, high in zip(least, most, strict=True)]


def _judged(
    recipe: Recipe, path: Path, classes: Sequence[str], facts: ModelFacts | None
) -> list[Prompt]:
    """Read the prompts and judge their values, all lines before the first is refused.

    Args:
        recipe: Says how many axes there are.
        path: The file.
        classes: Those a label may name.
        facts: Of the model, which says what it has seen; None where it is not there yet.
    """
    if recipe.sample.space == "source":
        raise UserError(
            "sample.space is source, but prompts have no scan whose grid could be taken",
            remedy="--set sample.space=prepared",
        )
    prompts, problems = read_prompts(path)
    for number, prompt in prompts.items():
        wrong = wrong_values(prompt, recipe, classes, facts)
        problems += [(number, problem) for problem in wrong]
    seen: dict[str, int] = {}
    for number, prompt in prompts.items():
        # Without regard to case: on some disks two such ids would share their files.
        first = seen.setdefault(prompt.id.casefold(), number)
        if first != number:
            problems.append((number, f"id {prompt.id} stands in line {first} already"))
    if not problems and not prompts:
        raise UserError(f"{path}: holds no prompt", legal=_LEGAL)
    if problems:
        lines = [f"{path}:{number}: {problem}" for number, problem in sorted(problems)]
        raise UserError("\n".join(lines), legal=f"one object per line: {_LEGAL}")
    return list(prompts.values())


def wrong_values(
    prompt: Prompt, recipe: Recipe, classes: Sequence[str], facts: ModelFacts | None
) -> Iterator[str]:
    """Yield what is wrong with a prompt's label, spacing and conditions; arguments as above."""
    if prompt.label is not None and prompt.label not in classes:
        yield f"label is none of {', '.join(classes)}"
    yield from _wrong_spacing(recipe, prompt, None if facts is None else facts.spacing_mm)
    trained = None if facts is None else facts.conditions
    yield from wrong_conditions(recipe.conditions, prompt.conditions, trained)


def _wrong_spacing(
    recipe: Recipe, prompt: Prompt, trained: dict[str, list[float]] | None
) -> Iterator[str]:
    """Judge the voxel edges: a model told of others than it knows makes volumes of no meaning."""
    given, axes = prompt.spacing_mm, len(recipe.latent.size)
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


def read_prompts(path: Path) -> tuple[dict[int, Prompt], list[tuple[int, str]]]:
    """Return the prompts by line, and what keeps other lines from being one."""
    try:
        # With the byte-order mark that Windows puts before it, or without.
        lines = decode(TEXT_BYTES.read(path), remedy="")[0].split("\n")
    except OSError as error:
        raise_if_machine(error)
        raise UserError(
            f"sample.prompts: {shown_path(path)} cannot be read ({type(error).__name__})",
            legal=f"one object per line: {_LEGAL}",
        ) from None
    except ValueError as error:
        # Its message holds nothing of the file.
        problem = f"sample.prompts: {path} {error}"
        raise UserError(problem, legal=f"one object per line: {_LEGAL}") from None
    prompts: dict[int, Prompt] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompts[number] = Prompt.model_validate(parse_json(line))
        except ValidationError as error:
            problems.append((number, wrong_fields(error)))
        except ValueError as error:
            problems.append((number, f"not JSON: {error}"))
        else:
            if (wrong := wrong_text(prompts[number].report)) is not None:
                problems.append((number, f"its report {wrong}"))
    return prompts, problems


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
