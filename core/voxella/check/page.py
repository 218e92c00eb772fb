"""The check's page: one HTML file that needs nothing else, and can be mailed.

Mid-slices of cases stand beside what is wrong with them. Every text is escaped, the page's own
policy forbids to load or run anything, and no report text comes near it.

How the check's page looks, in light and in dark; filters are plain CSS, so no script runs.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from voxella.case import Case
from voxella.check.balance import site_of
from voxella.check.finding import SEVERITIES, Finding
from voxella.check.geometry import Placement
from voxella.check.printing import Group, grouped, tally
from voxella.files import write_text_atomic
from voxella.wording import counted

if TYPE_CHECKING:
    from voxella.check.cases import CheckReport

__all__ = ["chosen_cases", "page_html", "write_page"]

# Some 7 kB an image: the page stays below what a mail takes.
_MOST_CASES = 300
_OTHERS = 24
_LINKS = 12
# Nothing is loaded, nothing is run: pictures stand in the page itself.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1c1e; --faint: #6b6b70;
  --card: #f5f5f7; --line: #d8d8dc; --error: #b3261e; --warning: #8a5a00; --note: #28598a; }
@media (prefers-color-scheme: dark) { :root { --ground: #17181a; --ink: #ececee; --faint: #9d9da3;
  --card: #212226; --line: #38393e; --error: #ff8a80; --warning: #f0b95c; --note: #8ab8e8; } }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem; background: var(--ground);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; }
.faint, figcaption, .remedy { color: var(--faint); }
.error > .code { color: var(--error); } .warning > .code { color: var(--warning); }
.note > .code { color: var(--note); }
.code { font-weight: 600; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line); }
td.number { text-align: right; }
a { color: inherit; }
ul { margin: .4rem 0; padding: 0; list-style: none; }
li { margin: .25rem 0; overflow-wrap: anywhere; }
.case { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; margin: .7rem 0; }
.case:target { outline: 2px solid var(--note); }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem; margin-top: .5rem; }
figure { margin: 0; max-width: 100%; }
figure img { display: block; max-width: 100%; background: #000; border-radius: 4px; }
figcaption { font-size: .8rem; }
input[name=show] { position: absolute; opacity: 0; }
input[name=show] + label { display: inline-block; padding: .25rem .8rem; margin: .2rem .3rem 0 0;
  border: 1px solid var(--line); border-radius: 999px; cursor: pointer; }
input[name=show]:checked + label { background: var(--ink); color: var(--ground); }
input[name=show]:focus-visible + label { outline: 2px solid var(--note); }
#show-error:checked ~ .case:not(.has-error), #show-warning:checked ~ .case:not(.has-warning),
#show-note:checked ~ .case:not(.has-note), #show-clean:checked ~ .case:not(.is-clean)
{ display: none; }
@media print { input[name=show] + label { display: none; } .case { break-inside: avoid; } }
"""


def write_page(report: CheckReport, *, show_all: bool = False) -> None:
    """Write the page atomically.

    Args:
        report: What was found.
        show_all: Show every case; else those with errors and warnings, and a few others.
    """
    # Pictures of patients: for its owner, like the reports.
    write_text_atomic(report.page, page_html(report, show_all=show_all))


def chosen_cases(report: CheckReport, *, show_all: bool) -> list[Case]:
    """Return the cases to show: those with errors, with warnings, a sample of the others."""
    ranks = _worst(report.findings)
    cases = sorted(report.manifest, key=lambda case: ranks.get(case.id, len(SEVERITIES)))
    if show_all:
        return cases
    note = SEVERITIES.index("note")
    bad = [case for case in cases if ranks.get(case.id, note) < note][:_MOST_CASES]
    others = [case for case in cases if ranks.get(case.id, note) >= note]
    # Evenly over the manifest: cases of one site or one day often stand together.
    step = max(1, -(-len(others) // _OTHERS))
    return [*bad, *others[::step]]


def page_html(report: CheckReport, *, show_all: bool) -> str:
    """Return the page."""
    cases = chosen_cases(report, show_all=show_all)
    name = report.manifest.folder.resolve().name
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(name)}: check</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(name)}</h1>",
        f"<p>{escape(tally(report.counts, len(report.manifest)))}.</p>",
        '<p class="faint">Pictures of patients: handle this file like the images. '
        "No report text is in it.</p>",
        *(f"<p>Not checked: {escape(line)}.</p>" for line in report.not_checked),
        *_summary(report, {case.id for case in cases}),
        *_dataset(report),
        *_cases(report, cases),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _worst(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the worst severity's rank by case."""
    ranks: dict[str, int] = {}
    for finding in findings:
        if finding.case is not None:
            rank = SEVERITIES.index(finding.severity)
            ranks[finding.case] = min(rank, ranks.get(finding.case, rank))
    return ranks


def _summary(report: CheckReport, shown: set[str]) -> Iterator[str]:
    groups = grouped(report.findings)
    if not groups:
        yield "<p>Nothing was found.</p>"
        return
    yield '<h2>What was found</h2><div class="scroll"><table><tr><th>code</th><th>findings</th>'
    yield "<th>meaning</th><th>what to do</th><th>cases</th></tr>"
    for group in groups:
        yield f'<tr class="{group.severity}"><td class="code">{escape(group.code)}</td>'
        yield f'<td class="number">{len(group.findings)}</td><td>{escape(group.meaning)}</td>'
        yield f"<td>{escape(group.remedy)}</td><td>{_links(group, shown)}</td></tr>"
    yield "</table></div>"


def _links(group: Group, shown: set[str]) -> str:
    cases = group.cases
    names = [
        f'<a href="#case-{escape(case)}">{escape(case)}</a>' if case in shown else escape(case)
        for case in cases[:_LINKS]
    ]
    more = len(cases) - _LINKS
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _dataset(report: CheckReport) -> Iterator[str]:
    """Yield what concerns no case that can be shown."""
    known = {case.id for case in report.manifest}
    findings = [finding for finding in report.findings if finding.case not in known]
    if findings:
        yield "<h2>The data set as a whole</h2>"
        yield from _list(findings, named=True)


def _cases(report: CheckReport, cases: Sequence[Case]) -> Iterator[str]:
    own: dict[str, list[Finding]] = {}
    for finding in report.findings:
        if finding.case is not None:
            own.setdefault(finding.case, []).append(finding)
    left = len(report.manifest) - len(cases)
    yield f"<h2>{counted(len(cases), 'case')}</h2>"
    if left:
        yield (
            f"<p>{counted(left, 'more case')} left out: with errors or warnings, the first "
            f"{_MOST_CASES} are shown; of the others, a sample. --all shows every case.</p>"
        )
    for value in ("all", *SEVERITIES, "clean"):
        checked = " checked" if value == "all" else ""
        yield f'<input type="radio" name="show" id="show-{value}"{checked}>'
        yield f'<label for="show-{value}">{value}</label>'
    for case in cases:
        yield from _card(report, case, own.get(case.id, []))


def _card(report: CheckReport, case: Case, findings: Sequence[Finding]) -> Iterator[str]:
    found = {finding.severity for finding in findings}
    classes = " ".join([f"has-{severity}" for severity in SEVERITIES if severity in found])
    facts = [case.split, case.label or "no label", site_of(case)]
    yield f'<section class="case {classes or "is-clean"}" id="case-{escape(case.id)}">'
    yield f"<h3>{escape(case.id)}</h3>"
    yield f'<p class="faint">{escape(", ".join(fact for fact in facts if fact))}</p>'
    yield from _list(findings)
    yield from _pictures(report, case)
    yield "</section>"


def _list(findings: Sequence[Finding], *, named: bool = False) -> Iterator[str]:
    """Yield findings as a list; ``named``: with the cases' ids."""
    if not findings:
        return
    yield "<ul>"
    for finding in findings:
        parts = (finding.case if named else None, finding.where, finding.message)
        text = ": ".join(part for part in parts if part)
        yield f'<li class="{finding.severity}"><span class="code">{escape(finding.code)}</span>'
        yield f"{escape(text)}."
        yield f'<span class="remedy">{escape(finding.remedy)}.</span></li>'
    yield "</ul>"


def _pictures(report: CheckReport, case: Case) -> Iterator[str]:
    job = report.jobs[case.id]
    facts = job.facts()
    yield '<div class="pictures">'
    for name in job.images.files:
        jpeg = None if facts is None else facts.pictures.get(name)
        if facts is None or jpeg is None:
            yield f'<p class="faint">{escape(name)}: no picture, the image cannot be read</p>'
            continue
        about = f"{name}: axial, coronal and sagittal mid-slices"
        data = base64.b64encode(jpeg).decode("ascii")
        yield f'<figure><img alt="{escape(about)}" src="data:image/jpeg;base64,{data}">'
        yield f"<figcaption>{escape(_caption(name, facts.places.get(name)))}</figcaption></figure>"
    yield "</div>"


def _caption(name: str, place: Placement | None) -> str:
    if place is None:
        return name
    voxels = " x ".join(str(count) for count in place.shape)
    edges = " x ".join(f"{edge:.3g}" for edge in place.spacing_mm)
    return f"{name}: {voxels} voxels of {edges} mm"
