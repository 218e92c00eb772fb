"""What every summariser has to hold."""

from __future__ import annotations

from typing import ClassVar

from voxella.plugins.contracts import Report, Summariser
from voxella.testing.contract import Contract

__all__ = ["SummariserContract"]

_FIRST = (
    "FINAL DIAGNOSIS: BREAST, LEFT, LUMPECTOMY: - INFILTRATING DUCTAL CARCINOMA. - NOTTINGHAM "
    "GRADE: 2. - TUMOR SIZE: 1.8 CM. - LYMPH NODES: 0 OF 3 POSITIVE. - MARGINS: NEGATIVE."
)
_SECOND = "Impression: a small lesion in the left lobe, unchanged since the last examination."
_LONG = " ".join(f"Lesion {number} measures {number} mm." for number in range(1, 80))


class SummariserContract(Contract):
    """One line per report, in order, the same every time, no longer than it says."""

    kind: ClassVar[str] = "summarisers"

    def summariser(self) -> Summariser:
        """Build the summariser."""
        made: Summariser = self.build()
        return made

    def test_attributes_describe_it(self) -> None:
        """Its fingerprint is a word, the same twice; words is a number of words."""
        made = self.summariser()
        assert isinstance(made.fingerprint, str), "fingerprint is no string"
        assert made.fingerprint, "fingerprint is empty"
        assert made.fingerprint == self.summariser().fingerprint, "two builds, two fingerprints"
        assert isinstance(made.words, int), "words is no whole number"
        assert made.words > 0, f"words is {made.words}"

    def test_one_summary_per_report(self) -> None:
        """As many lines of text as reports, none of them empty."""
        reports = [Report("a", _FIRST), Report("b", _SECOND)]
        summaries = self.summariser()(reports)
        assert len(summaries) == len(reports), f"{len(summaries)} summaries of 2 reports"
        for summary in summaries:
            assert isinstance(summary, str), f"{type(summary).__name__} is no text"
            assert summary.strip(), "a summary is empty"
            assert len(summary.splitlines()) == 1, "a summary has several lines"

    def test_a_report_alone_equals_the_report_in_a_batch(self) -> None:
        """What stands beside a report changes nothing."""
        reports = [Report("a", _FIRST), Report("b", _SECOND)]
        together = self.summariser()(reports)
        alone = [self.summariser()([report])[0] for report in reports]
        assert together == alone, "a report alone has another summary than in a batch"

    def test_summarising_is_deterministic(self) -> None:
        """The same report and variant give the same summary, in another object too."""
        made = self.summariser()
        for variant in (0, 1):
            once = made([Report("a", _FIRST)], variant=variant)
            again = made([Report("a", _FIRST)], variant=variant)
            assert once == again, f"called twice with variant {variant}, it says another thing"
            other = self.summariser()([Report("a", _FIRST)], variant=variant)
            assert once == other, f"built twice, it says another thing of variant {variant}"

    def test_summaries_are_short(self) -> None:
        """A long report has no more than ``words`` words."""
        made = self.summariser()
        count = len(made([Report("a", _LONG)])[0].split())
        assert count <= made.words, f"{count} words, and it says {made.words}"
