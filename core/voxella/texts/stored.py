"""The text of a report file in a data set; read by the check and by every stage alike."""

from __future__ import annotations

from voxella.texts.documents import document_of_bytes, document_of_text

__all__ = ["Document", "stored_text"]


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
