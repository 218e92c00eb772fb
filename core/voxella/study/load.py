"""A study from its file, strict as a recipe is: every mistake at once, with file and line.

The study as data: which recipes, which columns, which claims.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from voxella.errors import UserError
from voxella.metrics.declared.lookup import declared_numbers
from voxella.recipe.block import Block, FolderName
from voxella.recipe.layers import absolute
from voxella.recipe.sampling import Sweep
from voxella.recipe.shape import nearest
from voxella.recipe.yaml_lines import Node, locate, plain, read_yaml, shown
from voxella.wording import named, quoted

__all__ = ["Claim", "Study", "StudySet", "load_studies"]

_B = TypeVar("_B", bound=Block)


def load_studies(path: str | Path) -> StudySet:
    """Load a study, or a collection of them.

    Raises:
        UserError: One, that lists what is wrong with a file, each mistake with its line.
    """
    source = absolute(path, Path.cwd())
    tree = _mapping(source)
    if tree.get("studies") is None:
        study = _study(source, tree)
        return StudySet(study.name, study.description, source, (study,))
    collection = _validated(Collection, tree, source)
    files = [absolute(entry, source.parent) for entry in collection.studies]
    studies = tuple(_study(file, _mapping(file)) for file in files)
    _refuse_twice([study.name for study in studies], source)
    return StudySet(collection.name, collection.description, source, studies)


def _mapping(source: Path) -> Node:
    tree = read_yaml(source)
    if not isinstance(tree.value, dict):
        raise UserError(
            f"{tree.mark}: a study is a mapping of keys, received {type(tree.value).__name__}",
            expected=f"{', '.join(Study.model_fields)}; or {', '.join(Collection.model_fields)}",
        )
    return tree


def _study(source: Path, tree: Node) -> Study:
    study = _validated(Study, tree, source)
    base = study.samples_from
    return study.model_copy(
        update={
            "recipes": [absolute(entry, source.parent) for entry in study.recipes],
            "samples_from": None if base is None else absolute(base, source.parent),
        }
    )


def _refuse_twice(names: list[str], source: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{shown(source)}: two studies are called {', '.join(twice)}")


def _validated(kind: type[_B], tree: Node, source: Path) -> _B:
    try:
        return kind.model_validate_json(json.dumps(plain(tree)), strict=True)
    except ValidationError as error:
        lines = [_told(kind, tree, item) for item in error.errors(include_url=False)]
    lines = list(dict.fromkeys(lines))
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    raise UserError("\n".join([f"{shown(source)}: {count}", *(f"  {line}" for line in lines)]))


def _told(kind: type[Block], tree: Node, item: Any) -> str:  # noqa: ANN401 - pydantic's own dict
    # A union adds its members' names to the place: keep what the file has.
    written, depth = locate(tree, tuple(item["loc"]))
    missing = item["type"] == "missing"
    place = item["loc"] if missing or item["type"] == "extra_forbidden" else item["loc"][:depth]
    inner: dict[tuple[Any, bool], type[Block]] = {
        ("claims", len(item["loc"]) > 2): Claim,
        ("sweep", len(item["loc"]) > 1): Sweep,
    }
    block = inner.get((item["loc"][:1] and item["loc"][0], True), kind)
    key = str(item["loc"][-1]) if item["loc"] else ""
    if item["type"] == "extra_forbidden":
        close = nearest(key, block.model_fields)
        expected = ", ".join(block.model_fields)
        text = f"unknown key; {f'did you mean {close}?' if close else f'expected: {expected}'}"
    elif missing:
        text = f"missing ({block.model_fields[key].description or block.__doc__})"
    elif item["type"] in ("value_error", "literal_error"):
        text = str(item["msg"]).removeprefix("Value error, ")
        text = (
            text if item["type"] == "value_error" else f"received {quoted(item['input'])}; {text}"
        )
    else:
        text = f"received {quoted(item['input'])}; {item['msg']}"
    key = ".".join(named(str(part), most_words=1) for part in place)
    return f"{written.mark}: {key}: {text}" if key else f"{written.mark}: {text}"


def _known(metric: str) -> str:
    known = declared_numbers()
    if metric not in known:
        close = nearest(metric, known)
        hint = f"did you mean {close}?" if close else f"expected: {', '.join(known)}"
        raise ValueError(f"there is no metric {named(metric)}; {hint}")
    return metric


Metric = Annotated[str, AfterValidator(_known)]


class Claim(Block):
    """A statement that the numbers can bear out or not; lists stand for each of their members."""

    text: str = Field(min_length=1, description="the statement, in the paper's words")
    metric: Metric | list[Metric] = Field(description="what is compared")
    left: str | list[str] = Field(description="names of recipes")
    side: Literal["below", "above"] = Field(description="of left, seen from right")
    right: str | list[str] = Field(description="names of recipes")

    @property
    def metrics(self) -> list[str]:
        """Return the metrics as a list."""
        return [self.metric] if isinstance(self.metric, str) else list(self.metric)

    @property
    def lefts(self) -> list[str]:
        """Return the recipes on the left as a list."""
        return [self.left] if isinstance(self.left, str) else list(self.left)

    @property
    def rights(self) -> list[str]:
        """Return the recipes on the right as a list."""
        return [self.right] if isinstance(self.right, str) else list(self.right)


# What recipes may differ in beside model, training and sampler, where their study says so.
Varied = Literal["data", "prepare", "autoencoder", "autoencoder_training", "latent", "text"]


class Study(Block):
    """One table: every recipe is a row."""

    name: FolderName = Field(description="of the table and of the study's folder")
    description: str = ""
    recipes: list[Path] = Field(min_length=1, description="paths, relative to this file")
    samples_from: Path | None = Field(
        None, description="recipe whose volumes the classifiers are trained on; it runs first"
    )
    varies: list[Varied] = Field(
        default_factory=list, description="blocks that the table compares, and recipes differ in"
    )
    sweep: Sweep | None = Field(
        None, description="of the one recipe: each guidance and number of steps is a row"
    )
    until: Literal["evaluate", "check-autoencoder"] = Field(
        "evaluate", description="check-autoencoder: the table is of first stages alone"
    )
    seeds: int = Field(
        1, ge=1, le=100, description="trainings of each recipe, with seeds of their own"
    )
    columns: list[Metric] = Field(min_length=1, description="metrics")
    claims: list[Claim] = Field(default_factory=list)

    @field_validator("columns", "recipes", "varies")
    @classmethod
    def _distinct(cls, entries: list[Any]) -> list[Any]:
        if len(set(entries)) != len(entries):
            raise ValueError("an entry is duplicated")
        return entries

    @model_validator(mode="after")
    def _sweep_of_one(self) -> Study:
        if self.sweep is not None and len(self.recipes) != 1:
            raise ValueError(f"a sweep is of one recipe; received {len(self.recipes)}")
        return self

    @model_validator(mode="after")
    def _seeds_of_models(self) -> Study:
        if self.seeds > 1 and self.until == "check-autoencoder":
            raise ValueError(
                f"seeds: received {self.seeds}, and first stages are trained once; expected: 1, "
                "with until: check-autoencoder"
            )
        return self


@dataclass(frozen=True)
class StudySet:
    """What one file asks for.

    Attributes:
        name: Of the folder.
        description: In words.
        source: The file.
        studies: One per table; paths in them are absolute.
    """

    name: str
    description: str
    source: Path
    studies: tuple[Study, ...]

    def with_seeds(self, seeds: int) -> StudySet:
        """Return the same with so many trainings of each recipe.

        Raises:
            UserError: There is a study of first stages among them, or the number is not allowed.
        """
        try:
            changed = [
                Study.model_validate({**study.model_dump(), "seeds": seeds})
                for study in self.studies
            ]
        except ValidationError as error:
            told = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
            raise UserError(f"--seeds {seeds}: {told}") from None
        return replace(self, studies=tuple(changed))


class Collection(Block):
    """Several studies in one folder: a recipe that stands in two of them runs once."""

    name: FolderName = Field(description="of the study's folder")
    description: str = ""
    studies: list[Path] = Field(min_length=1, description="paths, relative to this file")
