"""The kinds of findings about reports, labels and balance: how bad each is and what to do."""

from __future__ import annotations

from voxella.case.texts import REPORT, split_text_id
from voxella.check.finding import Finding, Kind, Severity

__all__ = ["TEXT_KINDS", "text_finding"]

# code, severity, meaning, remedy
_TABLE: tuple[tuple[str, Severity, str, str], ...] = (
    (
        "report.missing",
        "error",
        "the manifest names a report file that is not there or cannot be read",
        "put the file back, or import again without it",
    ),
    (
        "report.undecodable",
        "error",
        "the report is not UTF-8",
        "import again: importers write UTF-8 from any encoding",
    ),
    (
        "report.document",
        "error",
        "the report is a PDF, RTF, HTML or another document or record, and no plain text",
        "convert it to plain text and import again",
    ),
    (
        "report.none",
        "note",
        "the case has no report",
        "nothing to do: such cases train with the empty report's features",
    ),
    (
        "report.empty",
        "warning",
        "the report file holds nothing but white space",
        "find the text, or leave the report out: it counts as none",
    ),
    (
        "report.placeholder",
        "warning",
        "the report says nothing: nan, None, N/A, a dash or the like",
        "find the text, or leave the report out: it counts as none",
    ),
    (
        "report.changed",
        "warning",
        "the report is not the one that was imported",
        "import again, so that the manifest holds its hash",
    ),
    (
        "report.garbled",
        "warning",
        "the report holds control characters, or lost, escaped or wrongly decoded letters",
        "import again from the source in its true encoding",
    ),
    (
        "report.cut",
        "warning",
        "the report ends where a limit of a database or of Excel lies",
        "export it again from its source, without a limit of length",
    ),
    (
        "report.duplicate",
        "warning",
        "cases have the same report word for word",
        "see whether one of the cases got another's report",
    ),
    (
        "report.truncated",
        "warning",
        "the report is longer than the text encoder takes, and is cut",
        "raise text.max_tokens, or set text.truncation to keep the end that matters",
    ),
    (
        "report.unknown-words",
        "warning",
        "words or signs of the report are not in the text encoder's vocabulary, and are lost",
        "take an encoder that knows the reports' language, or translate them",
    ),
    (
        "report.untrainable",
        "error",
        "the recipe learns from reports, and no training case has one",
        "import again with reports, or take recipes/radbase.yaml (labels) or recipes/base.yaml",
    ),
    (
        "report.tokens",
        "error",
        "the text encoder failed on the report",
        "try the text encoder on another report, then fix it",
    ),
    (
        "report.identifier",
        "warning",
        "the report holds what looks like a name, date, number, telephone or e-mail address",
        "look there; remove it at the source and import again",
    ),
    (
        "report.identifiers",
        "note",
        "likely identifiers of all reports, counted",
        "rules find only some: have reports de-identified before they come here",
    ),
    (
        "report.markers",
        "warning",
        "the report holds marks of de-identification (___, [NAME]): what models memorise most",
        "leave them out of what is encoded: --set text.replace_markers=true",
    ),
    (
        "report.pirads",
        "note",
        "how many reports state a PI-RADS category that rules can read for certain",
        "nothing to do: only those are compared with labels",
    ),
    (
        "label.missing",
        "warning",
        "the case has no label",
        "add it to the source's table and import again, or take the case out",
    ),
    (
        "label.untrainable",
        "error",
        "the recipe learns from labels, and no training case has one",
        "import again with labels, or take recipes/ellabase.yaml (reports) or recipes/base.yaml",
    ),
    (
        "label.unknown",
        "error",
        "the label is none of the recipe's classes",
        "name it in data.classes, or map it when importing",
    ),
    (
        "label.table",
        "warning",
        "the label is not what PI-RADS or ISUP in the table give",
        "look here: correct the label or the table",
    ),
    (
        "label.value",
        "warning",
        "a PI-RADS or ISUP value of the table is out of range",
        "correct it in the table: PI-RADS is 1 to 5, ISUP 0 to 5",
    ),
    (
        "label.grade",
        "note",
        "PI-RADS is below 3 and the biopsy found significant cancer",
        "nothing to do: the images did not show it; the label follows its source",
    ),
    (
        "label.report",
        "warning",
        "the label is not what the report seems to say",
        "look here: read the report at this place and decide; nothing was changed",
    ),
    (
        "condition.value",
        "error",
        "a value is not what the recipe's conditions take, or is missing and must not be",
        "correct it in the source, widen the range, or set conditions.NAME.outside=missing",
    ),
    (
        "condition.untrainable",
        "error",
        "the recipe learns from a condition, and no training case has it",
        "import again with it, see docs/how-to/conditions.md, or set conditions.NAME=null",
    ),
    (
        "condition.spacing",
        "error",
        "the recipe's vectors have spacing, and cases are pictures, which do not say it",
        "leave spacing out of the recipe's vectors",
    ),
    (
        "condition.counts",
        "note",
        "of how many cases a condition is known",
        "nothing to do",
    ),
    (
        "patient.alike",
        "warning",
        "patients' ids differ only in letter case, padding, parting or Unicode form",
        "if they are one patient, write them alike and import again, or splits may share it",
    ),
    (
        "patient.form",
        "warning",
        "a patient's id says nothing, holds what cannot be seen, or lost digits",
        "fix it in the source and import again",
    ),
    ("split.balance", "note", "classes of a split, by site", "nothing to do"),
    (
        "split.class-missing",
        "warning",
        "a split has no case of a class",
        "import again with another seed or other shares",
    ),
    (
        "split.class-rare",
        "warning",
        "less than a tenth of a split's cases are of a class",
        "judge by AUC rather than by accuracy, and weigh the classes",
    ),
    (
        "site.one-class",
        "warning",
        "a site has cases of one class only, so that a network may learn the site instead",
        "bring in the site's other cases, or keep the site out of the comparison",
    ),
)

TEXT_KINDS: dict[str, Kind] = {row[0]: Kind(*row) for row in _TABLE}


def text_finding(
    code: str, message: str, case: str | None = None, where: str | None = None
) -> Finding:
    """Return a finding of one of :data:`TEXT_KINDS`; the message holds numbers and ids only.

    Args:
        code: The kind.
        message: Of a report; where another text is meant, it is named instead.
        case: Id of a case, or of one of its texts (:func:`voxella.case.texts.text_id`).
        where: As in a :class:`Finding`, of a report.
    """
    case, name = (None, REPORT) if case is None else split_text_id(case)
    if name != REPORT:
        message = message.replace("its report", f"its {name}")
        where = None if where is None else f"{name}{where.removeprefix(REPORT)}"
    return TEXT_KINDS[code].found(message, case=case, where=where)
