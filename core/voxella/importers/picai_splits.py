"""PI-CAI's official splits: five folds of training and validation studies, no test split."""

from __future__ import annotations

from pathlib import Path

from voxella.case import Split
from voxella.errors import UserError
from voxella.importers.rows import read_text
from voxella.plain_json import parse_json

__all__ = ["read_splits"]


def read_splits(splits: Path, fold: int) -> dict[str, Split]:
    """Return the split of every study of one fold.

    Args:
        splits: ``splits.json``, a list of ``{"train": [ids], "val": [ids]}``, or its folder.
        fold: Which, from 0.

    Raises:
        UserError: There is no such file, it is no such list, or there is no such fold.
    """
    candidates = [splits, splits / "splits.json", splits / "picai" / "splits.json"]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UserError(f"{splits}: no splits.json there")
    try:
        folds = parse_json(read_text(path)[0])
        pairs = [[(name, part[name]) for name in ("train", "val")] for part in folds]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        problem = f'{path}: not a list of {{"train": [...], "val": [...]}}'
        raise UserError(problem) from error
    if not 0 <= fold < len(pairs):
        raise UserError(f"{path}: there is no fold {fold}", legal=f"0 to {len(pairs) - 1}")
    chosen: dict[str, Split] = {}
    for case in pairs[fold][0][1]:
        chosen[str(case)] = "train"
    for case in pairs[fold][1][1]:
        chosen[str(case)] = "val"
    return chosen
