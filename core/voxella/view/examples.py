"""Example reports: none of a patient's, unless that was switched on by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxella.case import Manifest, manifest_file
from voxella.case.texts import texts_of
from voxella.data.phantoms import is_of_phantoms
from voxella.errors import UserError
from voxella.recipe.inputs import Data
from voxella.sampling.prompt_files import read_prompts

__all__ = ["EXAMPLES", "examples_of_cases", "examples_of_file"]

# Made-up prompts beside a model's weights, in the form of sample.prompts.
EXAMPLES = "examples.jsonl"
_MOST = 8


def examples_of_file(path: Path) -> list[dict[str, Any]]:
    """Return the prompts of a file.

    Raises:
        UserError: A line of it is no prompt.
    """
    prompts, problems = read_prompts(path)
    if problems:
        told = "\n".join(f"{path}:{number}: {problem}" for number, problem in problems)
        raise UserError(told, expected='{"id": "a1", "report": "...", "label": "positive"}')
    return [
        {
            "title": prompt.id,
            "report": prompt.report,
            "label": prompt.label,
            "conditions": prompt.conditions,
        }
        for prompt in list(prompts.values())[:_MOST]
    ]


def examples_of_cases(
    data: Data, source: str, dataset: Path, *, show_reports: bool
) -> list[dict[str, Any]]:
    """Return reports of a data set, in turn from every class; nothing where they are a patient's.

    Args:
        data: The recipe's ``data`` block.
        source: Which text of a case is read (``text.source``).
        dataset: The data set's folder.
        show_reports: Report texts may be shown.
    """
    if manifest_file(dataset) is None or not (show_reports or is_of_phantoms(data, dataset)):
        return []
    manifest = Manifest.open(dataset)
    by_label: dict[str | None, list[dict[str, Any]]] = {}
    for case in manifest:
        names = texts_of(case.texts, source)
        own = by_label.setdefault(case.label, [])
        if names and len(own) < _MOST:
            report = manifest.read_text(case, names[0])
            own.append({"title": case.id, "report": report, "label": case.label,
                        "conditions": case.conditions})  # fmt: skip
    found = [row[place] for place in range(_MOST) for row in by_label.values() if place < len(row)]
    return found[:_MOST]
