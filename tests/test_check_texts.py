"""Reports, labels and balance of a data set: every problem is found, none quotes a report."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import REPOSITORY
from torch import Tensor

from voxella.case import Case, Manifest
from voxella.check.balance import balance
from voxella.check.finding import Finding
from voxella.check.kinds_texts import TEXT_KINDS
from voxella.check.reports.texts import check_texts
from voxella.data.reports import read_reports
from voxella.errors import UserError
from voxella.hashing import sha256_bytes
from voxella_importers.phantom.facts import draw_facts
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.report import write_report
from voxella_importers.picai.marksheet import read_marksheet

DATA = REPOSITORY.parent / "shared" / "data"
CLASSES = ("negative", "positive")


def case(name: str, **fields: Any) -> Case:
    given = {"group": f"p-{name}", "images": {}, "label": "negative", **fields}
    return Case(id=name, **given)


def dataset(folder: Path, reports: Mapping[str, bytes | None], **fields: Any) -> list[Case]:
    """Cases with these reports on disk, all with the same other fields."""
    cases = []
    for name, data in reports.items():
        (folder / f"{name}.txt").write_bytes(data) if data is not None else None
        path = None if data is None else f"{name}.txt"
        cases.append(case(name, report=path, **fields))
    return cases


def found(findings: Sequence[Finding], *codes: str) -> list[tuple[str, str | None, str | None]]:
    return [(f.code, f.case, f.where) for f in findings if f.code in codes or not codes]


def problems(findings: Sequence[Finding]) -> list[tuple[str, str | None, str | None]]:
    """The findings but for those about the data set as a whole that are always there."""
    return [
        entry
        for entry in found(findings)
        if entry[0] not in {"split.balance", "split.class-missing", "report.pirads"}
    ]


class Counting:
    """Counts words; what a text encoder has to have for the check."""

    width = 1
    fingerprint = "counting"

    def __init__(self, count: Callable[[str], int] = lambda text: len(text.split())) -> None:
        self.count = count

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [self.count(text) for text in texts]

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        raise AssertionError("the check encodes nothing")


def test_a_clean_data_set_has_only_notes(tmp_path: Path) -> None:
    cases = dataset(tmp_path, {"a": b"PI-RADS 2, right."}) + dataset(
        tmp_path, {"b": b"PI-RADS 4, left."}, label="positive"
    )
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    assert found(findings) == [("report.pirads", None, None), ("split.balance", None, None)]
    assert findings[0].message.startswith("PI-RADS could be read for certain from 2 of 2 reports")


def test_every_finding_is_of_a_listed_kind_with_a_remedy_of_one_line() -> None:
    for code, kind in TEXT_KINDS.items():
        assert kind.severity in {"error", "warning", "note"}, code
        assert kind.meaning, code
        assert kind.remedy, code
        assert "\n" not in kind.meaning + kind.remedy, code


def test_bad_report_files_are_all_found_at_once(tmp_path: Path) -> None:
    reports: dict[str, bytes | None] = {
        "fine": "Ge\u00efnfiltreerd, 12 mm.\r\nEinde.".encode(),
        "none": None,
        "empty": b" \n\t\n",
        "latin": "Ge\u00efnfiltreerd.".encode("latin-1"),
        "garbled": "Ge\u00c3\u00afnfiltreerd \ufffd.".encode(),
        "control": b"Lesion\x00 here.",
    }
    cases = dataset(tmp_path, reports)
    cases.append(case("gone", report="gone.txt"))
    cases.append(case("folder", report="."))
    cases.append(case("impossible", report="a\0b"))
    cases.append(case("changed", report="fine.txt", report_sha256="0" * 64))
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    assert problems(findings) == [
        ("report.none", "none", None),
        ("report.empty", "empty", "report"),
        ("report.undecodable", "latin", "report"),
        ("report.garbled", "garbled", "report[2:4]"),
        ("report.garbled", "control", "report[6:7]"),
        ("report.missing", "gone", "report"),
        ("report.missing", "folder", "report"),
        ("report.missing", "impossible", "report"),
        ("report.changed", "changed", "report"),
        ("report.duplicate", "fine", "report"),
    ]
    latin = next(f for f in findings if f.code == "report.undecodable")
    assert "byte 2 of 14" in latin.message


def test_check_and_encode_judge_a_report_alike(tmp_path: Path) -> None:
    reports: dict[str, bytes | None] = {
        "bom": b"\xef\xbb\xbfLesion left.",
        "pdf": b"%PDF-1.4",
        "html": b"<p>Lesion</p>",
        "json": b'{"text": "Lesion"}',
        "nan": b"nan",
        "dash": b" -\n",
        "marks": b"___",
        "latin": "Läsion".encode("latin-1"),
        "fine": b"Lesion right.",
    }
    cases = dataset(tmp_path, reports)
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    assert found(findings, "report.document", "report.placeholder", "report.undecodable") == [
        ("report.document", "pdf", "report"),
        ("report.document", "html", "report"),
        ("report.document", "json", "report"),
        ("report.placeholder", "nan", "report"),
        ("report.placeholder", "dash", "report"),
        ("report.placeholder", "marks", "report"),
        ("report.undecodable", "latin", "report"),
    ]
    manifest = Manifest(tmp_path, cases)
    with pytest.raises(UserError) as caught:
        read_reports(manifest)
    # Errors of the check, and they alone, are refused.
    refused = {line.split(":")[0] for line in caught.value.problem.splitlines()}
    errors = {finding.case for finding in findings if finding.severity == "error"}
    assert refused == {f"case {name}" for name in errors} == {
        "case pdf", "case html", "case json", "case latin"
    }  # fmt: skip
    assert "sion" not in str(caught.value)
    texts = read_reports(manifest, without=["pdf", "html", "json", "latin"])
    assert texts == {
        "bom": "Lesion left.", "dash": "", "fine": "Lesion right.", "marks": "", "nan": "",
    }  # fmt: skip


def test_markers_of_de_identification_are_located_and_counted(tmp_path: Path) -> None:
    reports: dict[str, bytes | None] = {
        "a": b"Seen by ___ on [DATE]. Lesion.",
        "b": b"Dr. XXXX reports: none.",
        "c": b"Lesion left.",
    }
    cases = dataset(tmp_path, reports)
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    marks = [finding for finding in findings if finding.code == "report.markers"]
    assert [(f.case, f.where) for f in marks] == [
        ("a", "report[8:11]"), ("b", "report[4:8]"), (None, None),
    ]  # fmt: skip
    assert marks[-1].message == "3 de-identification marks in 2 of 3 reports"
    assert "text.replace_markers=true" in marks[0].remedy
    replaced = check_texts(tmp_path, cases, classes=CLASSES, replace_markers=True)
    assert not found(replaced, "report.markers")


def test_reports_that_end_where_a_limit_lies_are_told(tmp_path: Path) -> None:
    words = ("Prostate lesion left, " * 400).encode()
    reports: dict[str, bytes | None] = {
        "excel": words[:32_767].ljust(32_767, b"x"),
        "column": words[:255],
        "whole": words[:254] + b".",
        "long": words[:300],
    }
    findings = check_texts(tmp_path, dataset(tmp_path, reports), classes=CLASSES)
    cut = [name for _, name, _ in found(findings, "report.cut")]
    assert cut == ["excel", "column"]
    # Whatever the limit: three different reports do not end at the same character by chance.
    alike = {f"c{n}": f"{n}{'abcd ' * 100}".encode()[:310] for n in range(3)}
    findings = check_texts(tmp_path, dataset(tmp_path, alike), classes=CLASSES)
    assert [name for _, name, _ in found(findings, "report.cut")] == ["c0", "c1", "c2"]


def test_words_that_an_encoder_does_not_know_are_counted(tmp_path: Path) -> None:
    class Knowing(Counting):
        def unknown_counts(self, texts: Sequence[str]) -> list[int]:
            return [sum(not word.isascii() for word in text.split()) for text in texts]

    reports: dict[str, bytes | None] = {
        "el": "Βλάβη left αριστερή".encode(), "en": b"Lesion left."
    }  # fmt: skip
    cases = dataset(tmp_path, reports)
    findings = check_texts(tmp_path, cases, classes=CLASSES, encoder=Knowing(), max_tokens=9)
    told = [(f.case, f.message) for f in findings if f.code == "report.unknown-words"]
    assert told == [
        ("el", "2 of 3 tokens stand for words or signs that are unknown"),
        (None, "1 of 2 reports lose words or signs that the text encoder does not know, 2 in all"),
    ]


def test_patients_who_may_be_one_are_told_without_their_ids(tmp_path: Path) -> None:
    cases = [
        case("a", group="P007"),
        case("b", group="p 7", split="test"),
        case("c", group="P8\u200b"),
        case("d", group="P9"),
        case("e", group="nan"),
        case("f", group=" "),
    ]
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    told = [f for f in findings if f.code.startswith("patient.")]
    assert [(f.code, f.case) for f in told] == [
        ("patient.alike", "a"),
        *(("patient.form", name) for name in "cef"),
    ]
    assert "says nothing" in told[-1].message
    assert told[0].message.endswith("1 other patients, over the splits test, train: b")
    assert "P00" not in repr(told)


def test_an_unchanged_report_has_its_hash(tmp_path: Path) -> None:
    cases = dataset(tmp_path, {"a": b"Text."}, report_sha256=sha256_bytes(b"Text."))
    assert not found(check_texts(tmp_path, cases, classes=CLASSES), "report.changed")


def test_a_data_set_without_reports_is_told_once(tmp_path: Path) -> None:
    cases = [case(f"c{n}", label=None) for n in range(30)]
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    assert problems(findings) == [("report.none", None, None), ("label.missing", None, None)]


def test_offsets_are_those_of_text_read_as_text(tmp_path: Path) -> None:
    cases = dataset(tmp_path, {"a": b"One.\r\nTwo.\r\nSeen 12-03-2021, \xc3\xa9.\r\n"})
    finding = check_texts(tmp_path, cases, classes=CLASSES)[0]
    text = (tmp_path / "a.txt").read_text(encoding="utf-8")
    start = text.index("12-03-2021")
    assert (finding.code, finding.where) == ("report.identifier", f"report[{start}:{start + 10}]")


def test_duplicates_are_grouped_and_splits_told(tmp_path: Path) -> None:
    same = {"a": b"Lesion  left.\n", "b": b"Lesion left.", "c": b"Lesion right."}
    cases = dataset(tmp_path, same)
    cases += dataset(tmp_path, {"d": b"Lesion\nleft."}, split="test")
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    (duplicate,) = (f for f in findings if f.code == "report.duplicate")
    assert duplicate.case == "a"
    assert duplicate.message == (
        "2 more cases have this report, word for word, over the splits test, train: b, d"
    )


@pytest.mark.parametrize(("truncation", "end"), [("right", "end"), ("left", "beginning")])
def test_reports_beyond_the_limit_are_counted(tmp_path: Path, truncation: str, end: str) -> None:
    reports = {f"c{n}": b"word " * n for n in (1, 4, 5, 10)}
    findings = check_texts(
        tmp_path,
        dataset(tmp_path, reports),
        classes=CLASSES,
        encoder=Counting(),
        max_tokens=4,
        truncation=truncation,
    )
    cut = [(f.case, f.message) for f in findings if f.code == "report.truncated"]
    assert cut == [
        ("c5", f"1 of 5 tokens (20%) are cut from the report's {end}"),
        ("c10", f"6 of 10 tokens (60%) are cut from the report's {end}"),
        (
            None,
            f"2 of 4 reports exceed 4 tokens; 7 of 20 tokens are cut from their {end}; "
            "the longest has 10",
        ),
    ]


def test_an_encoder_that_fails_is_told_by_case_and_its_message_withheld(tmp_path: Path) -> None:
    def count(text: str) -> int:
        if "Zyxw" in text:
            raise KeyError(text)
        return 9

    cases = dataset(tmp_path, {"a": b"Fine.", "b": b"Zyxw lesion.", "c": b"Fine as well."})
    findings = check_texts(tmp_path, cases, classes=CLASSES, encoder=Counting(count), max_tokens=5)
    assert found(findings, "report.tokens", "report.truncated") == [
        ("report.tokens", "b", "report"),
        ("report.truncated", "a", "report"),
        ("report.truncated", "c", "report"),
        ("report.truncated", None, None),
    ]
    assert "KeyError" in repr(findings)
    assert "Zyxw" not in repr(findings)


def test_an_encoder_that_tells_the_user_something_is_heard(tmp_path: Path) -> None:
    def count(text: str) -> int:
        raise UserError("no weights here")

    cases = dataset(tmp_path, {"a": b"Fine."})
    with pytest.raises(UserError, match="no weights"):
        check_texts(tmp_path, cases, classes=CLASSES, encoder=Counting(count), max_tokens=5)


@pytest.mark.parametrize(
    ("label", "source", "extra", "expected"),
    [
        ("positive", "pirads", {"pirads": 3}, []),
        ("positive", "pirads", {"pirads": 2}, ["label.table"]),
        ("negative", "pirads", {"pirads": 2, "isup": 0}, []),
        # held to the source it names: PI-RADS 4 with a benign biopsy is nothing special
        ("positive", "pirads", {"pirads": 4, "isup": 0}, []),
        ("negative", "isup", {"pirads": 4, "isup": 0}, []),
        ("negative", "isup", {"isup": 2}, ["label.table"]),
        ("positive", "isup", {"isup": 1, "pirads": 5}, ["label.table"]),
        ("negative", "pirads", {"pirads": 2, "isup": 3}, ["label.grade"]),
        ("positive", "isup", {"pirads": 2, "isup": 3}, ["label.grade"]),
        # of another source: enough that one score gives it
        ("positive", "table", {"pirads": 2, "isup": 3}, ["label.grade"]),
        ("positive", "table", {"pirads": 4, "isup": 0}, []),
        ("positive", None, {"pirads": 2, "isup": 0}, ["label.table"]),
        ("negative", "table", {"lesion_PIRADS": "2,N/A,4"}, ["label.table"]),
        ("positive", "table", {"PI-RADS": "2.0,4.0"}, []),
        ("positive", "table", {"pirads": None, "isup": "N/A"}, []),
        ("positive", "table", {"pirads": 7}, ["label.value"]),
        ("positive", "table", {"isup": "two"}, ["label.value"]),
        ("positive", "table", {"pirads": 0, "case_ISUP": 0}, ["label.value", "label.table"]),
        (None, None, {"pirads": 4}, ["label.missing"]),
        ("maybe", "table", {"pirads": 4}, ["label.unknown"]),
    ],
)
def test_labels_against_the_table(
    tmp_path: Path,
    label: str | None,
    source: str | None,
    extra: dict[str, Any],
    expected: list[str],
) -> None:
    cases = [case("other"), case("a", label=label, label_source=source, extra=extra)]
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    assert [f.code for f in findings if f.code.startswith("label.")] == expected
    assert "maybe" not in repr(findings)


REPORT = b"Focus left, PI-RADS 4."


@pytest.mark.parametrize(
    ("label", "source", "classes", "expected"),
    [
        ("negative", "table", CLASSES, True),
        ("negative", "pirads", CLASSES, True),
        ("positive", "table", CLASSES, False),
        ("negative", "isup", CLASSES, False),
        (None, None, CLASSES, False),
        ("benign", "table", ("benign", "cancer"), True),
        # the names decide where they say another order
        ("positive", "table", ("positive", "negative"), False),
        ("negative", "table", ("positive", "negative"), True),
        ("negative", "table", ("negative", "unclear", "positive"), False),
    ],
)
def test_labels_against_the_report(
    tmp_path: Path, label: str | None, source: str | None, classes: tuple[str, ...], expected: bool
) -> None:
    cases = dataset(tmp_path, {"a": REPORT}, label=label, label_source=source)
    findings = check_texts(tmp_path, cases, classes=classes)
    against = found(findings, "label.report")
    assert against == ([("label.report", "a", "report[20:21]")] if expected else [])


def test_an_uncertain_report_says_nothing_against_a_label(tmp_path: Path) -> None:
    reports = {
        "a": b"No PI-RADS 4 lesion.",
        "b": b"Known PI-RADS 4 focus.",
    }
    findings = check_texts(tmp_path, dataset(tmp_path, reports), classes=CLASSES)
    assert not found(findings, "label.report")
    assert "0 of 2 reports" in next(f.message for f in findings if f.code == "report.pirads")


def test_exactly_the_noisy_labels_of_phantoms_are_found(tmp_path: Path) -> None:
    importer = phantom(cases=300, seed=5, label_noise=0.1, missing_reports=0.2)
    settings_ = importer.settings  # type: ignore[attr-defined] # any Importer
    cases, noisy = [], []
    for index in range(300):
        facts = draw_facts(settings_, index)
        fields: dict[str, Any] = {"label": facts.label, "label_source": "phantom"}
        report = write_report(facts).encode() if facts.has_report else None
        cases += dataset(tmp_path, {facts.id: report}, **fields)
        if facts.has_report and facts.label != facts.true_class:
            noisy.append(facts.id)
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    assert 15 <= len(noisy) <= 35
    assert [f.case for f in findings if f.code == "label.report"] == noisy
    # Phantom reports are full of numbers and none of them is an identifier.
    assert not found(findings, "report.identifier", "report.garbled")


def test_balance_counts_by_split_site_and_class() -> None:
    cases = [
        case("a", extra={"site": "north"}),
        case("b", extra={"center": "south"}, label="positive", split="test"),
        case("c", extra={"site": "north"}, label=None),
        case("d", label="odd"),
    ]
    assert balance(cases, CLASSES) == {
        "classes": ["negative", "positive"],
        "all": table(4, 1, 1, other=1, unlabelled=1),
        "splits": {"train": table(3, 1, 0, other=1, unlabelled=1), "test": table(1, 0, 1)},
        "sites": {"north": table(2, 1, 0, unlabelled=1), "south": table(1, 0, 1)},
        "splits_by_site": {
            "train": {"north": table(2, 1, 0, unlabelled=1), "south": table(0, 0, 0)},
            "test": {"north": table(0, 0, 0), "south": table(1, 0, 1)},
        },
    }
    assert json.loads(json.dumps(balance(cases))) == balance(cases)
    assert balance(cases)["classes"] == ["negative", "odd", "positive"]


def table(
    cases: int, negative: int, positive: int, other: int = 0, unlabelled: int = 0
) -> dict[str, Any]:
    labels = {"negative": negative, "positive": positive, "unlabelled": unlabelled, "other": other}
    return {"cases": cases, "labels": labels}


def test_missing_and_rare_classes_and_one_class_sites_are_told(tmp_path: Path) -> None:
    cases = [case(f"n{i}", extra={"site": "one" if i < 12 else "two"}) for i in range(30)]
    cases += [case(f"p{i}", label="positive", extra={"site": "two"}) for i in range(3)]
    cases += [case("v0", split="val")]
    findings = check_texts(tmp_path, cases, classes=CLASSES)
    told = [(f.code, f.message) for f in findings if f.code.startswith(("split.", "site."))]
    assert told == [
        (
            "split.balance",
            "train: 33 cases, 30 negative, 3 positive; one: 12 negative, 0 positive; "
            "two: 18 negative, 3 positive",
        ),
        ("split.class-rare", "split train: 3 of 33 cases are positive (9.1%)"),
        (
            "split.balance",
            "val: 1 cases, 1 negative, 0 positive; one: 0 negative, 0 positive; "
            "two: 0 negative, 0 positive",
        ),
        ("split.class-missing", "split val has no positive case among 1 labelled"),
        ("site.one-class", "all 12 labelled cases of site one are negative"),
    ]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=80), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_no_finding_holds_any_text_of_a_report(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "held"
    folder.mkdir(exist_ok=True)
    secret = "Qzxjv Wkyfb"
    reports = {
        f"c{n}": f"Dr. {secret}: {text}\n\nPI-RADS 4.\n\n{secret}@x.nl 12-03-1987.".encode()
        for n, text in enumerate(texts)
    }
    reports["bad"] = f"{secret} \xff".encode("latin-1")
    cases = dataset(folder, reports)
    findings = check_texts(folder, cases, classes=CLASSES, encoder=Counting(), max_tokens=2)
    shown = repr(findings) + json.dumps([finding.as_json() for finding in findings])
    assert {"report.identifier", "label.report", "report.truncated"} <= {f.code for f in findings}
    for part in ("Qzxjv", "Wkyfb", "1987", "@x.nl"):
        assert part not in shown


@pytest.mark.skipif(not (DATA / "reports").is_dir(), reason=f"no real reports: {DATA} is absent")
def test_real_reports_against_the_limit_of_a_real_tokenizer(tmp_path: Path) -> None:
    pieces = pytest.importorskip("sentencepiece").SentencePieceProcessor(
        model_file=str(DATA / "tokenizers" / "torchtune" / "sentencepiece.model")
    )
    lines = (DATA / "reports" / "reports_sample.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    # T5 adds one token, the end of the text.
    tokens = {e["id"]: len(pieces.encode(e["text"])) + 1 for e in entries}
    cases = dataset(tmp_path, {e["id"]: e["text"].encode() for e in entries})
    encoder = Counting(lambda text: len(pieces.encode(text)) + 1)
    findings = check_texts(tmp_path, cases, classes=CLASSES, encoder=encoder, max_tokens=512)
    cut = {f.case for f in findings if f.code == "report.truncated"} - {None}
    # Some entries are lists of words in JSON: no plain text, and so not counted.
    lists = {e["id"] for e in entries if e["text"].lstrip().startswith("[")}
    assert {f.case for f in findings if f.code == "report.document"} == lists
    assert cut == {name for name, count in tokens.items() if count > 512} - lists
    # Two of the three Dutch prostate reports exceed the paper's limit.
    assert {name for name in cut if str(name).startswith("rga")} == {"rga_sample_1", "rga_sample_2"}
    # 132 reports, of which 111 are distinct; but for the lists.
    kept = [" ".join(e["text"].split()) for e in entries if e["id"] not in lists]
    assert (len(entries), len({" ".join(e["text"].split()) for e in entries})) == (132, 111)
    duplicates = [f for f in findings if f.code == "report.duplicate"]
    assert sum(int(f.message.split()[0]) for f in duplicates) == len(kept) - len({*kept})
    assert not found(findings, "report.empty", "report.undecodable", "report.missing")


@pytest.mark.skipif(not (DATA / "picai").is_dir(), reason=f"no marksheet: {DATA} is absent")
def test_the_official_marksheet_agrees_with_labels_made_from_it(tmp_path: Path) -> None:
    labels = DATA / "picai" / "picai_labels"
    marks = read_marksheet(labels)
    cases = [
        case(
            name,
            label=CLASSES[int((mark.pirads or 0) >= 3)],
            label_source="pirads",
            extra=mark.facts,
        )
        for name, mark in marks.items()
    ]
    codes = Counter(f.code for f in check_texts(tmp_path, cases, classes=CLASSES))
    # Eight significant cancers have no lesion above PI-RADS 2.
    assert (codes["label.table"], codes["label.value"], codes["label.grade"]) == (0, 0, 8)
    with (labels / "clinical_information" / "marksheet.csv").open(newline="") as handle:
        centers = Counter(row["center"] for row in csv.DictReader(handle))
    counted = balance(cases, CLASSES)
    assert {site: entry["cases"] for site, entry in counted["sites"].items()} == centers
    # Highest PI-RADS 1 and 2 in 137 and 479 of the 1500 studies.
    assert counted["all"]["labels"]["negative"] == 137 + 479
    flipped = [c.model_copy(update={"label": CLASSES[c.label == "negative"]}) for c in cases]
    codes = Counter(f.code for f in check_texts(tmp_path, flipped, classes=CLASSES))
    assert codes["label.table"] == 1500
