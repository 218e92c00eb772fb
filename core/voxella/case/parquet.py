"""A manifest of very many cases: a Parquet table whose rows are read when they are asked for.

A field that holds several things (images, texts, conditions, extra) is JSON in its column, so both
forms of a manifest hold the same values. Rows come in small groups: one of them is what access by
position decodes, and all that a process keeps.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args, overload

from voxella.case.faults import Fault, case_of, paths
from voxella.case.model import Case, Split
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.limits import TEXT_BYTES
from voxella.machine import raise_if_machine
from voxella.plain_json import parse_json
from voxella.wording import shown_path

__all__ = ["TABLE", "CaseTable", "write_table"]

TABLE = "manifest.parquet"
_WORDS = ("id", "group", "split", "label", "label_source", "truth")
_JSON = ("images", "texts", "texts_sha256", "conditions", "extra")
_GROUP_ROWS = 2048
# Rows that become Python objects at a time.
_AT_ONCE = 256
_REMEDY = "import again; voxella check tells more"


class CaseTable(Sequence[Case]):
    """The cases of a ``manifest.parquet``, in file order; opening it reads no row.

    Safe in forked and spawned workers: each process opens the file by itself.

    Args:
        path: The table.

    Raises:
        UserError: It is no Parquet file, or has other columns than a case has fields; later, where
            a row that is asked for holds no case.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]  # the same again, in another process

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Case: ...

    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...

    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"case {index} of {len(self)}")
        group = bisect_right(self._starts, place) - 1
        (row,) = self._group(group).slice(place - self._starts[group], 1).to_pylist()
        return self._case(row, place)

    def __iter__(self) -> Iterator[Case]:
        for place, row in self._rows():
            yield self._case(row, place)

    def of(self, *splits: str) -> Iterator[Case]:
        """Yield the cases of the named splits; the others are not made into objects."""
        for place, row in self._rows(splits):
            yield self._case(row, place)

    def faults(self) -> Iterator[Fault]:
        """Yield all that is wrong, row by row, then between rows; numbers count rows from 1."""
        found: list[Fault] = []
        for place, row in self._rows():
            case = self._read(row, place, found)
            yield from found
            found.clear()
            yield from () if case is None else paths(case)
        yield from self._between()

    def sound(self) -> Iterator[Case]:
        """Yield the cases that can be read, of those with one id the first."""
        seen: set[str] = set()
        for place, row in self._rows():
            case = self._read(row, place, [])
            if case is not None and case.id not in seen:
                seen.add(case.id)
                yield case

    def _open(self) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        try:
            self._file = ParquetFile(self.path, memory_map=True)
        except OSError as error:
            raise_if_machine(error, self.path)
            raise self._refused("cannot be read as a Parquet file") from None
        except pyarrow.ArrowException:
            raise self._refused("is no Parquet file, or damaged") from None
        self._process = os.getpid()
        names = set(self._file.schema_arrow.names)
        text = all(str(field.type) == "string" for field in self._file.schema_arrow)
        if names != {*_WORDS, *_JSON} or not text:
            raise self._refused("has not the columns of a manifest, each of text")
        self._starts = [0]
        for group in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            self._starts.append(self._starts[-1] + rows)
        self._kept: tuple[int, Any] | None = None

    def _group(self, group: int) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return a group's rows; the last one is kept."""
        if self._process != os.getpid():
            self._open()  # a file that a parent opened is the parent's
        if self._kept is None or self._kept[0] != group:
            asked = self._file.metadata.row_group(group).total_byte_size
            TEXT_BYTES.require(asked, f"{shown_path(self.path)}: rows of group {group}")
            self._kept = (group, self._arrow(self._file.read_row_group, group))
        return self._kept[1]

    def _arrow(self, read: Any, *words: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
        import pyarrow

        try:
            # Its own threads do not survive a fork.
            return read(*words, use_threads=False)
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(error, OSError):
                raise_if_machine(error, self.path)
            raise self._refused("is damaged: its rows cannot be read") from None

    def _rows(self, splits: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield place and columns of every row, or of those of some splits."""
        for group in range(len(self._starts) - 1):
            table, first = self._group(group), self._starts[group]
            wanted = range(table.num_rows)
            if splits:
                told = table.column("split").to_pylist()
                wanted = [at for at in wanted if told[at] in splits]  # type: ignore[assignment]
            remaining = iter(wanted)
            while places := list(islice(remaining, _AT_ONCE)):
                for place, row in zip(places, table.take(places).to_pylist(), strict=True):
                    yield first + place, row

    def _case(self, row: dict[str, Any], place: int) -> Case:
        faults: list[Fault] = []
        case = self._read(row, place, faults)
        if case is None:
            told = "\n".join(fault.told(self.path) for fault in faults)
            raise UserError(told, remedy=_REMEDY)
        return case

    def _read(self, row: dict[str, Any], place: int, faults: list[Fault]) -> Case | None:
        entry = {name: row[name] for name in _WORDS if row[name] is not None}
        for name in _JSON:
            try:
                entry |= {} if row[name] is None else {name: parse_json(row[name])}
            except ValueError as error:
                problem = f"{name}: no JSON value: {error}"
                faults.append(Fault("manifest.line", problem, place + 1))
                return None
        return case_of(entry, place + 1, faults)

    def _between(self) -> Iterator[Fault]:
        """Yield ids that are duplicated and groups in two splits, by columns: no case is made."""
        import pyarrow
        import pyarrow.compute as pc

        names = ["id", "group", "split"]
        columns = self._arrow(lambda **how: self._file.read(columns=names, **how))
        # A row of another split is told already, and what stands there may be anything.
        columns = columns.filter(pc.is_in(columns["split"], pyarrow.array(get_args(Split))))
        counted = columns.group_by("id").aggregate([("id", "count")])
        for name in counted.filter(pc.greater(counted["id_count"], 1))["id"].to_pylist():
            yield Fault("manifest.duplicate-id", "its id stands more than once", case=name)
        splits = columns.group_by("group").aggregate([("split", "distinct")])
        torn = splits.filter(pc.greater(pc.list_value_length(splits["split_distinct"]), 1))
        among = {row["group"]: set(row["split_distinct"]) for row in torn.to_pylist()}
        rows = columns.filter(pc.is_in(columns["group"], value_set=torn["group"].combine_chunks()))
        for row in rows.to_pylist():
            others = ", ".join(sorted(among[row["group"]] - {row["split"]}))
            message = f"in {row['split']}, and its group (patient) has other cases in {others}"
            yield Fault("split.patient", message, case=row["id"])

    def _refused(self, problem: str) -> UserError:
        return UserError(f"{shown_path(self.path)} {problem}", remedy=_REMEDY)


def write_table(path: Path, cases: Iterable[Case]) -> Path:
    """Write cases as a Parquet table, atomically, a group of rows at a time; return its path."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema([(name, pyarrow.string()) for name in (*_WORDS, *_JSON)])
    remaining = iter(cases)
    with (
        atomic_path(path) as temporary,
        # Statistics would hold ids in the file's foot, for nothing.
        ParquetWriter(str(temporary), schema, compression="zstd", write_statistics=False) as writer,
    ):
        while rows := [_row(case) for case in islice(remaining, _GROUP_ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    return path


def _row(case: Case) -> dict[str, str | None]:
    told = case.model_dump(mode="json", exclude_none=True)
    row: dict[str, str | None] = {name: told.get(name) for name in _WORDS}
    for name in _JSON:
        row[name] = json.dumps(told[name], ensure_ascii=False) if told.get(name) else None
    # Every case has images, be they none.
    row["images"] = row["images"] or "{}"
    return row
