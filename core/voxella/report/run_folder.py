"""A run folder, as the report reads it: the recipe, and whatever the stages have left."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from voxella.case import MANIFEST, Manifest, manifest_file
from voxella.data.phantoms import is_of_phantoms
from voxella.data.pseudonyms import Pseudonyms, read_synthetic
from voxella.errors import UserError
from voxella.hashing import sha256_bytes
from voxella.plain_json import json_or_none
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.texts.encodings import decode
from voxella.workspace.folders import Folders
from voxella.workspace.record import RECORDS

__all__ = ["RECIPE", "RunFolder"]

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class RunFolder:
    """One run.

    Attributes:
        recipe: Resolved, as the run has kept it.
        folders: Where things are.
        kept: The recipe's file.
        data_set: Which data set of a sweep is looked at; None: the first.
    """

    recipe: Recipe
    folders: Folders
    kept: Path
    data_set: str | None = None

    @classmethod
    def open(cls, run: Path) -> RunFolder:
        """Read the recipe of a run.

        Raises:
            UserError: The folder is no run, or its recipe cannot be read.
        """
        run = Path(run).absolute()
        # A run that only classifies has no model, and keeps its recipe with the classifier.
        found = [run / RECIPE, *sorted(run.glob(f"classify/*/{RECIPE}"))]
        kept = next((path for path in found if path.is_file()), None)
        if kept is None:
            raise UserError(
                f"{run} is no run that has been trained: it has no {RECIPE}",
                remedy=f"voxella train RECIPE --out {shlex.quote(str(run))}",
            )
        recipe = load_recipe(kept)
        return cls(recipe, Folders.of(run, recipe.workspace, recipe.data.dataset), kept)

    @property
    def name(self) -> str:
        """Return the folder's name; its path is nobody's business."""
        return self.folders.run.name

    def command(self, verb: str) -> str:
        """Return the command that runs a verb on this run, seen from the folder it lies in."""
        kept = self.kept.relative_to(self.folders.run).as_posix()
        recipe = shlex.quote(f"{self.name}/{kept}")
        return f"voxella {verb} {recipe} --out {shlex.quote(self.name)}"

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """Return the stages' records, by the stage's name, in the order of the stages."""
        f = self.folders
        places = [f.dataset, f.prepared, f.autoencoder, f.latents, f.text, f.run / "train"]
        places += [self.samples, self.evaluation, *sorted((f.run / "classify").glob("*/seed-*"))]
        found = [RECORDS.read(place / "stage.json") for place in places]
        return {str(record.get("stage")): record for record in found if record is not None}

    @property
    def is_phantom(self) -> bool:
        """Return whether the data are procedural ones."""
        return is_of_phantoms(self.recipe.data, self.folders.dataset)

    @cached_property
    def data_sets(self) -> list[str]:
        """Return the folders' names of all synthetic data sets; "" is the one without a sweep."""
        f = self.folders
        found = {path.parent.name for path in f.samples.glob(f"*/{MANIFEST}")}
        found |= {path.parent.name for path in f.evaluation.glob("*/metrics.json")}
        alone = [""] if (f.samples / MANIFEST).is_file() else []
        return alone + sorted(found, key=_by_numbers)

    @cached_property
    def samples(self) -> Path:
        """Return the synthetic data set that is looked at."""
        first = (self.data_sets or [""])[0]
        return self.folders.samples / (first if self.data_set is None else self.data_set)

    @property
    def evaluation(self) -> Path:
        """Return what was measured of that data set."""
        return self.folders.evaluation / self.samples.relative_to(self.folders.samples)

    @cached_property
    def synthetic(self) -> Manifest | None:
        """Return the synthetic cases under their sources' names, or None."""
        if not (self.samples / MANIFEST).is_file():
            return None
        hashes = [sha256_bytes(text) for text in self.prompts.values()]
        return read_synthetic(self.samples, self.prepared or self.dataset or (), hashes)

    @cached_property
    def prompts(self) -> dict[str, bytes]:
        """Return the texts of ``sample.prompts`` by id, as far as the file can be read."""
        path = self.recipe.sample.prompts
        if path is None or not path.is_file():
            return {}
        found = {}
        try:
            text, _ = decode(path.read_bytes())
        except (OSError, ValueError):  # it has changed since sampling has read it
            return {}
        for line in text.split("\n"):
            try:
                prompt = json_or_none(line)
                found[str(prompt["id"])] = str(prompt["report"]).encode()
            except (ValueError, KeyError, TypeError):  # sampling has refused what is no prompt
                continue
        return found

    def shown(self, case: str) -> str:
        """Return what a page calls a real case or its synthetic counterpart: by its pseudonym.

        Where the run has no key, nothing in it was given one, and names are shown as they are.
        """
        return self._names.get(case, case)

    @cached_property
    def _names(self) -> dict[str, str]:
        """Return pseudonyms by the names of cases, and of what was made from them."""
        names = Pseudonyms.beside(self.samples)
        if names is None:
            return {}
        real = {c.id: names.case(c.id) for c in (*(self.prepared or ()), *(self.dataset or ()))}
        made = ((case.id, str(case.extra.get("source_case"))) for case in self.synthetic or ())
        return real | {
            name: real[source] + name.removeprefix(source)
            for name, source in made
            if source in real
        }

    @cached_property
    def prepared(self) -> Manifest | None:
        """Return the real cases on the recipe's grid, or None."""
        return _manifest(self.folders.prepared)

    @cached_property
    def dataset(self) -> Manifest | None:
        """Return the real cases as imported, or None."""
        return _manifest(self.folders.dataset)


def _by_numbers(name: str) -> tuple[list[float], str]:
    """Put steps-5 before steps-20."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", name)], name


def _manifest(folder: Path) -> Manifest | None:
    return Manifest.read(folder) if manifest_file(folder) is not None else None
