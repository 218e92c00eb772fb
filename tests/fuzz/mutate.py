"""Ways to spoil a file: whatever it is, text of keys and values, or an archive of such.

Everything is a function of a generator, so that a failure can be looked at again alone.
"""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
from image_damage import BYTE_KINDS, IMAGE_KINDS

__all__ = ["EXTREMES", "spoilt", "spoilt_archive", "spoilt_bytes", "spoilt_image", "spoilt_text"]

Random = np.random.Generator

# What stands where something else is meant. No value quotes another, so that a message that repeats
# one is seen.
EXTREMES = (
    *("", "0", "-1", "1e308", "1e999", "-.inf", ".nan", "NaN", "9" * 30, "9" * 5000, "0x10"),
    *("true", "null", "~", "[]", "{}", '""', "[1, 2, 3]", "{a: 1}", '{"a": {"b": [1]}}'),
    *("[" * 900 + "]" * 900, "[" * 60 + "]" * 60, '{"a":' * 700 + "1" + "}" * 700, "- " * 400),
    *('"\\ud800"', '"\\udfff"', '"\\u0000"', "\x00", "\x1b[31mred", "[bold]x[/bold]"),
    *("\u2028", "\ufeff", "a" * 5000, "../../x", "/dev/zero", "/dev/null", "/", ".", "a/" * 2000),
    *("!!python/object/apply:os.system [x]", "&a [*a]", "*nothing", "<<: *x", "? [a, b]"),
    *("1600", "65536", "2147483648", "4294967296", "100000000", "1000000000000", "1e8"),
    *("2026-13-45", "=1+1", "#N/A", "'", '"', ",", ";", "\t", "\r", "\n\n", "# x", "%s%n", "{0}"),
)


def spoilt(data: bytes, random: Random) -> tuple[bytes, str]:
    """Return text that is spoilt in one of many ways, and in which."""
    if random.random() < 0.25:
        return spoilt_bytes(data, random)
    return spoilt_text(data, random)


def spoilt_bytes(data: bytes, random: Random) -> tuple[bytes, str]:
    """Return bytes with some flipped, cut, repeated, zeroed or made up."""
    kind = str(random.choice(sorted(BYTE_KINDS)))
    return BYTE_KINDS[kind](data, random), kind


def spoilt_image(data: bytes, random: Random) -> tuple[bytes, str]:
    """Return an image with its bytes spoilt, or a field of its header extreme."""
    kind = str(random.choice(sorted(IMAGE_KINDS)))
    return IMAGE_KINDS[kind](data, random), kind


def spoilt_text(data: bytes, random: Random) -> tuple[bytes, str]:
    """Return lines of keys and values, some of them in the place of others."""
    text, kind = data.decode("utf-8", "surrogateescape"), str(random.choice(sorted(_TEXT_KINDS)))
    for _ in range(int(random.choice([1, 1, 1, 3]))):
        text = _TEXT_KINDS[kind](text, random)
    return text.encode("utf-8", "surrogateescape"), kind


def spoilt_archive(data: bytes, random: Random) -> tuple[bytes, str]:
    """Return a ZIP archive with one entry spoilt, and its checksums right again."""
    if random.random() < 0.25:
        return spoilt_bytes(data, random)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    victim = str(random.choice(sorted(entries)))
    change = str(random.choice(["gone", "value", "number", "bytes", "cell"]))
    if change == "gone":
        del entries[victim]
    elif change == "bytes":
        entries[victim] = spoilt_bytes(entries[victim], random)[0]
    else:
        entries[victim] = _XML[change](entries[victim], random)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue(), f"entry {change}"


def _pick(found: list[re.Match[str]], random: Random) -> re.Match[str] | None:
    return found[int(random.integers(len(found)))] if found else None


def _in_place_of(found: re.Match[str], new: str) -> str:
    return found.string[: found.start()] + new + found.string[found.end() :]


def _extreme(random: Random) -> str:
    return EXTREMES[int(random.integers(len(EXTREMES)))]


def _value(text: str, random: Random) -> str:
    """Put an extreme in the place of a value."""
    found = _pick(list(re.finditer(r"(?<=[:,\[=|]) ?[^\s:,\[\]{}=|]+", text)), random)
    return (
        text
        if found is None
        else f"{text[: found.start()]} {_extreme(random)}{text[found.end() :]}"
    )


def _quoted(text: str, random: Random) -> str:
    """Put an extreme between the quotes of a value, where it is text."""
    found = _pick(list(re.finditer(r'"[^"\n]*"', text)), random)
    if found is None:
        return _value(text, random)
    inner = _extreme(random).replace('"', "").replace("\n", " ")
    return _in_place_of(found, f'"{inner}"')


def _key(text: str, random: Random) -> str:
    """Put an extreme in the place of a key."""
    found = _pick(list(re.finditer(r"[A-Za-z_][A-Za-z0-9_]*\"?(?=\s*:)", text)), random)
    return (
        text if found is None else f"{text[: found.start()]}{_extreme(random)}{text[found.end() :]}"
    )


def _insert(text: str, random: Random) -> str:
    at = int(random.integers(len(text) + 1))
    return text[:at] + _extreme(random) + text[at:]


def _drop_line(text: str, random: Random) -> str:
    lines = text.split("\n")
    del lines[int(random.integers(len(lines)))]
    return "\n".join(lines)


def _twice(text: str, random: Random) -> str:
    lines = text.split("\n")
    lines.insert(int(random.integers(len(lines))), lines[int(random.integers(len(lines)))])
    return "\n".join(lines)


def _indent(text: str, random: Random) -> str:
    lines = text.split("\n")
    at = int(random.integers(len(lines)))
    lines[at] = "  " + lines[at] if random.random() < 0.5 else lines[at].removeprefix("  ")
    return "\n".join(lines)


def _line(text: str, random: Random) -> str:
    lines = text.split("\n")
    lines[int(random.integers(len(lines)))] = _extreme(random)
    return "\n".join(lines)


def _other_encoding(text: str, random: Random) -> str:
    name = str(random.choice(["utf-16", "utf-32", "cp1252", "utf-8-sig", "utf-7"]))
    data = text.encode(name, "replace")
    return data.decode("utf-8", "surrogateescape")


def _number_attribute(data: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"(?<=\")\d+(?=\")", data))
    if not found:
        return data
    one = found[int(random.integers(len(found)))]
    new = random.choice([b"0", b"-1", b"9" * 30, b"1048576", b"4294967296", b"", b"x", b"1e9"])
    return data[: one.start()] + bytes(new) + data[one.end() :]


def _xml_text(data: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"(?<=>)[^<>]+(?=<)", data))
    if not found:
        return data
    one = found[int(random.integers(len(found)))]
    text = _extreme(random).replace("&", "").replace("<", "").replace("\x00", "")
    return data[: one.start()] + text.encode("utf-8", "replace") + data[one.end() :]


def _cell_place(data: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"(?<=\")[A-Z]{1,3}\d+(:[A-Z]{1,3}\d+)?(?=\")", data))
    new = random.choice([b"XFD1048576", b"A1:XFD1048576", b"A0", b"ZZZ9", b"A1:A9999999", b"B1:A1"])
    if not found:
        return data.replace(
            b"</sheetData>",
            b'</sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>',
        )
    one = found[int(random.integers(len(found)))]
    return data[: one.start()] + bytes(new) + data[one.end() :]


_TEXT_KINDS = {
    "value": _value,
    "quoted value": _quoted,
    "key": _key,
    "insert": _insert,
    "line gone": _drop_line,
    "line twice": _twice,
    "line replaced": _line,
    "indent": _indent,
    "encoding": _other_encoding,
}
_XML = {"value": _xml_text, "number": _number_attribute, "cell": _cell_place}
