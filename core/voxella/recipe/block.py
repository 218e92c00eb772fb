"""What every block of a recipe is made of: its strictness, names in it, ranges of its numbers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from voxella.case.texts import TEXT_NAME
from voxella.wording import quoted, why_no_code

__all__ = [
    "Batch",
    "Block",
    "Copies",
    "Count",
    "CountOrNone",
    "FolderName",
    "Label",
    "Pairs",
    "PartOfName",
    "Resamples",
    "ResamplesOrNone",
    "Seed",
    "SolverSteps",
    "TextName",
    "Tokens",
    "Voxels",
    "Width",
]

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+\-]*")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_LONGEST = 64


def _folder(name: str) -> str:
    if not _FOLDER.fullmatch(name) or len(name) > _LONGEST or name != name.rstrip(" ."):
        raise ValueError(
            f"received {quoted(name)}; expected: it names a folder, so letters, digits and _ . + - "
            f"or a blank within, at most {_LONGEST} characters"
        )
    return name


def _part(name: str) -> str:
    if not _PART.fullmatch(name) or len(name) > _LONGEST:
        raise ValueError(
            f"received {quoted(name)}; expected: it is part of files' names, so letters, digits "
            f"and _ . -, at most {_LONGEST} characters"
        )
    return name


def _label(name: str) -> str:
    if (why := why_no_code(name)) is not None:
        raise ValueError(f"a class's name {why}; expected: a short name, as labels in a table")
    return name


def _text_name(name: str) -> str:
    if not TEXT_NAME.fullmatch(name):
        raise ValueError(
            f"received {quoted(name)}; expected: any, or a text's name of letters, digits and _ -"
        )
    return name


# Whole numbers have a largest that anybody means: without an end, a slip of the hand is believed
# until memory or patience is gone. These lie far above any experiment; what a file may ask for is
# in voxella.limits.
# Steps, epochs, cases: 30 years at one a second.
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
# What torch and numpy take, signed or not.
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
# Along one axis.
Voxels = Annotated[int, Field(ge=1, le=16_384)]
# Channels, features, tokens' width.
Width = Annotated[int, Field(ge=1, le=65_536)]
Tokens = Annotated[int, Field(ge=1, le=65_536)]
Batch = Annotated[int, Field(ge=1, le=65_536)]
# Tables of a schedule are held in memory.
SolverSteps = Annotated[int, Field(ge=1, le=100_000)]
Copies = Annotated[int, Field(ge=1, le=10_000)]
Resamples = Annotated[int, Field(ge=1, le=1_000_000)]
ResamplesOrNone = Annotated[int, Field(ge=0, le=1_000_000)]
Pairs = Annotated[int, Field(ge=1, le=1_000_000)]

# It names a folder, inside another and nowhere else.
FolderName = Annotated[str, AfterValidator(_folder)]
# It stands in the names of files, as a sequence's does.
PartOfName = Annotated[str, AfterValidator(_part)]
# A class: written into manifests and tables.
Label = Annotated[str, AfterValidator(_label)]


# One text of a case.
TextName = Annotated[str, AfterValidator(_text_name)]


class Block(BaseModel):
    """A block of a recipe: an unknown key is an error, and what is read once never changes."""

    # NaN and infinity pass every comparison that they should not, and no setting means them.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        hide_input_in_errors=True,
        # A key that Python keeps for itself (from) has another name in the code alone.
        serialize_by_alias=True,
    )
