"""A data set to hand on: images written anew, one table, and their description."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.data.grouping import Problems
from voxella.errors import UserError
from voxella.files import write_json_atomic, write_text_atomic
from voxella.hashing import sha256_file
from voxella.imaging.volume import read_image
from voxella.plugins.contracts import Exported
from voxella_exporters.croissant.facts import describe, responsible
from voxella_exporters.croissant.metadata import About, metadata
from voxella_exporters.croissant.table import File, columns, table
from voxella_exporters.names import exported_names, is_synthetic
from voxella_exporters.selection import find_images, refuse_existing, select
from voxella_exporters.voxels import write_anew

__all__ = ["export_croissant"]

METADATA, TABLE, IMAGES = "croissant.json", "cases.csv", "images"


def export_croissant(
    dataset: Manifest,
    out: Path,
    about: About,
    sequences: Sequence[str] = (),
    *,
    with_text: bool = False,
    prepared: Manifest | None = None,
) -> Exported:
    """Write images, ``cases.csv`` and, last, ``croissant.json``.

    Args:
        dataset: Cases; their masks are images like others.
        out: Folder that is made.
        about: What the description says.
        sequences: Which images; none: all. A case may lack some.
        with_text: Write the texts into the table.
        prepared: The same cases on one grid: their images are taken.

    Raises:
        UserError: ``croissant.json`` is there already, or an image cannot be read: all of these
            cases.
    """
    refuse_existing(out / METADATA)
    cases = list(dataset)
    source = dataset if prepared is None else prepared
    chosen = select(list(source), sequences, ())
    wanted = chosen.sequences if sequences else (*chosen.sequences, *chosen.masks)
    paths = _paths(cases, source, wanted)
    names = exported_names(cases)
    images = {
        case: {
            name: _file(
                write_anew(out / IMAGES / f"{names[case].case}_{name}", read_image(path)), out
            )
            for name, path in own.items()
        }
        for case, own in paths.items()
    }
    shown = cases if with_text else []
    texts = {c.id: {name: dataset.read_text(c, name) for name in c.texts} for c in shown}
    held = columns(cases, names, images, texts)
    rows = _file(write_text_atomic(out / TABLE, table(cases, held)), out)
    files = [file for own in images.values() for file in own.values()]
    told = metadata(
        about, describe(cases), responsible(cases, with_text=with_text), rows, files, held
    )
    write_json_atomic(out / METADATA, told)
    remarks = []
    if (count := sum(bool(case.texts) for case in cases)) and not with_text:
        remarks.append(f"the texts of {count} cases are left out; --with-text writes them")
    if not all(is_synthetic(case) for case in cases):
        remarks.append("real cases are P00001-01 and so on, in the manifest's order of groups")
    if missing := [
        name for name in ("licence", "version", "date", "citation") if not getattr(about, name)
    ]:
        remarks.append(
            f"readers of Croissant expect {', '.join(missing)} as well: --set licence=..."
        )
    return Exported([out / TABLE, out / METADATA], remarks, [out / IMAGES])


def _paths(
    cases: Sequence[Case], source: Manifest, wanted: Sequence[str]
) -> dict[str, dict[str, Path]]:
    """Return each case's images, all of which can be read.

    Raises:
        UserError: Some cannot.
    """
    problems = Problems()
    found = find_images(
        cases, source, lambda _, there: [name for name in wanted if name in there], problems
    )
    for case, paths in found.items():
        for name, path in paths.items():
            try:
                read_image(path)
            except UserError as error:
                problems.add(case, f"{name}: {error.problem.removeprefix(f'{path}: ')}")
    if problems.cases:
        told = [f"{len(problems.cases)} cases cannot be exported:", *problems.lines()]
        raise UserError("\n".join(told), remedy="voxella check DATASET")
    return found


def _file(path: Path, out: Path) -> File:
    return File(path.relative_to(out).as_posix(), sha256_file(path), path.stat().st_size)
