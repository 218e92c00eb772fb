"""What the values are that a recipe's conditions read: outside, unknown, missing, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from voxella.case import Manifest
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.errors import UserError
from voxella.ldm.conditions import problems, refuse_values
from voxella.progress import print_line
from voxella.recipe.condition import Condition
from voxella.wording import listed

__all__ = ["check_training_conditions", "condition_findings"]


def check_training_conditions(
    conditions: Mapping[str, Condition], manifest: Manifest, *, name: str, quiet: bool = False
) -> None:
    """Refuse values that a recipe's conditions cannot take; count the cases that lack one.

    Args:
        conditions: The recipe's.
        manifest: The data set: every split, for volumes are made of all of them.
        name: The recipe's.
        quiet: Only refuse.

    Raises:
        UserError: A value is outside, or missing and must not be; or no training case has any.
    """
    refuse_values(conditions, manifest)
    cases = manifest.split("train")
    for condition, block in conditions.items():
        bare = [case.id for case in cases if block.is_missing(case.conditions.get(condition))]
        if cases and len(bare) == len(cases):
            raise UserError(
                f"none of the {len(cases)} training cases of {manifest.folder} has the condition "
                f"{condition}, and recipe {name} learns from it",
                expected=f"in this data set: {', '.join(_names(manifest)) or 'no conditions'}",
                remedy="import again with it (see docs/how-to/conditions.md), or --set "
                f"conditions.{condition}=null",
            )
        if bare:
            print_line(
                f"warning: {len(bare)} of {len(cases)} training cases have no {condition} and are "
                f"shown "
                f"as of none: {listed(bare)}",
                quiet=quiet,
            )


def condition_findings(
    conditions: Mapping[str, Condition], manifest: Manifest
) -> Iterator[Finding]:
    """Yield what is wrong with the values of every case, and the counts of each split."""
    for name, block in conditions.items():
        for (_, why), ids in problems({name: block}, manifest).items():
            for case in ids:
                yield text_finding("condition.value", f"{name} {why}", case=case, where=name)
        for split in ("train", "val", "test"):
            if cases := manifest.split(split):
                values = [case.conditions.get(name) for case in cases]
                missing = sum(block.is_missing(value) for value in values)
                beyond = sum(_is_clipped(block, value) for value in values)
                ends = f", {beyond} beyond its range, taken for its end" if beyond else ""
                told = f"{split}: {name} is known of {len(cases) - missing} cases, missing in "
                yield text_finding("condition.counts", f"{told}{missing}{ends}")


def _is_clipped(block: Condition, value: float | str | None) -> bool:
    if block.outside != "clip" or block.range is None or not isinstance(value, float | int):
        return False
    return not block.range[0] <= value <= block.range[1]


def _names(manifest: Manifest) -> list[str]:
    return sorted({name for case in manifest for name in case.conditions})
