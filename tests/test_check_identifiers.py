"""Identifiers found in reports by rules: where they were planted, and nowhere else."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import REPOSITORY

from voxella.check.reports.identifiers import check_identifiers, find_identifiers

REPORTS = REPOSITORY.parent / "shared" / "data" / "reports" / "reports_sample.jsonl"

# What stands before the identifier, and the identifier.
NAMES = [
    ("Dr. ", "Jansen"),
    ("dr. ", "P. van der Berg"),
    ("Prof. Dr. med. ", "M\u00fcller"),
    ("Dhr. ", "de Vries"),
    ("dhr. ", "Bakker"),
    ("mevr. ", "Bakker-Smit"),
    ("de heer ", "Visser"),
    ("Herr ", "Schmidt"),
    ("Frau Dr. ", "Wei\u00df"),
    ("Mrs. ", "O'Neill"),
    ("Mr ", "Smith"),
    ("Ms. ", "Anna Lee"),
    ("Naam: ", "Jansen"),
    ("Patient: ", "Jan Jansen"),
    ("Radioloog: ", "P. Pietersen"),
    ("", "JANSEN^PIET"),
]
DATES = [
    "12-03-2021",
    "2021/03/12",
    "12.03.2021",
    "12/31/2021",
    "12 maart 2021",
    "March 12 2021",
    "March 12, 2021",
    "3. M\u00e4rz 2021",
    "Mar 3rd, 2021",
    "2021-03-12T10:22",
    "1/2/21",
    "02.10.06",
    "12 mei",
    "June 2005",
    "3 May 2020",
    "3/2008",
    "2 10 2024",
]
NUMBERS = [
    "1234567",
    "123456789",
    "1234.56.789",
    "123-45-6789",
    "T24-817631",
    "1.2.840.113619.2.55",
]
PHONES = [
    "06-12345678",
    "+31 6 12345678",
    "020 123 4567",
    "06 12 34 56 78",
    "0031612345678",
    "+49 (0)30 1234567",
    "(555) 123-4567",
    "555-123-4567",
]
PLANTED = [
    *(("name", before, what) for before, what in NAMES),
    *(("date", "", what) for what in DATES),
    *(("number", "", what) for what in NUMBERS),
    *(("telephone number", "", what) for what in PHONES),
    ("telephone number", "tel. ", "4512"),
    ("e-mail address", "", "a.b-c@x-y.example.nl"),
]

HARMLESS = [
    "12 x 14 x 9 mm",
    "4.5 x 3.9 x 5.1 cm",
    "PSA 6,4",
    "PSA density 0.15 ng/ml/ml",
    "series 4 image 12",
    "IMA 8-34",
    "b=1400",
    "b-values 0, 50, 400, 800, 1400",
    "b 100-500-1000 s/mm2",
    "b-values 200-500-1000",
    "ADC 0.000634123",
    "ADC 1083",
    "1234567.8 units",
    "1,234,567 counts",
    "PI-RADS v2.1",
    "PI-RADS 3. May represent prostatitis",
    "2.1.10 findings",
    "T2W/DWI/DCE score: 4/4/-",
    "Gleason 3+4=7",
    "score 4/5",
    "L4-5",
    "4-0 Vicryl",
    "10-15 minutes",
    "lesions 1 and 2 may represent",
    "LESIONS 1 AND 2 MAY REPRESENT",
    "MR Prostate",
    "MRI. Findings: Prostate",
    "65 years",
    "since 2018",
    "3 Tesla",
    "Patient: male",
    "Patient: Male, 65",
    "Patient: Elevated PSA",
    "Patient aged 65",
    "Dr. X",
    "Mr. XYZ",
    "Ms. A",
    "Herr Kollege",
    "NM_001008540.1",
]


@pytest.mark.parametrize(("kind", "before", "what"), PLANTED)
def test_an_identifier_is_found_where_it_stands(kind: str, before: str, what: str) -> None:
    text = f"Seen {before}{what}, prostate."
    start = len(f"Seen {before}")
    found = find_identifiers(text)
    assert [(f.kind, f.start, f.end) for f in found] == [(kind, start, start + len(what))]


@pytest.mark.parametrize("harmless", HARMLESS)
def test_what_is_no_identifier_is_left_alone(harmless: str) -> None:
    assert find_identifiers(f"Seen {harmless}, prostate.") == ()


@given(
    st.lists(st.sampled_from(HARMLESS), max_size=4),
    st.lists(st.sampled_from(PLANTED), max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from(["; ", ".\n", "\n\n", " - "]),
)
@settings(max_examples=150, deadline=None)
def test_exactly_the_planted_ones_are_found_in_any_order(
    harmless: list[str], planted: list[tuple[str, str, str]], random: object, between: str
) -> None:
    parts = [(None, "", f"seen {text}, here") for text in harmless] + [*planted]
    random.shuffle(parts)  # type: ignore[attr-defined] # hypothesis's own Random
    text = "Verslag"
    expected = []
    for kind, before, what in parts:
        text += between + before
        if kind is not None:
            expected.append((kind, len(text), len(text) + len(what)))
        text += what
    # A word after the last one, as in a report.
    text += f"{between}einde."
    assert [(f.kind, f.start, f.end) for f in find_identifiers(text)] == expected


@given(st.lists(st.sampled_from(PLANTED), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_findings_locate_and_never_show(planted: list[tuple[str, str, str]]) -> None:
    text = ";\n".join(before + what for _, before, what in planted)
    findings = check_identifiers({"case-1": text, "case-2": "Nothing."})
    *located, total = findings
    assert len(located) == len(planted)
    for finding, (_, _, what) in zip(located, planted, strict=True):
        assert finding.case == "case-1"
        assert finding.where is not None
        start, end = finding.where.removeprefix("report[").removesuffix("]").split(":")
        assert text[int(start) : int(end)] == what
    assert total.message.startswith(f"{len(planted)} likely identifiers in 1 of 2 reports")
    shown = repr(findings) + json.dumps([finding.as_json() for finding in findings])
    # Short plain numbers may well be offsets.
    assert not [what for _, _, what in planted if what in shown and len(what) > 4]


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_searched(text: str) -> None:
    found = find_identifiers(text)
    assert all(0 <= f.start < f.end <= len(text) for f in found)
    assert all(a.end <= b.start for a, b in pairwise(found))


@pytest.mark.skipif(not REPORTS.is_file(), reason=f"no real reports: {REPORTS} is absent")
def test_real_reports_hold_what_was_counted_by_hand() -> None:
    entries = [json.loads(line) for line in REPORTS.read_text(encoding="utf-8").splitlines()]
    texts = {entry["id"]: entry["text"] for entry in entries}
    found = {name: find_identifiers(text) for name, text in texts.items()}
    # Every one was read in its sentence, and all are what they are taken for: dates of scans and
    # letters, numbers of pathology samples, and surrogates of names that anonymisation put in.
    kinds = Counter(f.kind for identifiers in found.values() for f in identifiers)
    assert kinds == {"date": 255, "number": 23, "name": 10}
    # The prostate reports among them are clean, though they are full of numbers.
    clean = ["rga_sample_1", "rga_sample_2", "rga_sample_3", "dragon_Task010_nl"]
    assert [found[name] for name in clean] == [()] * 4
    # Two dates of comparison and one of authorisation; a scan of the hip.
    assert [f.start for f in found["dragon_Task002_nl"]] == [190, 875, 905]
    assert [f.start for f in found["dragon_Task018_nl"]] == [267]
