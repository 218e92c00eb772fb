"""Layers: a file with all it extends, merged over what came before.

Merging is the same everywhere: mappings merge deeply; lists and scalars replace; ``null`` takes
the place of an inherited value like any other scalar, which switches an optional block off. A
component whose ``name`` changes replaces the inherited block, because the arguments of one builder
mean nothing to another. A block without ``name`` changes arguments and keeps the component.

Paths in a recipe: relative to the file that wrote them, absolute once it is resolved.

Profiles: overlays that fit an experiment to a machine or a purpose, found by name or path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.recipe.shape import KeyPath, in_new_names, kind_at, nearest
from voxella.recipe.yaml_lines import Mark, Node, plain, read_yaml, shown
from voxella.wording import named, quoted, shown_path

__all__ = ["Document", "absolute", "anchored", "find_profile", "merge", "read_chain", "stack"]

FILE_KEYS = ("extends", "when")

FOLDER = "profiles"


@dataclass(frozen=True)
class Document:
    """One file: its plain keys, and the two keys that belong to a file and not to a recipe."""

    path: Path
    body: Node
    extends: Node | None
    when: Node | None


def read_document(path: Path) -> Document:
    """Read one file and take ``extends`` and ``when`` out of it.

    Raises:
        UserError: When the file cannot be read or is not a mapping.
    """
    root = read_yaml(path)
    value = {} if root.value is None else root.value
    if not isinstance(value, dict):
        raise UserError(
            f"{root.mark}: a recipe is a mapping of keys, received {type(value).__name__}"
        )
    body = {key: child for key, child in value.items() if key not in FILE_KEYS}
    keys = in_new_names(Node(body, root.mark))
    return Document(path, keys, value.get("extends"), value.get("when"))


def read_chain(path: Path, asked: Mark | None = None) -> list[Document]:
    """Read a file and everything it extends, bases first, the file itself last.

    A file that is reached twice (two bases with one common base) is merged once, where it is
    reached first, so that its values never undo a change made after it.

    Args:
        path: Absolute path.
        asked: Where it was asked for, for the message when it does not exist.

    Raises:
        UserError: For a missing file or a cycle, which is shown.
    """
    chain: list[Document] = []
    _collect(path, asked, (), chain)
    return chain


def _collect(
    path: Path, asked: Mark | None, above: tuple[Path, ...], chain: list[Document]
) -> None:
    if path in above:
        ring = [*above[above.index(path) :], path]
        raise UserError(
            f"{asked}: extends runs in a circle: {' -> '.join(shown(step) for step in ring)}",
            remedy="take one of these extends out",
        )
    if any(document.path == path for document in chain):
        return
    if not path.is_file():
        raise _missing(path, asked)
    document = read_document(path)
    for entry in _entries(document):
        target = absolute(str(entry.value), path.parent)
        _collect(target, entry.mark, (*above, path), chain)
    chain.append(document)


def _entries(document: Document) -> list[Node]:
    """Return the entries of ``extends``, which may be one path or a list of paths."""
    if document.extends is None:
        return []
    value = document.extends.value
    entries = value if isinstance(value, list) else [document.extends]
    for entry in entries:
        if not isinstance(entry.value, str):
            raise UserError(
                f"{entry.mark}: extends: received {quoted(plain(entry))}",
                expected="a path, or a list of paths",
            )
    return entries


def _missing(path: Path, asked: Mark | None) -> UserError:
    where = "" if asked is None else f"{asked}: extends: "
    stems = sorted(file.stem for file in path.parent.glob("*.yaml"))
    close = nearest(path.stem, stems)
    remedy = None if close is None else f"did you mean {shown(path.parent / close)}.yaml?"
    return UserError(f"{where}there is no file {shown(path)}", remedy=remedy)


def merge(base: Node | None, over: Node, path: KeyPath = ()) -> Node:
    """Lay ``over`` on ``base``; see the module's docstring for the rules."""
    if base is None or not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    if kind_at(path) is not None and _renamed(base, over):
        return over
    merged = dict(base.value)
    for key, child in over.value.items():
        merged[key] = merge(merged.get(key), child, (*path, key))
    return Node(merged, over.mark)


def _renamed(base: Node, over: Node) -> bool:
    old, new = base.get("name"), over.get("name")
    return new is not None and (old is None or old.value != new.value)


def stack(base: Node | None, documents: Iterable[Document]) -> Node:
    """Lay the plain keys of ``documents`` on ``base``, in order."""
    tree = base
    for document in documents:
        tree = merge(tree, document.body)
    assert tree is not None, "a chain holds at least one document"
    return tree


def absolute(path: str | Path, folder: Path) -> Path:
    """Return ``path`` absolute, ``~`` expanded, ``..`` folded, links left as they are."""
    return Path(os.path.abspath(folder / os.path.expanduser(path)))


def anchored(value: Any, node: Node | None) -> Any:  # noqa: ANN401 - any value of a recipe
    """Return ``value`` with every Path in it made absolute.

    Args:
        value: A validated value; containers are searched.
        node: The same value as written; its marks name the folder. None leaves the value alone:
            it is a default, which no file wrote.
    """
    if node is None:
        return value
    if isinstance(value, Path):
        return absolute(value, node.mark.folder)
    if isinstance(value, dict):
        return {key: anchored(item, node.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [anchored(item, node.get(index)) for index, item in enumerate(value)]
        return type(value)(items)
    return value


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
        expected=f"{', '.join(known) or 'no named profile'}, or the path of a .yaml file",
        remedy=None if close is None else f"--profile {close}",
    )


def _folders(chain: Sequence[Document]) -> list[Path]:
    homes = [document.path.parent for document in reversed(chain)]
    return list(dict.fromkeys(place / FOLDER for home in homes for place in (home, home.parent)))
