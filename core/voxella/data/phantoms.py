"""Whether data are procedural phantoms: no number of them stands beside one of patients.

The importer says so of a data set, and each labelled case of itself; either is enough, so that
phantoms which went through another importer are known, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from voxella.case import Case, Manifest, manifest_file
from voxella.recipe.inputs import Data
from voxella.workspace.state import RECORD, StateFile

__all__ = ["MEASURED_ON_PHANTOMS", "are_phantoms", "is_of_phantoms"]

MEASURED_ON_PHANTOMS = "measured on phantoms, the paper's on patients"
# How importers of phantoms are named (``phantom``, ``phantom_he``); the same is the source of their
# labels.
_NAMES = re.compile(r"phantom(_\w+)?")
_FIRST = 1000


class _Imported(TypedDict):
    inputs: dict[str, Any]


_IMPORTS: StateFile[dict[str, Any]] = StateFile(_Imported, "import the data set again")


def are_phantoms(cases: Iterable[Case]) -> bool:
    """Return whether any of the cases is a phantom, as its label's source says."""
    return any(_is_phantom(case.label_source) for case in cases)


def is_of_phantoms(data: Data, dataset: Path | None) -> bool:
    """Return whether an experiment's data are phantoms, before or after they were imported.

    Args:
        data: The recipe's block; its importer counts where nothing was imported yet.
        dataset: The folder of the data set, whether or not it is there; None: not known yet.

    Raises:
        DamagedError: The record of the import is not as it was written.
    """
    record = None if dataset is None else _IMPORTS.read(dataset / RECORD)
    if record is not None:
        importer = record["inputs"].get("importer") or {}
        name = importer.get("name")
    else:
        wanted = data.importer if data.dataset is None else None
        name = None if wanted is None else wanted.name
    if _is_phantom(name):
        return True
    if dataset is None or manifest_file(dataset) is None:
        return False
    # A manifest may have millions of rows: its first tell whose they are.
    return are_phantoms(islice(Manifest.open(dataset), _FIRST))


def _is_phantom(name: str | None) -> bool:
    return name is not None and _NAMES.fullmatch(name) is not None
