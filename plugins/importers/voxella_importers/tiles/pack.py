"""Copies of tiles that are files: the bytes of each slide's go into one shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from voxella.case import Case
from voxella.data.drafts import CaseDraft
from voxella.data.tile_store import Tile, TileStore
from voxella.errors import UserError
from voxella.imaging.headers import is_raster
from voxella.imaging.raster import read_raster_header
from voxella_importers.tile_cases import IMAGE

__all__ = ["pack"]

_BITS = 8


def pack(drafts: Sequence[CaseDraft], out: Path) -> None:
    """Store the drafts' tiles under ``out`` by group, and let the drafts name them there.

    Raises:
        UserError: Files that cannot be rows of a shard: all of them at once.
    """
    problems = [f"{d.id}: {why}" for d in drafts if (why := _problem(d.images[IMAGE])) is not None]
    if problems:
        raise UserError(
            "\n".join([f"importer tiles: {len(problems)} files cannot be packed", *problems]),
            remedy="leave copy off: tiles stay where they are",
        )
    groups: dict[str, list[CaseDraft]] = {}
    for draft in drafts:
        groups.setdefault(draft.group, []).append(draft)
    store = TileStore(out, ())
    for number, (group, members) in enumerate(groups.items()):
        name = _name(group, number)
        store.write(name, (_tile(draft) for draft in members), "")
        for draft, row in zip(members, store.rows(name), strict=True):
            draft.images = {IMAGE: out / row.image}


def _problem(path: Path) -> str | None:
    if not is_raster(path):
        return f"{path.name} is no PNG, JPEG or TIFF"
    header = read_raster_header(path)
    if header.colour and header.bits > _BITS:
        return f"{path.name} has {header.bits} bits a colour; a shard's tiles have {_BITS}"
    return None


def _tile(draft: CaseDraft) -> Tile:
    path = draft.images[IMAGE]
    return Tile(draft.id, path.read_bytes(), path.suffix.lower(), {})


def _name(group: str, number: int) -> str:
    """Return what a slide's shard is called; of a group that is no name its number."""
    try:
        Case(id=group, group="", images={})
    except ValidationError:
        return f"_{number:05d}"  # no id begins so
    return group
