"""Token features of reports at their true length, one copy per distinct text.

Report text is patient data and never comes here: a text is known by its key, a SHA-256 over the
encoder's fingerprint and the text. Features of 512 padded float32 tokens, as the paper's released
code stores them, are what ``padding: max`` with ``dtype: float32`` amounts to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import TypedDict

from voxella.cache.index import AGAIN, ENCODE, FORMAT, INDEX, read_index, require_known
from voxella.cache.shard_reader import ShardReader
from voxella.cache.shards import collect_shards
from voxella.cache.storage import TEXT_STORAGE
from voxella.cache.text_origin import differences, settings_as_made
from voxella.cache.text_settings import text_settings
from voxella.cache.text_writer import PART, TextWriter, marked, text_key, whole_texts
from voxella.case.texts import ANY, SYNTHETIC, split_text_id, texts_of
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.hashing import sha256_json
from voxella.recipe.model import Text
from voxella.wording import listed
from voxella.workspace.state import StateFile, sealed

__all__ = ["CaseText", "TextCache", "TextWriter", "merge_text", "text_key", "text_settings"]


@dataclass(frozen=True)
class CaseText:
    """What the index knows about one text of a case; see :func:`voxella.case.texts.text_id`.

    Attributes:
        key: Of its features; the empty report's when there is no report.
        has_report: Whether there is one; a blank file counts as none.
        tokens: Tokens before truncation.
        cut: Tokens that truncation cut off.
        unknown: Tokens that stand for words or signs that the encoder does not know.
    """

    key: str
    has_report: bool
    tokens: int
    cut: int
    unknown: int = 0


class _Case(TypedDict):
    key: str
    has_report: bool
    tokens: int
    cut: int


class _Text(TypedDict):
    shard: str
    length: int


class _Index(TypedDict):
    format: int
    key: str
    encoder: str
    settings: dict[str, Any]
    empty: str
    truncated: dict[str, int]
    texts: dict[str, _Text]
    cases: dict[str, _Case]


_INDEX_FILE: StateFile[dict[str, Any]] = StateFile(_Index, AGAIN)


class TextCache:
    """Token features read in place from memory-mapped files; safe for forked or spawned workers.

    Attributes:
        folder: Where the cache lies.
        ids: Its cases, sorted.
        key: Hash of all that decides the features, the reports among it.
        width: Feature width F.
        source: Which text of a case is read, see the recipe's ``text.source``.
        fingerprint: Of the encoder that made it.
        truncated: ``{"reports": cases whose report was cut, "tokens": tokens cut in all}``.
    """

    def __init__(self, folder: Path, index: dict[str, Any], source: str = ANY) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = index["settings"]
        self.source = source
        self.key = sha256_json([index["key"], index["cases"]])
        self.width: int = index["settings"]["width"]
        self.fingerprint: str = index["encoder"]
        self.truncated: dict[str, int] = index["truncated"]
        self._texts: dict[str, dict[str, CaseText]] = {}
        for key, entry in index["cases"].items():
            case_id, name = split_text_id(key)
            texts = self._texts.setdefault(case_id, {})
            texts |= {name: CaseText(**entry)} if entry["has_report"] else {}
        self._withheld: frozenset[str] = frozenset()
        self._synthetic = False
        self.ids: tuple[str, ...] = tuple(sorted(self._texts))
        self._lengths = {key: int(entry["length"]) for key, entry in index["texts"].items()}
        self._empty: str = index["empty"]
        self._storage = TEXT_STORAGE[index["settings"]["dtype"]]
        self._shards = ShardReader(
            folder, {key: entry["shard"] for key, entry in index["texts"].items()}
        )

    @classmethod
    def open(cls, folder: Path, settings: Text | None = None) -> TextCache:
        """Open a cache, and hold it to a recipe's ``text`` block when that is given.

        Raises:
            UserError: There is no cache, or it was made with other settings; says which.
        """
        source = ANY if settings is None else settings.source
        cache = cls(Path(folder), read_index(folder, "text features", _INDEX_FILE), source)
        if settings is not None:
            asked = text_settings(settings)
            if differing := differences(Path(folder), cache.settings, asked):
                as_made = settings_as_made(cache.settings, asked)
                keep = f"; to take them as they are: {as_made}" if as_made else ""
                raise UserError("\n".join(differing), remedy=f"{ENCODE}{keep}")
        return cache

    @staticmethod
    def is_whole(folder: Path) -> bool:
        """Return whether index and shards are there; a damaged shard may have been removed."""
        index = _INDEX_FILE.read_or_remake(folder / INDEX)
        if index is None:
            return False
        texts = index["texts"]
        return whole_texts(folder, key=index["key"], texts=texts) == set(texts)

    @property
    def empty(self) -> Tensor:
        """Return the features of the empty report, ``(L0, F)``; see :meth:`read`."""
        return self.read_text(self._empty)

    def __contains__(self, key: object) -> bool:
        """Return whether the features of a text are here, by its key (:func:`text_key`)."""
        return key in self._lengths

    def read_text(self, key: str) -> Tensor:
        """Return the ``(L, F)`` features of a text that is here, by its key; see :meth:`read`."""
        return self._storage.read(self._shards, key, PART)

    def require(self, ids: Iterable[str]) -> None:
        """Refuse to go on without a case.

        Raises:
            UserError: Cases are missing; lists them.
        """
        require_known(ids, self._texts, f"text features in {self.folder}")

    def for_training(self, withheld: Collection[str], *, synthetic: bool) -> TextCache:
        """Return the same cache, of which some reports are not read.

        Args:
            withheld: Cases whose own texts are left out.
            synthetic: Read the text that was written by rule where no other is.
        """
        cache = copy(self)
        cache._withheld, cache._synthetic = frozenset(withheld), synthetic
        if withheld or synthetic:
            cache.key = sha256_json([self.key, sorted(withheld), synthetic])
        return cache

    def names(self, case_id: str) -> tuple[str, ...]:
        """Return the texts of a case that the recipe reads and that say something, in order."""
        self.require([case_id])
        texts = self._texts[case_id]
        own = texts_of((name for name in texts if name != SYNTHETIC), self.source)
        if own and case_id not in self._withheld:
            return own
        return (SYNTHETIC,) if self._synthetic and SYNTHETIC in texts else ()

    def length(self, case_id: str, name: str | None = None) -> int:
        """Return how many tokens a text's features have, without reading them; see `read`."""
        return self._lengths[self._key(case_id, name)]

    def has_report(self, case_id: str) -> bool:
        """Return whether a case has a text, without reading its features."""
        return bool(self.names(case_id))

    def read(self, case_id: str, name: str | None = None) -> tuple[Tensor, bool]:
        """Return the ``(L, F)`` features of a case's text and whether it has one.

        Of several it is the first unless one is named (:meth:`names`). A case without one gets the
        empty report's. The tensor is a view of the file in the dtype
        it is stored in, and copying it into a batch converts it; compact features are unpacked to
        bfloat16.

        Raises:
            UserError: The cache lacks the case.
        """
        return self.read_text(self._key(case_id, name)), self.has_report(case_id)

    def _key(self, case_id: str, name: str | None) -> str:
        names = self.names(case_id) if name is None else [name]
        return self._texts[case_id][names[0]].key if names else self._empty


def merge_text(
    folder: Path,
    settings: Text,
    *,
    key: str,
    fingerprint: str,
    cases: Mapping[str, CaseText],
) -> TextCache:
    """Join what all ranks wrote into one index. Call it on one rank, after every rank is done.

    Raises:
        UserError: The features of a case's report are missing; lists those cases.
    """
    empty = text_key("", fingerprint)
    wanted = marked([empty, *(case.key for case in cases.values())])
    shard_of = collect_shards(folder, key=key, wanted=wanted)
    missing = sorted(case_id for case_id, case in cases.items() if case.key not in shard_of)
    if missing or empty not in shard_of:
        raise UserError(
            f"{len(missing)} cases have no text features yet: {listed(missing)}", remedy=ENCODE
        )
    reader, storage = ShardReader(folder, shard_of), TEXT_STORAGE[settings.dtype]
    cut = [case.cut for case in cases.values() if case.cut]
    index = {
        "format": FORMAT,
        "key": key,
        "encoder": fingerprint,
        "settings": text_settings(settings),
        "empty": empty,
        "truncated": {"reports": len(cut), "tokens": sum(cut)},
        "texts": {
            text: {"shard": shard, "length": storage.shape(reader, text, PART)[0]}
            for text, shard in sorted(shard_of.items())
        },
        "cases": {case_id: asdict(case) for case_id, case in sorted(cases.items())},
    }
    write_json_atomic(folder / INDEX, sealed(index))
    return TextCache(folder, index)
