"""Cases of stored tiles: caption and class by probability, one file for all tiles of one text.

A slide has a handful of distinct captions, however many tiles: so many files are written, and none
for a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from voxella.case import Case, Split
from voxella.case.texts import REPORT
from voxella.data.tile_store import StoredTile
from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.hashing import sha256_bytes
from voxella_importers.captions import CaptionRule, caption, class_number

__all__ = ["IMAGE", "TIL", "TUMOR", "TileCases", "check_splits"]

IMAGE = "he"
TUMOR, TIL = "prob_tumor", "prob_til"


class TileCases:
    """Makes cases, and writes their texts on the way.

    Args:
        out: The data set's folder.
        rule: Levels and thresholds of captions and classes.
        label_source: Recorded with each class.
        captions: Texts begin with the levels; else they are the summaries alone.
    """

    def __init__(
        self, out: Path, rule: CaptionRule, label_source: str, *, captions: bool = True
    ) -> None:
        self.out = out
        self.rule = rule
        self.label_source = label_source
        self.captions = captions
        self._slide = ""
        self._written: dict[str, tuple[str, str]] = {}

    def case(
        self,
        slide: str,
        tile: StoredTile,
        *,
        group: str,
        split: Split,
        summaries: Sequence[str] = (),
        extra: Mapping[str, float] | None = None,
    ) -> Case:
        """Return the case of a tile.

        Args:
            slide: Its slide, allowed in a manifest.
            tile: Where it lies and what is known of it.
            group: Whose it is: the slide, or its patient.
            split: Of the group.
            summaries: Of the slide's report; several are one text each.
            extra: What else the manifest keeps.
        """
        tumor, til = tile.values.get(TUMOR), tile.values.get(TIL)
        number = class_number(self.rule, tumor, til)
        files: dict[str, str] = {}
        hashes: dict[str, str] = {}
        for place, summary in enumerate(summaries or [""], start=1):
            text = caption(self.rule, tumor, til, summary) if self.captions else summary.strip()
            if text:
                name = REPORT if place == 1 else f"{REPORT}_{place}"
                files[name], hashes[name] = self._file(slide, text)
        known = {TUMOR: tumor, TIL: til}
        return Case(
            id=f"{slide}_{tile.name}",
            group=group,
            images={IMAGE: tile.image},
            texts=files,
            texts_sha256=hashes,
            label=None if number is None else str(number),
            label_source=None if number is None else self.label_source,
            split=split,
            conditions={name: value for name, value in known.items() if value is not None},
            extra=dict(extra or {}),
        )

    def _file(self, slide: str, text: str) -> tuple[str, str]:
        """Return path and hash of a text's file, written where this slide has none of it yet."""
        if slide != self._slide:
            self._slide, self._written = slide, {}
        if text not in self._written:
            data = f"{text}\n"
            path = f"reports/{slide}/{len(self._written) + 1}.txt"
            write_text_atomic(self.out / path, data)
            self._written[text] = path, sha256_bytes(data.encode())
        return self._written[text]


def check_splits(importer: str, splits: Mapping[str, Split]) -> None:
    """Refuse a data set that trains on nothing.

    Args:
        importer: Who says so.
        splits: By slide.

    Raises:
        UserError: No slide is in train.
    """
    if "train" not in splits.values():
        raise UserError(
            f"importer {importer}: none of the {len(splits)} slides falls into the split train",
            remedy="hold none out: --set val_share=0 --set test_share=0   (or --set seed=1)",
        )
