"""Documents and records where plain text was expected: PDF, RTF, HTML, Word, HL7 and their like.

Most of them decode without an error, and a text encoder then learns their mark-up.

The text of a report file in a data set; read by the check and by every stage alike.
"""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress

__all__ = ["Document", "document_of_bytes", "document_of_text", "stored_text"]

_OFFICE = "soffice --headless --convert-to txt:Text FILE"
_EXPORT = "have the reports exported as plain text"
# First bytes, what they are, how to make text of it.
_STARTS = (
    (b"%PDF-", "a PDF document", "pdftotext -layout FILE"),
    (b"{\\rtf", "an RTF document", _OFFICE),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Word document or another OLE file", _OFFICE),
    (b"PK\x03\x04", "a Word (.docx), ODT or ZIP file", _OFFICE),
    (b"%!PS", "a PostScript document", "ps2ascii FILE"),
    (b"\x1f\x8b", "a gzip archive", "gunzip FILE"),
    (b"BZh", "a bzip2 archive", "bunzip2 FILE"),
    (b"\xfd7zXZ", "an xz archive", "unxz FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x FILE"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unzstd FILE"),
    (b"\x89PNG", "a picture", _EXPORT),
    (b"\xff\xd8\xff", "a picture", _EXPORT),
    (b"GIF8", "a picture", _EXPORT),
    (b"II*\x00", "a picture", _EXPORT),
    (b"MM\x00*", "a picture", _EXPORT),
    (b"SQLite format 3", "a database", _EXPORT),
    (b"\xffWPC", "a WordPerfect document", _OFFICE),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "a OneNote document", _EXPORT),
    (b"Rar!\x1a\x07", "a rar archive", "unrar x FILE"),
    (b"RIFF", "a picture or a sound", _EXPORT),
    (b"PAR1", "a Parquet table", _EXPORT),
    (b"\x93NUMPY", "an array of NumPy", _EXPORT),
    (b"\x7fELF", "a program", _EXPORT),
    (b"version https://git-lfs", "a Git-LFS pointer", "git lfs pull"),
)
_DICOM_AT = 128
# A mark, white space and comments may come first.
_LEAD = re.compile(rb"(?:\xef\xbb\xbf|\s|\x04)*")
# Readers of PDF look for its mark as far as this.
_PDF_WITHIN = 1024
_LOOKED_AT = 4096

_TAGS = (
    r"p|div|span|b|i|u|em|strong|font|table|thead|tbody|tr|td|th|ul|ol|li|h[1-6]|pre|a|title|style"
    r"|body|html|head|script|sub|sup|center|small|section"
)
_HTML = re.compile(
    rf"<!doctype\s+html|<(?:html|head|body|meta|table|div)\b[^<>]*>|<br\s*/?>|</(?:{_TAGS})\s*>"
    r"|\A\s*<(?:p|pre|span|font|h[1-6]|center)(?:\s[^<>]*)?>",
    re.I,
)
_XML = re.compile(r"\s*<(?:\?xml\b|\?php\b|ClinicalDocument\b|Bundle\b|DiagnosticReport\b)")
# One element around all, whatever it is called.
_ELEMENT = re.compile(r"<([A-Za-z_][\w:.-]{0,80})(?:\s[^<>]*)?>.*</\1\s*>\s*", re.S)
# A message, or the segments that somebody took out of one.
_HL7 = re.compile(r"[\s\x0b]*(?:(?:MSH|FHS|BHS)\|\^~|(?:PID|PV1|ORC|OBR|OBX|NTE|TXA)\|[^|\r\n]*\|)")
_RTF = re.compile(r"\A\\rtf\d|\{\\rtf\d?\b")
_TEX = re.compile(r"\\documentclass\b|\\begin\{document\}")
_UUENCODED = re.compile(r"begin [0-7]{3} \S")
_MAIL = re.compile(
    r"^(?:MIME-Version|Content-Type|Content-Transfer-Encoding|X-Mailer):\s", re.I | re.M
)
_SENT = re.compile(r"^From: [^\n]*@[^\n]*$.*^(?:Subject|To|Date): ", re.M | re.S)
_ARMOUR = re.compile(r"\s*-----BEGIN [A-Z ]+-----")
_BASE64 = re.compile(r"(?:data:[\w/+.-]+;base64,)?[A-Za-z0-9+/\s]{160,}={0,2}\s*")
_DATA_URI = re.compile(r"\s*data:[\w/+.-]+;base64,")
_KEYED = re.compile(r"""\{\s*(["'])[\w .-]{1,60}\1\s*:""")
_FILE = re.compile(
    r"(?!.*[.:;,] )\S(?:[^\n\r]{0,250}[^\s.,;:])?\.(?:txt|text|pdf|rtf|docx?|odt|html?|xml|json|md"
    r"|csv|tsv|xlsx?|npy|pt|dcm|nii|nii\.gz|png|jpe?g|tiff?|zip|msg|eml)",
    re.I,
)
_LINK = re.compile(r"(?:https?|ftp|file|smb|s3)://\S+", re.I)


def document_of_bytes(data: bytes) -> str | None:
    """Return what a file is that is no plain text, and what makes text of it; None: it may be."""
    lead = _LEAD.match(data)
    start = data[lead.end() if lead else 0 :]
    for first, kind, command in _STARTS:
        if start.startswith(first) or data.startswith(first):
            return f"is {kind} and no plain text ({command})"
    if b"%PDF-1." in data[:_PDF_WITHIN]:
        return "is a PDF document and no plain text (pdftotext -layout FILE)"
    if data[_DICOM_AT : _DICOM_AT + 4] == b"DICM":
        return f"is a DICOM file and no plain text (dsrdump FILE, if it is a report; or {_EXPORT})"
    return None


def document_of_text(text: str) -> str | None:
    """Return what a text is that is no report in plain words; None: it may be one."""
    start = text.lstrip("\ufeff \t\r\n")[:_LOOKED_AT]
    if (found := document_of_bytes(start[:_PDF_WITHIN].encode("utf-8", "replace"))) is not None:
        return found
    if _RTF.search(start):
        return f"is an RTF document and no plain text ({_OFFICE})"
    if _TEX.search(start):
        return f"is LaTeX and no plain text ({_EXPORT})"
    if _XML.match(start):
        return f"is XML, such as a CDA document, and no plain text ({_EXPORT})"
    if _HTML.search(text):
        return "is HTML and no plain text (html2text FILE)"
    if _ELEMENT.fullmatch(text.lstrip("\ufeff \t\r\n")):
        return f"is XML or the like, and no plain text ({_EXPORT})"
    if _HL7.match(start):
        return f"is an HL7 message and no plain text ({_EXPORT})"
    if _ARMOUR.match(start):
        return "is encrypted or signed, and no plain text (gpg --decrypt FILE)"
    if _MAIL.search(start) or _SENT.search(start):
        return f"is an e-mail with its headers and no plain text ({_EXPORT})"
    if _UUENCODED.match(start):
        return "is a uuencoded file and no plain text (uudecode FILE)"
    if start.startswith("[InternetShortcut]"):
        return f"is a link and no report ({_EXPORT})"
    if _DATA_URI.match(start) or (_BASE64.fullmatch(text.strip()) and _is_coded(text)):
        return "is a file coded in base64 and no plain text (base64 -d FILE)"
    if _is_record(start, text):
        return f"is a list or record (JSON) and no plain text ({_EXPORT})"
    line = text.strip()
    if _LINK.fullmatch(line):
        return f"is a link and no report ({_EXPORT})"
    if _FILE.fullmatch(line):
        return "is the name of a file and no report (a column of file names is report_file)"
    return None


def _is_coded(text: str) -> bool:
    """Tell code from a long word or a report without marks: it has no words of usual length."""
    longest = max((len(word) for word in text.split()), default=0)
    return longest >= 60 and any(c.isdigit() for c in text) and any(c.isupper() for c in text)


def _is_record(start: str, text: str) -> bool:
    if start.startswith('"') and "\\" in text:
        # A text as JSON writes it, its line ends escaped.
        return isinstance(_parsed(text.strip("\ufeff")), str)
    if not start.startswith(("{", "[")):
        return False
    found = _parsed(text)
    if found is None:
        lines = [line for line in text.splitlines() if line.strip()]
        # JSON lines; or a record of which the end is lost.
        return _KEYED.match(start) is not None or (
            len(lines) > 1 and all(isinstance(_parsed(line), dict | list) for line in lines)
        )
    # An empty one is a placeholder rather.
    return isinstance(found, dict | list) and any(_leaves(found))


def _parsed(text: str) -> object:
    """Return what JSON, or what Python prints of a list, stands for; None where it is neither."""
    for read in (json.loads, ast.literal_eval):
        # ValueError, SyntaxError, and what very deep or long nonsense brings about
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(text)
    return None


def _leaves(value: dict[str, object] | list[object]) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else value


class Document(ValueError):
    """The file is a document or a record and no plain text; the message says of which kind."""


def stored_text(data: bytes) -> str:
    """Return a stored report's text, line ends as one character, without a mark before it.

    Raises:
        Document: It is no plain text.
        UnicodeDecodeError: It is not UTF-8. The exception carries the bytes: do not show it.
    """
    if (document := document_of_bytes(data)) is not None:
        raise Document(document)
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    if (document := document_of_text(text)) is not None:
        raise Document(document)
    return text
