"""Reading the reports of a data set. What is read is patient data: it goes to the encoder only."""

from __future__ import annotations

from collections.abc import Collection

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.machine import raise_if_machine

__all__ = ["read_reports"]


def read_reports(manifest: Manifest, without: Collection[str] = ()) -> dict[str, str]:
    """Return every case's text by sorted id, "" without a report; a blank file counts as none.

    Args:
        manifest: The data set.
        without: Ids of cases that are left out; their reports need not be readable.

    Raises:
        UserError: Reports are missing or not UTF-8; names every such case.
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
    if problems:
        raise UserError("\n".join(problems), remedy="import again, or mend these files")
    return found


def _read_report(manifest: Manifest, case: Case) -> str:
    text = manifest.read_report(case)
    return text if text.strip() else ""
