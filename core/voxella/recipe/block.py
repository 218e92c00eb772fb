"""What every block of a recipe is, names in it, and the one block that is open: a component."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from voxella.case.texts import TEXT_NAME
from voxella.wording import quoted, why_no_code

__all__ = ["Block", "FolderName", "Label", "PartOfName", "TextName"]

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
    )
