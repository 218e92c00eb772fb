"""Reading the reports of a data set. What is read is patient data: it goes to the encoder only.

Report texts: decoded from what hospitals' systems write, kept as UTF-8 that only the user reads.

Nothing here puts text into a message: a report is patient data, and so may be anything that stands
where a report was expected.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from voxella.case import Manifest
from voxella.case.texts import REPORT, text_id
from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.hashing import sha256_file
from voxella.limits import TEXT_BYTES
from voxella.machine import raise_if_machine
from voxella.texts.documents import Document, document_of_bytes, document_of_text, stored_text
from voxella.texts.encodings import decode
from voxella.texts.placeholders import is_placeholder, stated

__all__ = ["Report", "ReportReader", "read_reports", "write_report"]


def read_reports(manifest: Manifest, without: Collection[str] = ()) -> dict[str, str]:
    """Return every text by its id (:func:`voxella.case.texts.text_id`), cases in order.

    A case's own id stands for its report, "" where it has none. A file that is blank
    or holds a placeholder (``nan``, ``N/A``, a dash) counts as none.

    Args:
        manifest: The data set.
        without: Ids of cases that are left out; their reports need not be readable.

    Raises:
        UserError: Texts are missing, not UTF-8, or documents and no plain text; names every such
            case.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    kept = [case for case in manifest if case.id not in without]
    for case in sorted(kept, key=lambda case: case.id):
        found[case.id] = ""
        for name, file in case.texts.items():
            try:
                text = stated(stored_text(TEXT_BYTES.read(manifest.folder / file)))
            except OSError as error:
                raise_if_machine(error)
                problems.append(f"case {case.id}: {name} cannot be read ({type(error).__name__})")
            except UnicodeDecodeError as error:
                # The exception itself carries the text's bytes: say only where it broke off.
                problems.append(f"case {case.id}: {name} is not UTF-8 (byte {error.start})")
            except Document as document:
                problems.append(f"case {case.id}: {name} {document}")
            else:
                found[text_id(case.id, name)] = text
    if problems:
        raise UserError("\n".join(problems), remedy="import again, or fix these files")
    return found


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        text: The text, never empty.
        encoding: What its bytes were in.
    """

    text: str
    encoding: str

    def __repr__(self) -> str:
        # A dataclass's own would put the text into tracebacks and logs.
        return f"Report({len(self.text)} characters, {self.encoding})"


class ReportReader:
    """Reads the reports of one data set, from files or cells, by the same rules.

    Attributes:
        blank: How many held nothing but white space.
        placeholders: How many held only a placeholder, such as ``nan``.

    Args:
        out: The data set's folder, in which no source report may lie.
        encoding: Of files that are not UTF-8 and have no byte-order mark.
    """

    def __init__(self, out: Path, encoding: str | None = None) -> None:
        self.blank = 0
        self.placeholders = 0
        self._own = (out / "reports").resolve()
        self._encoding = encoding

    def file(self, path: Path) -> Report | None:
        """Read one report file; None when it says nothing.

        Raises:
            ValueError: It is absent, no text, a document, in another encoding, or lies where the
                data set's own reports go. The message holds neither its name nor its text.
        """
        try:
            if path.resolve().is_relative_to(self._own):
                raise _Misplaced("lies where the data set's own reports go; choose another --out")
            data = path.read_bytes()
        except _Misplaced:
            raise
        except (OSError, ValueError) as error:
            raise_if_machine(error)
            # ValueError: a NUL in the name. The name may itself be a report in the wrong column.
            raise ValueError("does not exist or cannot be read") from error
        if (document := document_of_bytes(data)) is not None:
            raise ValueError(document)
        return self._report(*decode(data, self._encoding))

    def inline(self, text: str, encoding: str) -> Report | None:
        """Take a report from a cell or a field; None when it says nothing.

        Args:
            text: The cell's text.
            encoding: What the table was in; it is recorded.

        Raises:
            ValueError: It is no text, or a document; as for files.
        """
        if "\0" in text or not _is_writable(text):
            raise ValueError("holds characters that are no text")
        return self._report(text, f"inline, {encoding}")

    def notes(self) -> list[str]:
        """Return what to warn of: reports that are none."""
        told = []
        if self.blank:
            told.append(f"{self.blank} report files hold no text; their cases have no report")
        if self.placeholders:
            told.append(
                f"{self.placeholders} reports say nothing (nan, None, N/A, - or the like); their "
                "cases have no report"
            )
        return told

    def _report(self, text: str, encoding: str) -> Report | None:
        if not text.strip():
            self.blank += not encoding.startswith("inline")
            return None
        if is_placeholder(text):
            self.placeholders += 1
            return None
        if (document := document_of_text(text)) is not None:
            raise ValueError(document)
        return Report(text, encoding)


class _Misplaced(ValueError):
    """Told apart from a name that no file can have."""


def _is_writable(text: str) -> bool:
    """Return whether UTF-8 can write a text: JSON can spell halves of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_report(out: Path, case: str, report: Report, name: str = REPORT) -> tuple[str, str]:
    """Write ``reports/<case>.txt``; return its relative path and its hash.

    A text of another name is ``reports/<name>/<case>.txt``: no id of a case can stand for it.

    Raises:
        UserError: It holds characters that UTF-8 cannot write.
    """
    relative = f"reports/{case}.txt" if name == REPORT else f"reports/{name}/{case}.txt"
    try:
        path = write_text_atomic(out / relative, report.text)
    except UnicodeEncodeError:
        # A lone surrogate, which JSON can spell. The codec's own message would quote the text.
        problem = f"case {case}: its {name} holds characters that are no text"
        raise UserError(problem) from None
    return relative, sha256_file(path)
