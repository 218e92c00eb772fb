"""Reading the reports of a data set. What is read is patient data: it goes to the encoder only."""

from __future__ import annotations

from collections.abc import Collection

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.limits import TEXT_BYTES
from voxella.machine import raise_if_machine
from voxella.texts.placeholders import stated
from voxella.texts.stored import Document, stored_text

__all__ = ["read_reports"]


def read_reports(manifest: Manifest, without: Collection[str] = ()) -> dict[str, str]:
    """Return every case's text by sorted id, "" without a report.

    A file that is blank or holds a placeholder (``nan``, ``N/A``, a dash) counts as none.

    Args:
        manifest: The data set.
        without: Ids of cases that are left out; their reports need not be readable.

    Raises:
        UserError: Reports are missing, not UTF-8, or documents and no plain text; names every such
            case.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    kept = [case for case in manifest if case.id not in without]
    for case in sorted(kept, key=lambda case: case.id):
        try:
            found[case.id] = _read_report(manifest, case)
        except OSError as error:
            raise_if_machine(error)
            problems.append(f"case {case.id}: report cannot be read ({type(error).__name__})")
        except UnicodeDecodeError as error:
            # The exception itself carries the report's bytes: say only where it broke off.
            problems.append(f"case {case.id}: report is not UTF-8 (byte {error.start})")
        except Document as document:
            problems.append(f"case {case.id}: report {document}")
    if problems:
        raise UserError("\n".join(problems), remedy="import again, or mend these files")
    return found


def _read_report(manifest: Manifest, case: Case) -> str:
    if case.report is None:
        return ""
    return stated(stored_text(TEXT_BYTES.read(manifest.folder / case.report)))
