"""The plan of a study: which recipe runs when, in which folder, to which stage.

A study compares recipes, so they must differ in what is compared and in nothing else: the same
cases, prepared in the same way, behind the same autoencoder, with the same seed. What all share is
made once, in one workspace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from voxella.errors import UserError
from voxella.recipe.sampling import Sample, Sweep
from voxella.study.agreement import WORKSPACE, require_agreement
from voxella.study.load import Study, StudySet
from voxella.study.recipes import Layers, Loaded, read_recipe
from voxella.study.step import Step
from voxella.study.sweeps import refuse_company, rows_of_sweep
from voxella.study.trainings import refuse_taken, repeated
from voxella.study.workspaces import with_workspaces
from voxella.wording import named_list, quoted

__all__ = ["Plan", "Step", "Table", "make_plan"]


@dataclass(frozen=True)
class Table:
    """One table of the study, its recipes by name."""

    study: Study
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that is going to happen.

    Attributes:
        name: The study's.
        folder: Its folder.
        steps: In the order in which they run.
        tables: What is written at the end.
    """

    name: str
    folder: Path
    steps: tuple[Step, ...]
    tables: tuple[Table, ...]

    def step(self, name: str) -> Step:
        """Return the step of a recipe."""
        return next(step for step in self.steps if step.name == name)

    def trainings(self, row: str, seeds: int | None = None) -> tuple[Step, ...]:
        """Return the trainings of a row, the first ones; None: all that there are."""
        return tuple(step for step in self.steps if step.row == row)[:seeds]


def make_plan(studies: StudySet, out: Path, layers: Layers) -> Plan:
    """Load the recipes of a study and put them in order.

    Args:
        studies: From :func:`voxella.study.load.load_studies`.
        out: The study's folder.
        layers: What the command line lays over every recipe.

    Raises:
        UserError: A recipe cannot be loaded, recipes differ in what a study keeps equal, a claim
            names a recipe that is not there, or a classifier has no volumes to learn from.
    """
    refuse_company(studies)
    out = Path(out).absolute()
    if layers.workspace is None:
        layers = layers.within(out / WORKSPACE)
    bases = {study.samples_from for study in studies.studies} - {None}
    listed = [path for study in studies.studies for path in study.recipes]
    order = list(dict.fromkeys([*(base for base in bases if base is not None), *listed]))
    layers = _with_one_count(_all_loaded(order, layers), layers)
    loaded = _all_loaded(order, layers)
    require_agreement(
        list(loaded.values()), {block for study in studies.studies for block in study.varies}
    )
    loaded = with_workspaces(loaded)
    tables = tuple(_table(study, loaded) for study in studies.studies)
    sweep = studies.studies[0].sweep
    steps: list[Step] = []
    for path in _in_order(studies, loaded):
        only_samples = path in bases and path not in listed
        step = _step(path, loaded, studies, out, only_samples=only_samples)
        base = _learnt_from(path, loaded, studies)
        for one in repeated(step, _seeds(path, studies), base):
            steps += [one] if sweep is None else _swept(one, sweep)
    refuse_taken(steps)
    return Plan(studies.name, out, tuple(steps), tables)


def _all_loaded(paths: list[Path], layers: Layers) -> dict[Path, Loaded]:
    """Load every recipe; what is wrong with several of them is said at once."""
    loaded: dict[Path, Loaded] = {}
    problems: list[str] = []
    for path in paths:
        try:
            loaded[path] = read_recipe(path, layers)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return loaded


def _with_one_count(loaded: dict[Path, Loaded], layers: Layers) -> Layers:
    """Let all recipes sample as many volumes as the one that asks for most.

    Distances shrink with N, so they are compared at equal N; and a profile that is content with a
    few volumes to look at has more of them made where classifiers learn from them.
    """
    counts = {entry.recipe.sample.count for entry in loaded.values()}
    if len(counts) == 1:
        return layers
    most = None if None in counts else max(count for count in counts if count is not None)
    return replace(layers, shared=(f"sample.count={'null' if most is None else most}",))


def _in_order(studies: StudySet, loaded: dict[Path, Loaded]) -> list[Path]:
    """Return the recipes as listed, but a classifier after the volumes that it learns from."""
    wanted = [
        path
        for study in studies.studies
        for path in ([study.samples_from] if study.samples_from else []) + study.recipes
    ]
    return sorted(dict.fromkeys(wanted), key=lambda path: loaded[path].recipe.classify is not None)


def _step(
    path: Path,
    loaded: dict[Path, Loaded],
    studies: StudySet,
    out: Path,
    *,
    only_samples: bool,
) -> Step:
    recipe = loaded[path].recipe
    ends = {study.until for study in studies.studies if path in study.recipes}
    if ends == {"check-autoencoder"}:
        return Step(recipe.name, recipe, path, out / recipe.name, "check-autoencoder")
    if recipe.classify is None:
        learnt_from = any(study.samples_from == path for study in studies.studies)
        split = recipe.evaluate.real_split or recipe.sample.splits[0]
        sample = _sampled(recipe.sample, split if not only_samples else None, learnt_from)
        recipe = recipe.model_copy(update={"sample": sample})
        until = "sample" if only_samples else "evaluate"
        return Step(recipe.name, recipe, path, out / recipe.name, until)
    base = _learnt_from(path, loaded, studies)
    if base is not None:
        samples = out / base.recipe.name / "samples"
        learning = recipe.classify.model_copy(update={"samples": samples})
        recipe = recipe.model_copy(update={"classify": learning})
    return Step(recipe.name, recipe, path, out / recipe.name, "classify")


def _learnt_from(path: Path, loaded: dict[Path, Loaded], studies: StudySet) -> Loaded | None:
    """Return the recipe whose volumes a classifier learns from; None where the study names none."""
    recipe = loaded[path].recipe
    if recipe.classify is None or recipe.classify.training_set == "real":
        return None
    if recipe.classify.samples is not None:
        return None
    bases = {s.samples_from for s in studies.studies if path in s.recipes and s.samples_from}
    if len(bases) != 1:
        raise UserError(
            f"recipe {recipe.name} learns from synthetic volumes, and "
            f"{'two studies name' if bases else 'the study names no'} samples_from",
            expected="one recipe whose volumes the classifiers learn from",
            remedy="add to the study, for example: samples_from: ../ccella.yaml",
        )
    return loaded[bases.pop()]


def _seeds(path: Path, studies: StudySet) -> int:
    """Return how often a recipe is trained: as often as the study that asks for most."""
    using = (s for s in studies.studies if path == s.samples_from or path in s.recipes)
    return max(study.seeds for study in using)


def _swept(step: Step, sweep: Sweep) -> list[Step]:
    """Return a step for each row of a sweep, all of the one run: what it has made is there."""
    if step.until != "evaluate":
        raise UserError(f"recipe {step.name}: a classifier's numbers have no sweep")
    return [
        replace(
            step,
            name=f"{name}{step.suffix}",
            row_name=name,
            recipe=step.recipe.model_copy(update={"sample": sample}),
        )
        for name, sample in rows_of_sweep(sweep, step.recipe.sample)
    ]


def _sampled(sample: Sample, measured: str | None, learnt_from: bool) -> Sample:
    """Return how to sample what the study needs of a recipe and no more.

    Distances are taken on one split, held-out cases where the recipe says so; classifiers learn
    from volumes of training cases. Volumes that nobody looks at would be most of a study's time.
    """
    wanted = [*([measured] if measured else []), *(["train"] if learnt_from else [])]
    return sample.model_copy(update={"split": list(dict.fromkeys(wanted))})


def _table(study: Study, loaded: dict[Path, Loaded]) -> Table:
    recipes = [loaded[path].recipe for path in study.recipes]
    rows = tuple(recipe.name for recipe in recipes)
    if study.sweep is not None:
        rows = tuple(name for name, _ in rows_of_sweep(study.sweep, recipes[0].sample))
    for claim in study.claims:
        unknown = sorted({*claim.lefts, *claim.rights} - {*rows})
        if unknown:
            raise UserError(
                f"study {study.name}: the claim {quoted(claim.text)} names {named_list(unknown)}",
                expected=f"names of its recipes: {', '.join(rows)}",
            )
    return Table(study, rows)
