"""Profiles: overlays that fit an experiment to a machine or a purpose, found by name or path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from voxella.errors import UserError
from voxella.quoting import named, shown_path
from voxella.recipe.layers import Document
from voxella.recipe.paths import absolute
from voxella.recipe.shape import nearest
from voxella.recipe.yaml_lines import shown

__all__ = ["find_profile"]

FOLDER = "profiles"


def find_profile(profile: str, chain: Sequence[Document]) -> Path:
    """Return the file of a profile.

    Args:
        profile: The PATH of a file (it ends in .yaml or .yml, or holds a separator), relative to
            the current folder; or a NAME, which is looked for as ``profiles/NAME.yaml`` beside the
            recipe, one folder above it, and in the same way beside the files it extends, so that a
            recipe kept elsewhere finds the profiles of the recipe it builds on.
        chain: The recipe's files, bases first.

    Raises:
        UserError: When there is none, with the names that were found.
    """
    if profile.endswith((".yaml", ".yml")) or os.sep in profile:
        path = absolute(profile, Path.cwd())
        if not path.is_file():
            raise UserError(f"--profile {shown_path(profile)}: there is no file {shown(path)}")
        return path
    folders = _folders(chain)
    for folder in folders:
        if (path := folder / f"{profile}.yaml").is_file():
            return path
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    close = nearest(profile, known)
    places = ", ".join(shown(folder) for folder in folders)
    raise UserError(
        f"--profile {named(profile)}: no {named(profile)}.yaml in {places}",
        legal=f"{', '.join(known) or 'no named profile'}, or the path of a .yaml file",
        remedy=None if close is None else f"--profile {close}",
    )


def _folders(chain: Sequence[Document]) -> list[Path]:
    homes = [document.path.parent for document in reversed(chain)]
    return list(dict.fromkeys(place / FOLDER for home in homes for place in (home, home.parent)))
