"""``voxella summarise``: each report once, kept by hash, counted against the encoder's tokens."""

from __future__ import annotations

import csv
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.data.summaries import summarise_reports
from voxella.hashing import sha256_bytes
from voxella.plugins.contracts import Report

REPORT = "FINAL DIAGNOSIS: - INVASIVE LOBULAR CARCINOMA. - TUMOR SIZE: {size} CM. - HER2: NEGATIVE."
CLIP = Path(__file__).parents[2] / "shared/data/histology/tokenizer_clip"


def dataset(folder: Path, reports: Sequence[tuple[str, str]]) -> Manifest:
    """Write a case per (patient, report); an empty report is none."""
    cases = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, (patient, text) in enumerate(reports):
        name = f"r{number}.txt"
        (folder / name).write_text(text, encoding="utf-8")
        known = {"report": name, "report_sha256": sha256_bytes(text.encode())} if text else {}
        given = {"id": f"c{number}", "group": patient, "images": {"he": "a.png"}, **known}
        cases.append(Case.model_validate(given))
    manifest = Manifest(folder, cases)
    manifest.write()
    return manifest


def table(out: Path) -> list[dict[str, str]]:
    with (out / "summaries.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Counting:
    """A summariser that says how often it was asked."""

    fingerprint, words = "counting 1", 9

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
        self.asked += [(report.id, variant) for report in reports]
        return [f"summary {variant} of {report.text[-6:]}" for report in reports]


def test_one_report_of_a_slide_is_summarised_once(tmp_path: Path) -> None:
    one, two = REPORT.format(size="1.0"), REPORT.format(size="2.0")
    made = dataset(tmp_path / "d", [("s1", one), ("s1", one), ("s2", two), ("s2", one), ("s3", "")])
    asked = Counting()
    done = summarise_reports(made, asked, tmp_path / "out", variants=2)
    # s2's cases differ, so they go by their own ids; c3 has the report of s1, asked for already.
    assert asked.asked == [("s1", 0), ("s1", 1), ("c2", 0), ("c2", 1)]
    assert (done.reports, done.without, done.too_long) == (3, 1, ())
    rows = table(tmp_path / "out")
    assert [(row["id"], row["variant"]) for row in rows] == [
        (name, str(variant)) for name in ("s1", "c2", "c3") for variant in range(2)
    ]


def test_what_is_there_is_kept_and_a_changed_report_is_made_again(tmp_path: Path) -> None:
    reports = [(f"s{n}", REPORT.format(size=n)) for n in range(5)]
    summarise_reports(dataset(tmp_path / "d", reports), Counting(), tmp_path / "out")
    reports[2] = ("s2", REPORT.format(size="9.9"))
    again = Counting()
    done = summarise_reports(dataset(tmp_path / "d", reports), again, tmp_path / "out")
    assert again.asked == [("s2", 0)]
    assert (done.made, done.kept) == (1, 4)
    other = Counting()
    other.fingerprint = "counting 2"
    summarise_reports(dataset(tmp_path / "d", reports), other, tmp_path / "out")
    assert len(other.asked) == 5


def test_a_stop_costs_little(tmp_path: Path) -> None:
    reports = [(f"s{n}", REPORT.format(size=n)) for n in range(20)]

    class Stopping(Counting):
        def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
            if len(self.asked) == 18:
                raise KeyboardInterrupt
            return super().__call__(reports, variant=variant)

    made = dataset(tmp_path / "d", reports)
    with pytest.raises(KeyboardInterrupt):
        summarise_reports(made, Stopping(), tmp_path / "out")
    again = Counting()
    summarise_reports(made, again, tmp_path / "out")
    assert [name for name, _ in again.asked] == ["s16", "s17", "s18", "s19"]


def test_long_ones_are_listed_by_id(tmp_path: Path) -> None:
    reports = [("short", "a b"), ("long", "a b c d e f")]
    done = summarise_reports(
        dataset(tmp_path / "d", reports), Counting(), tmp_path / "out",
        count_tokens=lambda text: len(text), max_tokens=22, prefix="",
    )  # fmt: skip
    assert done.too_long == ()
    done = summarise_reports(
        dataset(tmp_path / "d", reports), Counting(), tmp_path / "out",
        count_tokens=lambda text: len(text), max_tokens=22, prefix="pre; ",
    )  # fmt: skip
    assert done.too_long == ("long",)
    assert (tmp_path / "out/too_long.txt").read_text() == "long\n"


def test_command_writes_what_given_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "d", tmp_path / "out"
    dataset(data, [("s1", REPORT.format(size="1.0"))])
    assert main(["summarise", str(data), "--out", str(out)]) == 0
    (row,) = table(out)
    assert "invasive lobular carcinoma" in row["summary"]
    assert stat.S_IMODE((out / "summaries.csv").stat().st_mode) == 0o600
    given = ["--summariser", "given", "--set", f"table={out / 'summaries.csv'}"]
    assert main(["summarise", str(data), "--out", str(tmp_path / "again"), *given]) == 0
    assert table(tmp_path / "again")[0]["summary"] == row["summary"]
    said = "".join(capsys.readouterr())
    assert "1 reports, 1 summaries made" in said
    assert "lobular" not in said.lower()


@pytest.mark.skipif(not CLIP.is_dir(), reason="no tokenizer in ../shared/data")
def test_command_counts_clips_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "d"
    dataset(data, [("s1", REPORT.format(size="1.0"))])
    options = ["--tokenizer", str(CLIP), "--prefix", "high tumor; low til; ", "--max-tokens", "20"]
    assert main(["summarise", str(data), "--out", str(tmp_path / "out"), *options]) == 0
    assert "1 are longer than 20 tokens and would be cut: s1" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--summariser", "nobody"], "nobody"),
        (["--variants", "0"], "variants is 0"),
        (["--set", "words=1"], "words is 1"),
        (["--tokenizer", "nowhere"], "holds no tokenizer"),
        (["--allow-network"], "allow_network"),
        (
            ["--summariser", "endpoint", "--set", "url=http://example.org/v1", "--set", "model=m"],
            "is not this machine",
        ),
    ],
)
def test_mistakes_are_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    dataset(tmp_path / "d", [("s1", REPORT.format(size="1.0"))])
    assert main(["summarise", str(tmp_path / "d"), "--out", str(tmp_path / "o"), *options]) == 2
    assert words in capsys.readouterr().err


def test_no_report_and_a_strange_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "none", [("s1", "")])
    assert main(["summarise", str(tmp_path / "none"), "--out", str(tmp_path / "o")]) == 2
    assert "none of its 1 cases has a report" in capsys.readouterr().err
    dataset(tmp_path / "d", [("s1", "text")])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/summaries.csv").write_text("a,b\n1,2\n")
    assert main(["summarise", str(tmp_path / "d"), "--out", str(tmp_path / "mine")]) == 2
    assert "no table of summaries" in capsys.readouterr().err
    assert (tmp_path / "mine/summaries.csv").read_text() == "a,b\n1,2\n"
