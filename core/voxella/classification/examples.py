"""Which images a classifier learns from and which it is measured on.

Validation and test images are real, always. Synthetic ones may stand for training cases only: a
counterpart of a held-out patient would carry the test into the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxella.case import Case, Manifest
from voxella.classification.identity import identity_of, leaks, unmarked_images
from voxella.engine.hashes import shared_hashes
from voxella.errors import UserError
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify
from voxella.wording import listed

__all__ = ["Example", "Examples", "needs_samples", "require_validation", "select"]

_SHOWN = 8
_NO_VALIDATION = (
    "no labelled case in the split val: nothing can choose the epoch but the test cases, which are "
    "kept for the end; next: import again with validation patients "
    "(voxella import NAME SOURCE --out DATASET --set val_share=0.1, or a split column)"
)


@dataclass(frozen=True)
class Example:
    """One labelled image.

    Attributes:
        case: Its line of the manifest.
        manifest: The data set that it is of.
        target: Place of its label among the recipe's classes.
        identity: Hash that changes with its voxels.
    """

    case: Case
    manifest: Manifest
    target: int
    identity: str


@dataclass
class Examples:
    """All images of one scenario, by case id.

    Attributes:
        phases: Trainings in order, by name; the last one's name is empty.
        val: Real cases that choose the epoch.
        test: Real cases that are looked at once.
        left_out: Cases without a label, by where they were looked for.
        held_out_counterparts: Synthetic cases of val and test cases; they are not trained on.
    """

    phases: list[tuple[str, dict[str, Example]]]
    val: dict[str, Example]
    test: dict[str, Example]
    left_out: dict[str, int] = field(default_factory=dict)
    held_out_counterparts: int = 0

    @property
    def all(self) -> dict[str, Example]:
        """Return every image once."""
        sets = [*(examples for _, examples in self.phases), self.val, self.test]
        return {case_id: example for examples in sets for case_id, example in examples.items()}


def needs_samples(settings: Classify) -> bool:
    """Return whether the run's own synthetic images are trained on."""
    return settings.training_set != "real" and settings.samples is None


def require_validation(prepared: Manifest) -> None:
    """Refuse a data set without validation cases before a generator is trained for days.

    Raises:
        UserError: No case of the split ``val`` has a label.
    """
    if not any(case.label is not None for case in prepared.split("val")):
        raise UserError(_NO_VALIDATION)


def select(
    settings: Classify,
    classes: list[str],
    prepared: Manifest,
    samples: Manifest | None,
    ranks: Ranks | None = None,
) -> Examples:
    """Choose the images of a scenario; collective unless ``ranks`` is None.

    Args:
        settings: Says which.
        classes: Label names, in order.
        prepared: The real, prepared data set.
        samples: The synthetic one; None where the scenario is ``real``.
        ranks: Who share the reading of files; None: this process reads all of them.

    Raises:
        UserError: Naming everything that forbids training: no validation case, no labelled case, a
            class that is absent, labels that are no classes, counterparts of held-out patients.
    """
    foreign = [path for each in (prepared, samples) if each for path in unmarked_images(each)]
    picker = _Picker(classes, settings, shared_hashes(foreign, ranks))
    real = picker.pick("real, train", prepared, prepared.split("train"), _clinical)
    val = picker.pick("real, val", prepared, prepared.split("val"), _clinical)
    test = picker.pick("real, test", prepared, prepared.split("test"), _clinical)
    made: dict[str, Example] = {}
    held_out = 0
    if samples is not None:
        label = _clinical if settings.label == "clinical" else _predicted
        # Of counterparts of several splits, those of training cases are meant; where there are none
        # of these, that is said below.
        meant = samples.split("train") or samples.cases
        held_out = len(samples) - len(meant)
        made = picker.pick("synthetic", samples, meant, label)
        picker.problems += leaks(prepared, [example.case for example in made.values()])
        picker.problems += _misfits(real, made, settings)
    found = Examples(_phases(settings, real, made), val, test, picker.left_out, held_out)
    problems = [*picker.problems, *_empty(found, settings)]
    if problems:
        raise UserError("\n".join(problems))
    _one_class(found, classes, settings)
    return found


def _clinical(case: Case) -> Any:  # noqa: ANN401 - as the manifest has it
    return case.label


def _predicted(case: Case) -> Any:  # noqa: ANN401 - as the manifest has it
    return case.extra.get("predicted_label")


class _Picker:
    """Turns labelled cases into examples; counts the others and gathers what is wrong."""

    def __init__(self, classes: list[str], settings: Classify, hashes: Mapping[Path, str]) -> None:
        self.classes = classes
        self.class_of = settings.class_of
        self.hashes = hashes
        self.left_out: dict[str, int] = {}
        self.problems: list[str] = []

    def pick(
        self,
        where: str,
        manifest: Manifest,
        cases: Iterable[Case],
        label_of: Callable[[Case], Any],
    ) -> dict[str, Example]:
        found: dict[str, Example] = {}
        unknown: dict[str, list[str]] = {}
        for case in cases:
            label = self.class_of(label_of(case))
            if label is None:
                self.left_out[where] = self.left_out.get(where, 0) + 1
            elif label not in self.classes:
                unknown.setdefault(str(label), []).append(case.id)
            else:
                identity = identity_of(manifest, case, self.hashes)
                found[case.id] = Example(case, manifest, self.classes.index(label), identity)
        for label, ids in unknown.items():
            self.problems.append(
                f"{where}: label {label!r} of {len(ids)} case(s) ({listed(ids, _SHOWN)}) is not a "
                f"class of the recipe; expected: {', '.join(self.classes)}"
            )
        return found


def _phases(
    settings: Classify, real: dict[str, Example], made: dict[str, Example]
) -> list[tuple[str, dict[str, Example]]]:
    match settings.training_set:
        case "real":
            return [("", real)]
        case "synthetic":
            return [("", made)]
        case "both":
            return [("", real | made)]
        case "synthetic_then_real":
            return [("pretrain", made), ("", real)]


def _misfits(
    real: Mapping[str, Example], made: Mapping[str, Example], settings: Classify
) -> Iterator[str]:
    """Say why synthetic images could be told from real ones by other things than what they show."""
    if both := sorted(set(real) & set(made)):
        yield f"{len(both)} case id(s) are real and synthetic: {listed(both, _SHOWN)}"
    if settings.label == "predicted" and not made:
        yield (
            "no synthetic case has a predicted label: the model has no class head; "
            "next: --set classify.label=clinical, or samples of another recipe"
        )
    elsewhere = [i for i, e in made.items() if e.case.extra.get("space") == "source"]
    if elsewhere:
        yield (
            f"{len(elsewhere)} synthetic cases lie on their scans' grids, real ones on the "
            "prepared grid; next: voxella sample RECIPE --set sample.space=prepared"
        )


def _empty(found: Examples, settings: Classify) -> Iterator[str]:
    for name, examples in found.phases:
        if not examples:
            which = f"{settings.training_set}, {name}" if name else settings.training_set
            yield f"no labelled training case ({which})"
    if not found.val:
        yield _NO_VALIDATION


def _one_class(found: Examples, classes: list[str], settings: Classify) -> None:
    for name, examples in found.phases:
        there = {example.target for example in examples.values()}
        absent = [label for index, label in enumerate(classes) if index not in there]
        if not absent:
            continue
        where = f"the training set{f' of {name}' if name else ''} ({settings.training_set})"
        problem = f"{where} has {len(examples)} case(s), none of class {', '.join(absent)}"
        if settings.on_one_class == "stop":
            raise UserError(
                f"{problem}: nothing can be learnt from it",
                remedy="add such cases; for synthetic ones, sample more (--set sample.count=null)",
            )
        print_line(f"warning: {problem}")
