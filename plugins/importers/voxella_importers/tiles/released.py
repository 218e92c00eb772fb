"""The files of PathLDM's released loader: one HDF5 file of encoded tiles, and pickled tables.

The tables (``train.npz``, ``test.npz``) are pickles, which can run whatever they like. They are
read once, here, by an unpickler that knows arrays, numbers, texts, lists and mappings and nothing
else; training reads plain files.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.limits import UNPACKED_BYTES
from voxella.machine import raise_if_machine

__all__ = ["ReleasedSplit", "read_split", "slides_of"]

_ARRAYS = ("indices", "summaries", "prob_tumor", "prob_til")
_CHUNK_ROWS = 1 << 16
# What NumPy's own pickles of arrays and numbers call, by its names before and since version 2.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
}


@dataclass(frozen=True)
class ReleasedSplit:
    """What ``train.npz`` or ``test.npz`` says.

    Attributes:
        indices: ``(N,)`` rows of the HDF5 file.
        summaries: Texts by slide.
        tumor: Probability by slide and tile.
        til: The same of lymphocytes.
    """

    indices: NDArray[np.int64]
    summaries: dict[str, list[str]]
    tumor: Mapping[str, Mapping[str, float]]
    til: Mapping[str, Mapping[str, float]]


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - any class
        if (module, name) not in _ALLOWED:
            # Not quoted: it is whatever somebody wrote there.
            raise pickle.UnpicklingError("it holds more than arrays, numbers and texts")
        return super().find_class(module, name)


def read_split(path: Path) -> ReleasedSplit:
    """Read ``train.npz`` or ``test.npz``.

    Raises:
        UserError: It is no such file, holds other things than numbers and texts, or other shapes
            of them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if absent := [name for name in _ARRAYS if name not in held]:
                raise ValueError(f"has no {', '.join(absent)}")
            values: dict[str, Any] = {}
            for name in _ARRAYS:
                UNPACKED_BYTES.require(held[name].file_size, f"{path}: {name}")
                with archive.open(held[name]) as file:
                    values[name] = _value(file)
        return _split(values)
    except UserError:
        raise
    except (
        *(ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, OSError),
        *(zipfile.BadZipFile, pickle.UnpicklingError, NotImplementedError, OverflowError),
    ) as error:
        raise_if_machine(error, path)
        own = isinstance(error, ValueError | pickle.UnpicklingError)
        told = str(error) if own else "damaged, or not as PathLDM's loader has it"
        raise UserError(
            f"{path}: {told}",
            expected="a NumPy archive of indices, summaries, prob_tumor and prob_til",
        ) from None


def slides_of(
    names: Any,  # noqa: ANN401 - an h5py data set
    indices: NDArray[np.int64],
) -> dict[str, NDArray[np.int64]]:
    """Return the wanted rows of each slide, in the file's order.

    Args:
        names: The column ``wsi``.
        indices: Rows that are wanted.
    """
    wanted = np.unique(indices)
    found: dict[str, list[int]] = {}
    for start in range(0, len(names), _CHUNK_ROWS):
        first, last = np.searchsorted(wanted, (start, start + _CHUNK_ROWS))
        if first == last:
            continue
        chunk = names[start : start + _CHUNK_ROWS]
        for row in wanted[first:last].tolist():
            found.setdefault(text_of(chunk[row - start]), []).append(row)
    return {slide: np.asarray(rows, dtype=np.int64) for slide, rows in found.items()}


def text_of(value: Any) -> str:  # noqa: ANN401 - bytes or text
    """Return a name that HDF5 may hold as bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _value(file: IO[bytes]) -> Any:  # noqa: ANN401 - an array or a mapping
    """Return an array of numbers, or what lies within a pickled one of a single element."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if not dtype.hasobject:
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype, count=count)
    array = _Plain(file).load()
    if not isinstance(array, np.ndarray):
        raise ValueError("a pickle of something else than an array")
    return array.item() if array.ndim == 0 else array


def _split(values: dict[str, Any]) -> ReleasedSplit:
    indices = np.asarray(values["indices"]).reshape(-1)
    if not np.issubdtype(indices.dtype, np.integer) or (indices < 0).any():
        raise ValueError("indices are no row numbers")
    summaries = {str(slide): list(_texts(told)) for slide, told in values["summaries"].items()}
    tumor, til = (_probabilities(values[name]) for name in ("prob_tumor", "prob_til"))
    return ReleasedSplit(indices.astype(np.int64), summaries, tumor, til)


def _texts(told: Any) -> Iterator[str]:  # noqa: ANN401 - a text or several
    for text in [told] if isinstance(told, str) else told:
        if not isinstance(text, str):
            raise ValueError("summaries are no texts")
        yield text


def _probabilities(told: Any) -> Mapping[str, Mapping[str, float]]:  # noqa: ANN401
    for tiles in told.values():
        numbers = np.fromiter(tiles.values(), dtype=np.float64, count=len(tiles))
        if not ((numbers >= 0) & (numbers <= 1)).all():
            raise ValueError("a probability is not within 0 to 1")
    checked: Mapping[str, Mapping[str, float]] = told
    return checked
