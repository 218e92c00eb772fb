"""A study of one recipe under several samplings: one training, a row for each data set."""

from __future__ import annotations

from collections.abc import Iterator

from voxella.errors import UserError
from voxella.recipe.sampling import Sample, Sweep
from voxella.study.load import StudySet

__all__ = ["refuse_company", "rows_of_sweep"]


def refuse_company(studies: StudySet) -> None:
    """Refuse a sweep beside other studies: its data sets lie where theirs would.

    Raises:
        UserError: There is one.
    """
    swept = [study.name for study in studies.studies if study.sweep is not None]
    if swept and len(studies.studies) > 1:
        raise UserError(
            f"{', '.join(swept)}: a study with a sweep is run by itself",
            remedy=f"take it out of {studies.name}: voxella study {studies.source} names it",
        )


def rows_of_sweep(sweep: Sweep, sample: Sample) -> Iterator[tuple[str, Sample]]:
    """Yield each row of a sweep: its name, and the recipe's block that samples for it alone.

    Raises:
        UserError: Two rows would be one.
    """
    counts, scales = sweep.steps or [sample.steps], sweep.guidance or [sample.guidance]
    rows = {}
    for steps in counts:
        for guidance in scales:
            parts = [f"steps-{steps}"] if sweep.steps else []
            parts += [f"guidance-{guidance:g}"] if sweep.guidance else []
            one = Sweep(steps=[steps], guidance=[guidance])
            changed = {"steps": steps, "guidance": guidance, "sweep": one}
            rows["_".join(parts)] = sample.model_copy(update=changed)
    if "" in rows or len(rows) < len(counts) * len(scales):
        raise UserError(
            "sweep: it names nothing, or something twice",
            expected="different numbers, such as sweep: {guidance: [1, 1.75, 3]}",
        )
    yield from rows.items()
