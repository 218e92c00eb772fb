"""A file of prompts: read, and every line of it judged before anything is generated.

A prompt is report text: messages name lines and quote none.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from voxella.case import Case
from voxella.errors import UserError
from voxella.ldm.model_folder.facts import is_model, load_facts
from voxella.limits import TEXT_BYTES
from voxella.machine import raise_if_machine
from voxella.plain_json import parse_json
from voxella.recipe.sampling import Sample
from voxella.sampling.prompt_values import (
    Prompt,
    PromptRules,
    case_of,
    wrong_fields,
    wrong_text,
    wrong_values,
)
from voxella.texts.encodings import decode
from voxella.wording import shown_path

__all__ = ["check_prompts", "prompt_cases", "read_prompts"]

_EXPECTED = '{"id": "a1", "report": "...", "label": "positive", "spacing_mm": [0.5, 0.5, 0.75]}'


def check_prompts(sample: Sample, rules: PromptRules, model: Path) -> None:
    """Refuse, before hours of other stages, prompts that the model could not be given.

    Args:
        sample: ``prompts``, where it names any.
        rules: Of the recipe.
        model: The run's exported model: says which spacings it knows, where it is there already.

    Raises:
        UserError: As :func:`prompt_cases`.
    """
    if sample.prompts is not None:
        facts = load_facts(model) if is_model(model) else None
        _judged(sample, sample.prompts, replace(rules, facts=facts))


def prompt_cases(sample: Sample, rules: PromptRules) -> list[Case]:
    """Return a case for every prompt of ``sample.prompts``, in the file's order.

    They are of the first split that is sampled. A prompt without ``spacing_mm`` takes the middle of
    the range that the model was trained on.

    Raises:
        UserError: Naming every bad line; or what is asked needs a scan, which prompts have not.
    """
    assert sample.prompts is not None, "asked for only where there is a file"
    prompts = _judged(sample, sample.prompts, rules)
    return [case_of(prompt, sample.splits[0], rules) for prompt in prompts]


def _judged(sample: Sample, path: Path, rules: PromptRules) -> list[Prompt]:
    """Read the prompts and judge their values, all lines before the first is refused."""
    if sample.space == "source":
        raise UserError(
            "sample.space is source, but prompts have no scan whose grid could be taken",
            remedy="--set sample.space=prepared",
        )
    prompts, problems = read_prompts(path)
    for number, prompt in prompts.items():
        wrong = wrong_values(prompt, rules)
        problems += [(number, problem) for problem in wrong]
    seen: dict[str, int] = {}
    for number, prompt in prompts.items():
        # Without regard to case: on some disks two such ids would share their files.
        first = seen.setdefault(prompt.id.casefold(), number)
        if first != number:
            problems.append((number, f"id {prompt.id} stands in line {first} already"))
    if not problems and not prompts:
        raise UserError(f"{path}: holds no prompt", expected=_EXPECTED)
    if problems:
        lines = [f"{path}:{number}: {problem}" for number, problem in sorted(problems)]
        raise UserError("\n".join(lines), expected=f"one object per line: {_EXPECTED}")
    return list(prompts.values())


def read_prompts(path: Path) -> tuple[dict[int, Prompt], list[tuple[int, str]]]:
    """Return the prompts by line, and what keeps other lines from being one."""
    try:
        # With the byte-order mark that Windows puts before it, or without.
        lines = decode(TEXT_BYTES.read(path), remedy="")[0].split("\n")
    except OSError as error:
        raise_if_machine(error)
        raise UserError(
            f"sample.prompts: {shown_path(path)} cannot be read ({type(error).__name__})",
            expected=f"one object per line: {_EXPECTED}",
        ) from None
    except ValueError as error:
        # Its message holds nothing of the file.
        problem = f"sample.prompts: {path} {error}"
        raise UserError(problem, expected=f"one object per line: {_EXPECTED}") from None
    prompts: dict[int, Prompt] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompts[number] = Prompt.model_validate(parse_json(line)).beside(path)
        except ValidationError as error:
            problems.append((number, wrong_fields(error)))
        except ValueError as error:
            problems.append((number, f"not JSON: {error}"))
        else:
            if (wrong := wrong_text(prompts[number].report)) is not None:
                problems.append((number, f"its report {wrong}"))
    return prompts, problems
