"""The quick check before a stage: said in a few lines, and never a reason to stop.

The stage `prepare` judges by the same rules and refuses what is an error, or puts the case in
quarantine and goes on; so errors are told here and raised there.
"""

from __future__ import annotations

from pathlib import Path

from voxella.case import Manifest
from voxella.check.finding import Finding
from voxella.check.quick import quick_check
from voxella.check.summary import Group, counted, grouped, some
from voxella.progress import say
from voxella.recipe.model import Recipe

__all__ = ["tell_quick_check"]

_CASES_NAMED = 3


def tell_quick_check(recipe: Recipe, dataset: Path) -> list[Finding]:
    """Check manifest and headers, say what errors and warnings there are, and return all findings.

    Raises:
        UserError: As :meth:`Manifest.read`.
    """
    manifest = Manifest.read(dataset)
    findings = quick_check(manifest, recipe)
    groups = [group for group in grouped(findings) if group.severity != "note"]
    cases = counted(len(manifest), "case")
    if not groups:
        say(f"check: the headers of {cases} show no problem")
        return findings
    say(f"check: what the headers of {cases} show (prepare refuses the errors)")
    for group in groups:
        say(f"  {_line(group)}")
    say(f"  voxella check {dataset} looks at voxels and reports, too")
    return findings


def _line(group: Group) -> str:
    where = f"{counted(len(group.cases), 'case')} ({some(group.cases, _CASES_NAMED)})"
    return f"{group.severity} {group.code}: {where}: {group.meaning}"
