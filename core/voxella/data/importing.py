"""The import stage: the recipe's importer, or any importer from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.hashing import sha256_json, stat_marks
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.recipe.bind import bind
from voxella.recipe.inputs import Data
from voxella.recipe.overrides import apply, parse_overrides
from voxella.recipe.problems import impossible_numbers, raise_problems
from voxella.recipe.yaml_lines import Node
from voxella.wording import listed
from voxella.workspace.folders import Folders
from voxella.workspace.lock import holding
from voxella.workspace.record import RECORDS, StageRecord

__all__ = ["import_dataset", "import_for", "importer_component"]

_SLOT = ("data", "importer")
# An importer's argument of this name says how it works, never what it makes.
_PROCESSES = "workers"


def import_dataset(importer: Component, out: Path) -> Manifest:
    """Run an importer into ``out``; a data set already made by the same block is left as it is.

    Raises:
        UserError: The importer refuses its source, or ``out`` holds another data set.
    """
    # What it reads, by size and time: a table that changed is another source.
    marks = {k: stat_marks(v) for k, v in importer.arguments.items() if isinstance(v, Path)}
    block = importer.model_dump(mode="json")
    block.pop(_PROCESSES, None)
    inputs = {"importer": block, "sources_sha256": sha256_json(marks)}
    record = StageRecord(out, "import", inputs)
    # Damaged, it is refused: whose data set this is would be forgotten, and another put over it.
    RECORDS.read(record.path)
    if record.is_current():
        return Manifest.read(out)
    with holding(out):
        return _imported(importer, out, record)


def _imported(importer: Component, out: Path, record: StageRecord) -> Manifest:
    if record.previous() is not None:
        raise UserError(
            f"{out} holds a data set made by other importer settings, or from files that have "
            "changed since; it is not overwritten",
            remedy=f"remove {out}, or give another --out",
        )
    manifest: Manifest = registry.build("importers", importer)(out)
    splits, reports = dict.fromkeys(("train", "val", "test"), 0), 0
    for case in manifest:  # once: of millions of tiles no list is made
        splits[case.split] += 1
        reports += bool(case.texts)
    record.complete(cases=len(manifest), reports=reports, splits=splits)
    return manifest


def import_for(data: Data, folders: Folders, name: str) -> Path:
    """Return a recipe's data set folder, importing it when the recipe names an importer.

    Args:
        data: Names a data set or an importer, and the classes.
        folders: Of the run.
        name: The recipe's.

    Raises:
        UserError: The recipe names neither a data set nor an importer, or the data set has labels
            that are not the recipe's classes.
    """
    if data.dataset is None:
        if data.importer is None:
            raise UserError(
                f"recipe {name} names neither data.dataset nor data.importer",
                remedy="--dataset FOLDER, or --set 'data.importer={name: phantom}'",
            )
        import_dataset(data.importer, folders.dataset)
    _check_labels(data.classes, Manifest.read(folders.dataset))
    return folders.dataset


def _check_labels(classes: list[str], manifest: Manifest) -> None:
    """Refuse labels that no class vector can hold now, not after hours of encoding."""
    unknown = [c for c in manifest if c.label is not None and c.label not in classes]
    if unknown:
        labels = sorted({str(case.label) for case in unknown})
        raise UserError(
            f"{len(unknown)} cases of {manifest.folder} have labels that are not classes of the "
            f"recipe: {', '.join(labels)} (cases {listed(case.id for case in unknown)})",
            expected=", ".join(classes),
            remedy=f"--set 'data.classes=[{', '.join(labels)}, ...]', or import again with these "
            "names",
        )


def importer_component(name: str, source: str | None, settings: Sequence[str]) -> Component:
    """Return the block of ``voxella import NAME SOURCE --set KEY=VALUE ...``.

    Args:
        name: The importer's name.
        source: Its ``source`` argument, relative to the current directory; None: not given.
        settings: Further arguments, ``KEY=VALUE``.

    Raises:
        UserError: The importer is unknown, or an argument does not fit it; lists every problem.
    """
    given = [f"name={json.dumps(name)}"]
    if source is not None:
        given.append(f"source={json.dumps(source)}")
    words = [f"{'.'.join(_SLOT)}.{word}" for word in (*given, *settings)]
    overrides = parse_overrides(words)
    tree = apply(Node({}, overrides[0].value.mark), overrides)
    raise_problems(impossible_numbers(tree), f"voxella import {name}")
    bound = bind(tree)
    raise_problems(bound.problems, f"voxella import {name}")
    return Component(name=name, **bound.arguments[_SLOT])
