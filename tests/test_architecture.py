"""The arrows of the tree: imports point down the layers, in no circle, never to a plugin."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"

# From the top to the bottom: a module imports its own layer and those below it.
LAYERS = (
    "cli",
    "view",
    "report",
    "conversion",
    "forecast",
    "study",
    "pipeline",
    "readers",
    "evaluation",
    "classification",
    "sampling",
    "preparation",
    "check",
    "testing",
    "ldm",
    "cache",
    "autoencoder",
    "engine",
    "data",
    "imaging",
    "texts",
    "observers",
    "workspace",
    "recipe",
    "metrics",
    "plugins",
    "diffusion",
)
# Modules beside the folders: what every layer may use, itself in two floors.
NOUNS = ("case", "case_fields", "conditioning", "detection", "weights")
WORDS = (
    *("errors", "files", "hashing", "limits", "machine", "old_names", "philox", "plain_json"),
    "process",
    *("progress", "provenance", "ranks", "stopping", "terminal", "wording"),
)
# The package's own door and `python -m voxella` stand above everything.
DOORS = ("", "__main__")
# In one folder more than these cannot be kept in mind.
MOST_MODULES = 22

# Who may take a whole recipe, by folder: the entry of a stage, what makes one small settings object
# of it, what builds the whole model or writes the whole recipe, and the observers' contract. All
# else takes the blocks that it needs (`recipe.sample`).
WHOLE_RECIPE = {
    "autoencoder": (
        *("check.check_autoencoder", "train.train_autoencoder", "train._training"),
        "load.AutoencoderPlan.of",
    ),
    "cache": ("stage.encode",),
    "check": ("stage.check", "training.check_model"),
    "check.reports": ("findings.untrainable",),
    "classification": ("stage.classify", "stage.check_classify", "summary.write_scenario"),
    "evaluation": (
        *("stage.evaluate", "stage._data_sets", "networks.check_evaluation", "plan.make_plan"),
        "compared_split.SetSettings.of",
    ),
    "conversion": ("convert.convert",),
    "forecast": ("flops.count_model",),
    "ldm": (
        *(
            "train.train",
            "train._inputs",
            "build.build_model",
            "export.observe_results",
        ),
        *("batch_settings.BatchSettings.of", "generate.GenerationSettings.of"),
    ),
    "observers": (
        "dispatch.ObserverSet.run_start",
        "specs.ObserverSpec.voxella_run_start",
        "tensorboard.TensorBoardObserver.voxella_run_start",
        "mlflow.MlflowObserver.voxella_run_start",
        "settings.settings_told",
    ),
    "pipeline": ("run.run_stages",),
    "preparation": ("stage.prepare",),
    "recipe": ("diff.flatten", "diff.difference", "load.dump_recipe", "load.cross_check"),
    "sampling": (
        *("stage.sample", "stage._sample_one", "stage.variants"),
        "prompt_values.PromptRules.of",
    ),
}

Tree = Mapping[str, str]  # module -> its source


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_tree(root: Path) -> dict[str, str]:
    return {module_name(path, root): path.read_text() for path in sorted(root.rglob("*.py"))}


@pytest.fixture(scope="module")
def core() -> dict[str, str]:
    return read_tree(CORE)


@pytest.fixture(scope="module")
def everything(core: dict[str, str]) -> dict[str, str]:
    plugins = [folder for folder in (ROOT / "plugins").iterdir() if folder.is_dir()]
    return core | {name: text for folder in plugins for name, text in read_tree(folder).items()}


parsed = cache(ast.parse)


def imports(text: str, known: Tree) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import, those in functions and for type checkers, too."""
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                if (node.module, alias.name) == ("voxella", "__version__"):
                    continue  # a word, behind which nothing is imported
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in known else str(node.module)


def floor(module: str) -> int:
    """Return how far down a module of core stands; 0 is the top."""
    part = module.partition(".")[2].partition(".")[0]
    order = (*((name,) for name in LAYERS), NOUNS, WORDS)
    if part in DOORS:
        return -1
    return next(number for number, names in enumerate(order) if part in names)


def upward(tree: Tree) -> list[str]:
    return [
        f"{module}:{line} imports {target}"
        for module, text in tree.items()
        for line, target in imports(text, tree)
        if target.partition(".")[0] == "voxella" and floor(target) < floor(module)
    ]


def circles(tree: Tree) -> list[list[str]]:
    """Return the circles: what is left when modules that import nothing left are taken away."""
    left = {
        module: {target for _, target in imports(text, tree) if target in tree} - {module}
        for module, text in tree.items()
    }
    while free := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in free:
            del left[module]
    while free := [m for m in left if not any(m in left[other] for other in left)]:
        for module in free:
            del left[module]
    return [sorted(left)] if left else []


def strangers(tree: Tree) -> list[str]:
    """Return what core imports of plugins."""
    return [
        f"{module}:{line} imports {target}"
        for module, text in tree.items()
        for line, target in imports(text, tree)
        if target.startswith("voxella_")
    ]


def takers(tree: Tree) -> set[str]:
    """Return the functions with a parameter that is a whole recipe, as ``module.Class.name``."""
    return {name for module, text in tree.items() for name in _takers(parsed(text), module)}


def _takers(node: ast.AST, place: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        name = place
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{place}.{child.name}"
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            given = child.args
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            if any(_is_recipe(argument) for argument in every if argument is not None):
                yield name
        yield from _takers(child, name)


def _is_recipe(argument: ast.arg) -> bool:
    """Return whether an argument is a recipe by its type, or is called one and may be anything."""
    if argument.annotation is None:
        return argument.arg == "recipe"
    words = set(re.findall(r"\w+", ast.unparse(argument.annotation)))
    return "Recipe" in words or (argument.arg == "recipe" and "Any" in words)


def test_every_module_stands_in_a_layer(core: dict[str, str]) -> None:
    assert len({*LAYERS, *NOUNS, *WORDS}) == len(LAYERS) + len(NOUNS) + len(WORDS)
    there = {module.partition(".")[2].partition(".")[0] for module in core}
    assert there - set(DOORS) == {*LAYERS, *NOUNS, *WORDS}


def test_imports_point_down(core: dict[str, str]) -> None:
    assert upward(core) == []


def test_no_circles(everything: dict[str, str]) -> None:
    assert circles(everything) == []


def test_core_imports_no_plugin(core: dict[str, str]) -> None:
    assert strangers(core) == []


def test_no_folder_is_too_full(everything: dict[str, str]) -> None:
    paths = [p for top in ("core", "plugins") for p in (ROOT / top).rglob("*.py")]
    counts = Counter(path.parent for path in paths if path.name != "__init__.py")
    assert {str(p.relative_to(ROOT)): n for p, n in counts.items() if n > MOST_MODULES} == {}


def test_core_knows_no_data_set_by_module(core: dict[str, str]) -> None:
    names = {folder.name for folder in (ROOT / "plugins/importers/voxella_importers").iterdir()}
    sets = {name for name in names if name.isidentifier() and not name.startswith("__")} - {"table"}
    assert {"phantom", "ccella", "picai"} <= sets
    assert [module for module in core if sets - {"dicom"} & set(module.split("."))] == []


def test_only_these_take_a_whole_recipe(everything: dict[str, str]) -> None:
    may = {f"voxella.{folder}.{name}" for folder, names in WHOLE_RECIPE.items() for name in names}
    assert takers(everything) == may
    assert len(may) < 40


@pytest.mark.parametrize(
    "arguments",
    [
        "recipe: Recipe",
        "one: Recipe | None = None",
        "*, recipes: list[Recipe]",
        "many: 'dict[str, Recipe]'",
        "one: model.Recipe",
        "recipe: Any",
        "recipe",
        "*recipes: Recipe",
    ],
)
def test_a_whole_recipe_is_found_wherever_it_stands(arguments: str) -> None:
    text = f"class A:\n    def of(self) -> None:\n        def inner({arguments}) -> None: ...\n"
    assert takers({"m": text}) == {"m.A.of.inner"}
    assert takers({"m": "def f(recipe: str, block: Sample) -> Recipe: ..."}) == set()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("voxella.engine.train", "from voxella.ldm.module import Batch"),
        ("voxella.engine.train", "import voxella.cli"),
        ("voxella.files", "def f() -> None:\n    from voxella.case import Case"),
        ("voxella.metrics.estimate", "if TYPE_CHECKING:\n    from voxella import recipe"),
    ],
)
def test_an_upward_import_is_found(core: dict[str, str], module: str, line: str) -> None:
    assert upward(core | {module: f"{core[module]}\n{line}\n"}) != []


def test_a_circle_and_a_plugin_are_found(everything: dict[str, str]) -> None:
    text = everything["voxella.errors"]
    users = [m for m, source in everything.items() if "import UserError" in source]
    assert "voxella.files" in users
    ring = circles(everything | {"voxella.errors": f"{text}\nfrom voxella.files import remove\n"})
    assert ring
    assert {"voxella.errors", "voxella.files"} <= set(ring[0])
    assert strangers({"voxella.cli": "def f():\n    import voxella_importers.phantom\n"}) != []
