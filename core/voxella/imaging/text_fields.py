"""The text that opens a MetaImage or NRRD file, held to its format before SimpleITK sees it.

SimpleITK 2.5 trusts this text: some damage to it ends the whole process (a ``NDims`` of 1e300, a
``space origin`` of a thousand digits) or asks for all memory (a ``CompressedDataSize`` of -1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["HEADER_BYTES", "VECTOR", "meta_fields", "nrrd_fields"]

# No header is longer.
HEADER_BYTES = 1 << 16
# teem, which reads NRRD inside SimpleITK, overruns its buffers on lines a little longer than this.
_LONGEST_VALUE = 1000
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?nan|[-+]?inf"
# A vector of an NRRD, or the word for none.
VECTOR = re.compile(r"\([^()]*\)|none", re.IGNORECASE)
_COUNT = r"[1-9]\d{0,9}"
# What a value has to look like, by lower-case key: the pattern of each of its words, and how many
# words there are, in powers of the number of axes.
_META_FORMS = {
    "dimsize": (_COUNT, 1),
    "elementspacing": (_NUMBER, 1),
    "elementsize": (_NUMBER, 1),
    "offset": (_NUMBER, 1),
    "position": (_NUMBER, 1),
    "origin": (_NUMBER, 1),
    "centerofrotation": (_NUMBER, 1),
    "transformmatrix": (_NUMBER, 2),
    "rotation": (_NUMBER, 2),
    "orientation": (_NUMBER, 2),
    "elementtype": (r"MET_[A-Z_]{3,24}", 0),
    "elementnumberofchannels": (_COUNT, 0),
    "compresseddatasize": (r"\d{1,15}", 0),
    "headersize": (r"-1|\d{1,15}", 0),
}
_NRRD_FORMS = {
    "sizes": (_COUNT, 1),
    "spacings": (_NUMBER, 1),
    "space dimension": (r"[1-8]", 0),
    "line skip": (r"\d{1,9}", 0),
    "lineskip": (r"\d{1,9}", 0),
    "byte skip": (r"-1|\d{1,15}", 0),
    "byteskip": (r"-1|\d{1,15}", 0),
}
# NRRD's fields of vectors, and how many, in powers of the number of axes (None: any number).
_NRRD_VECTORS: dict[str, int | None] = {
    "space origin": 0,
    "space directions": 1,
    "measurement frame": None,
}


def meta_fields(start: bytes) -> tuple[dict[str, str], int]:
    """Return a MetaImage header's values by lower-case key, and its length in bytes.

    Args:
        start: The file's first :data:`HEADER_BYTES` bytes.

    Raises:
        ValueError: There is no such header, or a field is not of its form; says which.
    """
    fields: dict[str, str] = {}
    for line, position in _lines(start):
        name, equals, value = line.partition("=")
        if not equals:
            break
        key = name.strip().lower()
        _keep(fields, key, value.strip(), known=key in _META_FORMS or key == "ndims")
        # By the format's definition this key is the last one.
        if key == "elementdatafile":
            axes = _axes(fields, "ndims")
            _check_words(fields, _META_FORMS, axes, needed=("dimsize", "elementtype"))
            return fields, position
    raise ValueError("no MetaImage header")


def nrrd_fields(start: bytes) -> tuple[dict[str, str], int]:
    """Return an NRRD header's values by lower-case key, and its length in bytes.

    Args:
        start: The file's first :data:`HEADER_BYTES` bytes.

    Raises:
        ValueError: There is no such header, or a field is not of its form; says which.
    """
    fields: dict[str, str] = {}
    if not re.match(rb"NRRD000[1-5]\r?\n", start):
        raise ValueError("no NRRD header")
    position = 0
    for number, (line, position) in enumerate(_lines(start)):  # noqa: B007 - returned
        text = line.strip()
        if not text:
            break
        name, colon, value = text.partition(":")
        # The first line; a comment; or, with :=, something that someone else put there.
        if not number or text.startswith("#") or value.startswith("="):
            continue
        if not colon:
            raise ValueError("its header has a line that is no field")
        key = name.strip().lower()
        _keep(fields, key, value.strip(), known=key != "content")
    # Only a detached header may end with the file instead of an empty line.
    if text and (not {"data file", "datafile"} & fields.keys() or len(start) >= HEADER_BYTES):
        raise ValueError("no NRRD header")
    axes = _axes(fields, "dimension")
    _check_words(fields, _NRRD_FORMS, axes, needed=("sizes", "type"))
    _check_vectors(fields, axes)
    return fields, position


def _lines(start: bytes) -> Iterator[tuple[str, int]]:
    """Yield the lines, each with where the next one begins; the last may lack its end."""
    position = 0
    while position < len(start):
        end = start.find(b"\n", position)
        end = len(start) if end < 0 else end
        yield start[position:end].decode("latin-1"), min(end + 1, len(start))
        position = end + 1


def _keep(fields: dict[str, str], key: str, value: str, *, known: bool) -> None:
    if known and key in fields:
        raise ValueError(f"the field {_shown(key)} is duplicated in its header")
    if known and max(len(key), len(value)) > _LONGEST_VALUE:
        raise ValueError(f"a header field of {max(len(key), len(value))} characters")
    fields[key] = value


def _axes(fields: dict[str, str], key: str) -> int:
    if not re.fullmatch(r"[1-9]", fields.get(key, "")):
        raise ValueError(f"its header has no sound field {key}")
    return int(fields[key])


def _check_words(
    fields: dict[str, str],
    forms: dict[str, tuple[str, int]],
    axes: int,
    needed: tuple[str, ...],
) -> None:
    for key, (pattern, power) in forms.items():
        if key not in fields:
            continue
        words = fields[key].split()
        good = all(re.fullmatch(pattern, word, re.IGNORECASE) for word in words)
        if not good or len(words) != axes**power:
            raise ValueError(f"its header's field {key} is malformed: {_shown(fields[key])}")
    for key in needed:
        if not fields.get(key):
            raise ValueError(f"its header has no field {key}")


def _check_vectors(fields: dict[str, str], axes: int) -> None:
    for key, power in _NRRD_VECTORS.items():
        if key not in fields:
            continue
        if not fields.get("space") and not fields.get("space dimension"):
            raise ValueError(f"its header has the field {key} and no field space, which it needs")
        vectors = VECTOR.findall(fields[key])
        rest = VECTOR.sub("", fields[key]).strip()
        numbers = [word for vector in vectors for word in vector.strip("()").split(",")]
        good = all(re.fullmatch(f"{_NUMBER}|none", n.strip(), re.IGNORECASE) for n in numbers)
        wanted = len(vectors) if power is None else axes**power
        if rest or not good or len(vectors) != wanted:
            raise ValueError(f"its header's field {key} is malformed: {_shown(fields[key])}")


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 40 else f"{value[:37]!r}..."
