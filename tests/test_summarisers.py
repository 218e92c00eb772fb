"""Summarisers: what they say of reports whose facts are known, and how they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import summary_facts
from hypothesis import given
from hypothesis import strategies as st

from voxella.errors import UserError
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Report, Summariser
from voxella_summarisers.extractive import summarise
from voxella_summarisers.statements import statements

REAL = Path(__file__).parents[2] / "shared/data/histology/reports_tcga_brca"
# As scanned reports come: a full stop at every line's end, the gross description as long again.
SCANNED = (
    "Specimen #: Race: WHITE. SPECIMEN: A: LEFT BREAST B: SENTINEL NODE. FINAL DIAGNOSIS: A. "
    "BREAST, LEFT, LUMPECTOMY: - INFILTRATING DUCTAL CARCINOMA. - NOTTINGHAM GRADE: MODERATELY "
    "DIFFERENTIATED (G2). - TUMOR SIZE: 1.7 CM (MEASURED GROSSLY). - DISTANCE OF TUMOR FROM "
    "NEAREST MARGIN IS 0.4 CM, FROM. SUPERFICIAL MARGIN. - LYMPH NODES: 2 OF 9 "
    "POSITIVE FOR METASTATIC. CARCINOMA. - ESTROGEN RECEPTOR: POSITIVE (80%). - PROGESTERONE "
    "RECEPTOR: NEGATIVE. - HER2: "
    "NEGATIVE (1+). GROSS DESCRIPTION: A. Received fresh is a 9.0 x 7.0 x 2.5 cm specimen of "
    "adipose tissue. Sections show a 1.9 cm firm mass. " + "The rest is unremarkable. " * 20
)


def built(name: str, **arguments: object) -> Summariser:
    made: Summariser = registry.build("summarisers", Component(name=name, **arguments))
    return made


def test_findings_of_the_diagnosis_are_kept_and_the_gross_description_is_not() -> None:
    summary = summarise(SCANNED)
    for told in (
        *("infiltrating ductal carcinoma", "moderately differentiated (g2)", "tumor size: 1.7 cm"),
        *("2 of 9 positive for metastatic", "estrogen receptor: positive (80%)"),
        *("progesterone receptor: negative", "her2: negative (1+)"),
    ):
        assert told in summary
    for left in ("9.0 x 7.0", "unremarkable", "measured grossly", "race", "specimen"):
        assert left not in summary
    assert len(summary.split()) <= 75


def test_what_a_line_end_cuts_is_joined() -> None:
    found = [statement.text for statement in statements(SCANNED)]
    assert any(text.endswith("0.4 CM, FROM SUPERFICIAL MARGIN") for text in found)


def test_sections_are_known() -> None:
    found = {statement.text: statement.section for statement in statements(SCANNED)}
    assert found["INFILTRATING DUCTAL CARCINOMA"] == "diagnosis"
    assert found["Sections show a 1.9 cm firm mass"] == "gross"
    assert {"other", "specimen", "diagnosis", "gross"} >= set(found.values())


def test_fewer_words_keep_what_weighs_most() -> None:
    short = summarise(SCANNED, words=12)
    assert len(short.split()) <= 12
    assert "infiltrating ductal carcinoma" in short
    assert "her2" not in short


def test_a_report_of_something_else_is_summarised_by_its_own_words() -> None:
    text = "Impression: A small lesion in the left lobe. The lesion of the left lobe is unchanged."
    assert "lesion" in summarise(text)


def test_nothing_has_an_empty_summary() -> None:
    assert summarise("") == summarise(" \n ") == ""


@given(st.text(max_size=400), st.integers(10, 75))
def test_any_text_gives_few_words_twice_the_same(text: str, words: int) -> None:
    summary = summarise(text, words=words)
    assert summary == summarise(text, words=words)
    assert len(summary.split()) <= words
    assert len(summary.splitlines()) <= 1


@pytest.mark.parametrize("variant", range(1, 5))
def test_variants_keep_the_first_topics(variant: int) -> None:
    summary = summarise(SCANNED, variant=variant)
    assert "infiltrating ductal carcinoma" in summary
    assert "progesterone receptor: negative" in summary


def test_no_report_stands_in_a_repr() -> None:
    assert "CARCINOMA" not in repr(Report("a", SCANNED))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real reports in ../shared/data")
def test_most_annotated_facts_of_real_reports_survive() -> None:
    counts = summary_facts.survival(REAL)
    found = sum(whole for _, whole, _ in counts.values())
    kept = sum(kept for _, _, kept in counts.values())
    assert found >= 120  # else the script finds nothing that could get lost
    assert kept >= 0.85 * found
    assert all(k >= 0.65 * whole for _, whole, k in counts.values())


def test_the_script_tells_facts_from_their_opposites() -> None:
    annotation = {
        "cancer_data": {
            "histology": "invasive_lobular_carcinoma",
            "tumor_size": 20,
            "grade": 1,
            "regional_lymph_node": [{"involved": 2, "examined": 9}],
            "biomarkers": [
                {"biomarker_category": "er", "expression": True},
                {"biomarker_category": "her2", "score": 1},
            ],
        }
    }
    tells = dict(summary_facts.facts(annotation))
    right = (
        "lobular carcinoma; well differentiated; size 2 cm; 2 of 9 nodes positive; estrogen "
        "receptor positive; her2 negative"
    )
    wrong = (
        "ductal carcinoma; grade III; size 12.0 cm; 2 of 19 nodes negative; estrogen receptor "
        "negative; her2 positive (3+)"
    )
    assert [tells[name](right) for name in tells] == [True] * 6
    assert [tells[name](wrong) for name in tells] == [False] * 6


def test_given_looks_up_by_id_with_variants(tmp_path: Path) -> None:
    table = tmp_path / "summaries.csv"
    table.write_text('slide,text\nb,"second, short"\na,one\na,"two\nlines"\n', encoding="utf-8")
    made = built("given", table=table, id_column="slide", summary_column="text")
    reports = [Report("a", "x"), Report("b", "y")]
    assert made(reports) == ["one", "second, short"]
    assert made(reports, variant=1) == ["two lines", "second, short"]


def test_given_reads_json_and_changes_its_fingerprint(tmp_path: Path) -> None:
    table = tmp_path / "summaries.json"
    table.write_text('{"a": ["one", "two"], "b": "three"}', encoding="utf-8")
    first = built("given", table=table)
    assert first([Report("b", ""), Report("a", "")], variant=3) == ["three", "two"]
    table.write_text('{"a": ["one", "other"]}', encoding="utf-8")
    assert built("given", table=table).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "id,summary\nb,text\n", "1 of 1 ids have no summary"),
        ("a.csv", "id,text\na,text\n", "no column summary"),
        ("a.csv", "id,summary\na," + "word " * 500 + "\n", "has 500 words"),
        ("a.json", "[]", "no summary in it"),
        ("a.json", '{"a": 1}', "neither a text nor a list"),
        ("a.json", "{", "no JSON"),
    ],
)
def test_faulty_tables_are_refused_without_their_texts(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words) as refused:
        built("given", table=tmp_path / name)([Report("a", "SECRET finding")])
    assert "SECRET" not in str(refused.value)
    assert "word word" not in str(refused.value)


def test_a_table_that_is_not_there() -> None:
    with pytest.raises(UserError, match="does not exist"):
        built("given", table=Path("nowhere.csv"))


def test_words_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="words is 3"):
        built("extractive", words=3)
