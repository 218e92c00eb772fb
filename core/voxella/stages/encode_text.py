"""Reports to cached token features. Report text passes through here and is never shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxella.cache.index import FORMAT, INDEX
from voxella.cache.shards import stored_bytes
from voxella.cache.space import human_bytes, require_space
from voxella.cache.storage import TEXT_STORAGE
from voxella.cache.text import (
    CaseText,
    TextCache,
    TextWriter,
    merge_text,
    text_key,
    text_settings,
    whole_texts,
)
from voxella.cache.text_origin import TextOrigin
from voxella.case import Manifest
from voxella.engine.runtime import barrier
from voxella.files import sha256_json, stat_marks
from voxella.plugins.contracts import TextEncoder
from voxella.progress import Steps, say
from voxella.recipe.model import Text
from voxella.stages.record import StageRecord
from voxella.stages.reports import read_reports
from voxella.stages.text_encoder import build_text_encoder

__all__ = ["TextEncoding"]

_AT_A_TIME = 16


@dataclass(frozen=True)
class _Survey:
    """What there is to encode.

    Attributes:
        cases: What the index will say about each case.
        texts: The distinct texts by key, the empty one among them, in the keys' order.
        tokens: Tokens of each text by key, before truncation.
    """

    cases: dict[str, CaseText]
    texts: dict[str, str] = field(repr=False)
    tokens: dict[str, int]


class TextEncoding:
    """The text half of the encode stage.

    Args:
        settings: The recipe's ``text`` block.
        dataset: The imported data set, whose reports are read.
        folder: The cache's folder.
        without: Ids of cases that are not prepared, and so not trained on either.

    Raises:
        UserError: Reports cannot be read; names all such cases.
    """

    def __init__(
        self, settings: Text, dataset: Path, folder: Path, without: Collection[str] = ()
    ) -> None:
        self.settings = settings
        self.folder = folder
        # {case id: text}, "" where there is no report.
        self.reports = read_reports(Manifest.read(dataset), without)

    def run(self, *, rank: int, world: int, then_bytes: int = 0) -> None:
        """Encode this rank's reports; on rank 0, join the index and write the record.

        Args:
            rank: This process's number.
            world: Number of processes.
            then_bytes: What has to fit on the disk afterwards.

        Raises:
            UserError: The encoder's width is not the recipe's, the folder holds features that were
                made otherwise, or the disk is too small.
        """
        quiet = rank != 0
        marks = self._marks()
        if self._is_unchanged(marks):
            say(f"text: up to date ({self.folder})", quiet=quiet)
            return
        encoder = build_text_encoder(self.settings)
        origin = self._origin(encoder)
        origin.refuse_other(self.folder)
        survey = self._survey(encoder)
        inputs = {
            "format": FORMAT,
            "encoder": encoder.fingerprint,
            "settings": text_settings(self.settings),
            "reports": {case_id: case.key for case_id, case in survey.cases.items()},
        }
        record = StageRecord(self.folder, "encode text", inputs)
        if record.is_current() and (self.folder / INDEX).is_file():
            say(f"text: up to date ({self.folder})", quiet=quiet)
            return
        barrier()  # No process may still be reading the record when rank 0 removes it.
        if rank == 0:
            record.invalidate()
        origin.write(self.folder)
        self._encode_share(encoder, survey, origin.key, rank, world, then_bytes)
        barrier()
        if rank == 0 and self._complete(origin.key, survey.texts):
            cache = merge_text(
                self.folder,
                self.settings,
                key=origin.key,
                fingerprint=encoder.fingerprint,
                cases=survey.cases,
            )
            record.complete(marks=marks, **self._facts(cache, survey.cases))
        barrier()

    def _marks(self) -> str | None:
        """Return a hash of settings, reports and the encoder's files by size and time.

        None when the encoder names no files. With it, a cache that is up to date is known to be so
        without loading an encoder of tens of gigabytes.
        """
        paths = [v for v in self.settings.encoder.arguments.values() if isinstance(v, Path)]
        if not paths:
            return None
        reports = {case_id: sha256_json(text) for case_id, text in self.reports.items()}
        files = [stat_marks(path) for path in paths]
        return sha256_json([FORMAT, self.settings.model_dump(mode="json"), reports, files])

    def _is_unchanged(self, marks: str | None) -> bool:
        previous = StageRecord(self.folder, "encode text", {}).previous()
        known = previous is not None and previous["facts"].get("marks") == marks
        return marks is not None and known and (self.folder / INDEX).is_file()

    def _origin(self, encoder: TextEncoder) -> TextOrigin:
        """Return what decides features; where the weights lie is not part of it."""
        settings = text_settings(self.settings)
        settings.pop("encoder")
        key = sha256_json([FORMAT, encoder.fingerprint, settings])
        return TextOrigin(key, encoder.fingerprint, settings, getattr(encoder, "identity", {}))

    def _survey(self, encoder: TextEncoder) -> _Survey:
        """Find the distinct texts and count their tokens."""
        mark = encoder.fingerprint
        keys = {case_id: text_key(text, mark) for case_id, text in self.reports.items()}
        # The empty report is always there: cases without one and dropped text need it.
        texts = {text_key("", mark): ""}
        texts.update({keys[case_id]: text for case_id, text in self.reports.items()})
        names = sorted(texts)
        counted = encoder.token_counts([texts[name] for name in names])
        tokens = dict(zip(names, counted, strict=True))
        cases = {
            case_id: CaseText(
                key=key,
                has_report=self.reports[case_id] != "",
                tokens=tokens[key],
                cut=max(0, tokens[key] - self.settings.max_tokens),
            )
            for case_id, key in keys.items()
        }
        return _Survey(cases, {name: texts[name] for name in names}, tokens)

    def _encode_share(
        self,
        encoder: TextEncoder,
        survey: _Survey,
        key: str,
        rank: int,
        world: int,
        then_bytes: int,
    ) -> None:
        texts = survey.texts
        with TextWriter(
            self.folder, self.settings.dtype, key=key, texts=texts, rank=rank
        ) as writer:
            done = writer.done
            if rank == 0:
                counts = [survey.tokens[name] for name in texts if name not in done]
                forecast, what = (
                    self._bytes(encoder.width, counts),
                    f"features of {len(texts)} texts",
                )
                say(require_space(self.folder, forecast, what, then_bytes=then_bytes))
            share = [name for name in list(texts)[rank::world] if name not in done]
            with Steps("encode text", len(share), quiet=rank != 0) as steps:
                for start in range(0, len(share), _AT_A_TIME):
                    names = share[start : start + _AT_A_TIME]
                    found = encoder.encode([texts[name] for name in names])
                    for name, features in zip(names, found, strict=True):
                        writer.add(name, features)
                        steps.advance()

    def _bytes(self, width: int, token_counts: Sequence[int]) -> int:
        limit, storage = self.settings.max_tokens, TEXT_STORAGE[self.settings.dtype]
        padded = self.settings.padding == "max"
        kept = (limit if padded else min(count, limit) for count in token_counts)
        return sum(storage.nbytes((tokens, width)) for tokens in kept)

    def _complete(self, key: str, texts: dict[str, str]) -> bool:
        """Tell whether every text is encoded; processes that are not connected may lag."""
        missing = set(texts) - whole_texts(self.folder, key=key, texts=texts)
        if missing:
            say(f"text: {len(missing)} reports are left to other ranks")
        return not missing

    def _facts(self, cache: TextCache, cases: dict[str, CaseText]) -> dict[str, Any]:
        with_report = sum(case.has_report for case in cases.values())
        lengths = [cache.length(case_id) for case_id in cache.ids]
        stored = stored_bytes(self.folder)
        facts: dict[str, Any] = {
            "cases": len(cases),
            "with_report": with_report,
            "distinct": len({case.key for case in cases.values() if case.has_report}),
            "tokens_longest": max(lengths, default=0),
            "truncated": cache.truncated,
            "bytes": stored,
            "bytes_per_case": round(stored / len(cases)) if cases else 0,
        }
        say(
            f"text: {with_report} of {len(cases)} cases have a report, {facts['distinct']} "
            f"distinct; longest kept {facts['tokens_longest']} tokens; "
            f"{human_bytes(facts['bytes_per_case'])} a case"
        )
        if cache.truncated["reports"]:
            end = "beginning" if self.settings.truncation == "left" else "end"
            say(
                f"text: {cache.truncated['reports']} reports exceed {self.settings.max_tokens} "
                f"tokens; {cache.truncated['tokens']} tokens were cut from their {end} "
                f"(by case: {self.folder / INDEX})"
            )
        return facts
