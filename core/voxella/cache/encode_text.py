"""Reports to cached token features. Report text passes through here and is never shown."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxella.cache.index import FORMAT, INDEX
from voxella.cache.storage import TEXT_STORAGE
from voxella.cache.text import CaseText, TextCache, TextWriter, merge_text, text_key
from voxella.cache.text_encoder import build_text_encoder, encoding_ranks, require_one_encoder
from voxella.cache.text_facts import print_text_facts
from voxella.cache.text_origin import TextOrigin
from voxella.cache.text_settings import NOT_OF_FEATURES, text_settings
from voxella.cache.text_writer import whole_texts
from voxella.engine.runtime import barrier, broadcast_object
from voxella.hashing import sha256_json, stat_marks
from voxella.plugins.contracts import TextEncoder, unknown_counts
from voxella.progress import Steps, print_line
from voxella.recipe.model import Text
from voxella.workspace.record import StageRecord
from voxella.workspace.space import require_space

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


@dataclass(frozen=True)
class _Plan:
    """What a process that encodes is going to do; ``is_current``: all of it is done."""

    encoder: TextEncoder
    origin: TextOrigin
    survey: _Survey
    record: StageRecord
    is_current: bool


class TextEncoding:
    """Texts to cached features: of a data set's reports, or of prompts.

    The encoder may fill a host's memory, so one process of each host loads it and encodes; the
    others wait.

    Args:
        settings: The recipe's ``text`` block.
        reports: Text by its id (:func:`voxella.case.texts.text_id`), "" where there is none.
        folder: The cache's folder.
    """

    def __init__(self, settings: Text, reports: Mapping[str, str], folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.reports = reports

    def run(self, *, rank: int, world: int, then_bytes: int = 0) -> None:
        """Encode this rank's reports; on rank 0, join the index and write the record. Collective.

        Args:
            rank: This process's number.
            world: Number of processes.
            then_bytes: What has to fit on the disk afterwards.

        Raises:
            UserError: The encoder's width is not the recipe's, the folder holds features that were
                made otherwise, hosts hold different weights, or the disk is too small.
        """
        marks = self._marks()
        if broadcast_object(self._is_unchanged(marks)):
            return print_line(f"text: up to date ({self.folder})", quiet=rank != 0)
        encoding = encoding_ranks(world)
        plan = self._plan() if rank in encoding else None
        require_one_encoder(None if plan is None else plan.origin.fingerprint)
        if broadcast_object(plan is not None and plan.is_current):
            return print_line(f"text: up to date ({self.folder})", quiet=rank != 0)
        if rank == 0 and plan is not None:
            plan.record.invalidate()
        barrier()
        if plan is not None:
            plan.origin.write(self.folder)
            self._encode_share(plan, rank, encoding, then_bytes)
        barrier()
        if rank == 0 and plan is not None:
            self._join(plan, marks)
        barrier()
        del plan
        gc.collect()  # Whoever measures free memory next should find the encoder's.

    def _plan(self) -> _Plan:
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
        done = record.is_current() and TextCache.is_whole(self.folder)
        return _Plan(encoder, origin, survey, record, done)

    def _join(self, plan: _Plan, marks: str | None) -> None:
        """Join what all processes wrote, unless some of it is still to come."""
        if not self._complete(plan.origin.key, plan.survey.texts):
            return
        cache = merge_text(
            self.folder,
            self.settings,
            key=plan.origin.key,
            fingerprint=plan.encoder.fingerprint,
            cases=plan.survey.cases,
        )
        plan.record.complete(
            [INDEX], marks=marks, **print_text_facts(cache, plan.survey.cases, self.settings)
        )

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
        asked = self.settings.model_dump(mode="json", exclude={*NOT_OF_FEATURES})
        return sha256_json([FORMAT, asked, reports, files])

    def _is_unchanged(self, marks: str | None) -> bool:
        previous = StageRecord(self.folder, "encode text", {}).previous()
        known = previous is not None and previous.get("facts", {}).get("marks") == marks
        return marks is not None and known and TextCache.is_whole(self.folder)

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
        unknown = dict(zip(names, unknown_counts(encoder, [texts[n] for n in names]), strict=True))
        cases = {
            case_id: CaseText(
                key=key,
                has_report=self.reports[case_id] != "",
                tokens=tokens[key],
                cut=max(0, tokens[key] - self.settings.max_tokens),
                unknown=unknown[key],
            )
            for case_id, key in keys.items()
        }
        return _Survey(cases, {name: texts[name] for name in names}, tokens)

    def _encode_share(
        self, plan: _Plan, rank: int, encoding: Sequence[int], then_bytes: int
    ) -> None:
        texts, encoder = plan.survey.texts, plan.encoder
        with TextWriter(
            self.folder, self.settings.dtype, key=plan.origin.key, texts=texts, rank=rank
        ) as writer:
            done = writer.done
            if rank == 0:
                missing = [name for name in texts if name not in done]
                forecast = self._bytes(encoder.width, [plan.survey.tokens[n] for n in missing])
                what = f"features of {len(texts)} texts"
                print_line(require_space(self.folder, forecast, what, then_bytes=then_bytes))
            mine = list(texts)[encoding.index(rank) :: len(encoding)]
            share = [name for name in mine if name not in done]
            # As many as the encoder takes in a pass, which may read all its weights.
            at_a_time = max(_AT_A_TIME, getattr(encoder, "batch_size", 1))
            with Steps("encode text", len(share), quiet=rank != 0) as steps:
                for start in range(0, len(share), at_a_time):
                    names = share[start : start + at_a_time]
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
        """Return whether every text is encoded; processes that are not connected may lag."""
        missing = set(texts) - whole_texts(self.folder, key=key, texts=texts)
        print_line(f"text: {len(missing)} reports are left to other ranks", quiet=not missing)
        return not missing
