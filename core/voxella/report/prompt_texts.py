"""The reports that volumes were made from: read only for a page that was asked to hold them."""

from __future__ import annotations

from collections.abc import Iterable

from voxella.case import Case
from voxella.files import sha256_bytes
from voxella.report.run_folder import RunFolder

__all__ = ["prompt_texts"]

_CHANGED = "The report has changed since, or lies elsewhere: it is not shown."
_NO_REPORT = "No report: the model was asked with the empty one."


def prompt_texts(run: RunFolder, cases: Iterable[Case]) -> dict[str, str]:
    """Return the prompt of each synthetic case; only what hashes to what the model was given."""
    from_file, found = run.prompts, {}
    for case in cases:
        wanted = case.extra.get("prompt_sha256")
        source = str(case.extra.get("source_case", case.id))
        data = from_file.get(source, b"") if from_file else _report(run, source)
        if wanted is None:
            found[case.id] = _NO_REPORT
        else:
            same = sha256_bytes(data) == wanted
            found[case.id] = data.decode("utf-8", "replace") if same else _CHANGED
    return found


def _report(run: RunFolder, source: str) -> bytes:
    if run.dataset is None:
        return b""
    case = next((case for case in run.dataset if case.id == source), None)
    if case is None or case.report is None:
        return b""
    try:
        return (run.dataset.folder / case.report).read_bytes()
    except OSError:
        return b""
