"""Captions and classes from probabilities: the paper's rule, and the released departure."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxella_importers.captions import CaptionRule, Levels, caption, class_number, levels_told

PAPER = CaptionRule()
RELEASED = CaptionRule(released=True)
# Training in this process, before, has rounded subnormal numbers to 0.
probabilities = st.floats(0.0, 1.0, allow_subnormal=False)


@pytest.mark.parametrize(
    ("tumor", "til", "told"),
    [
        (0.9, 0.1, "high tumor; low til; a summary"),
        (0.5, 0.4999, "high tumor; low til; a summary"),
        (0.0, 1.0, "low tumor; high til; a summary"),
        (None, 0.7, "high til; a summary"),
        (0.2, None, "low tumor; a summary"),
        (None, None, "a summary"),
    ],
)
def test_caption_of_the_paper(tumor: float | None, til: float | None, told: str) -> None:
    assert caption(PAPER, tumor, til, " a summary\n") == told
    assert caption(RELEASED, tumor, til, "a summary") == told


def test_caption_without_summary_has_no_loose_end() -> None:
    assert caption(PAPER, 0.9, 0.9, "  ") == "high tumor; high til"
    assert caption(PAPER, None, None, "") == ""


@given(probabilities, st.integers(2, 4))
def test_even_levels_are_the_baseline_of_p_times_levels(p: float, levels: int) -> None:
    # The released floor(p x levels) has an index too many at 1.0; and it rounds below a step that
    # is no binary fraction, where ours does not.
    expected = min(math.floor(p * levels), levels - 1)
    found = CaptionRule.of(levels).level(p)
    assert found == expected or p * levels == pytest.approx(found, abs=1e-12)


def test_own_thresholds_and_names() -> None:
    rule = CaptionRule.of(3, (0.2, 0.9))
    assert [rule.level(p) for p in (0.19, 0.2, 0.89, 0.9)] == [0, 1, 1, 2]
    assert caption(rule, 0.5, 0.95, "") == "mid tumor; high til"


def test_one_rule_for_captions_and_classes_by_default() -> None:
    assert [class_number(PAPER, *p) for p in ((0, 0), (0, 0.5), (0.5, 0), (0.5, 0.5))] == [
        *(0, 1, 2, 3)
    ]
    assert class_number(PAPER, None, 0.5) is None
    assert class_number(CaptionRule.of(3), 1.0, 0.5) == 3 * 2 + 1


def test_released_classes_disagree_with_captions_at_the_threshold_alone() -> None:
    assert class_number(RELEASED, 0.5, 0.5) == 0  # whose caption says high and high
    assert class_number(RELEASED, 0.51, 0.5) == 2
    assert class_number(RELEASED, None, 0.9) == class_number(RELEASED, 0.9, None) == 4


@given(probabilities, probabilities)
def test_the_two_rules_agree_off_the_threshold(tumor: float, til: float) -> None:
    if 0.5 not in (tumor, til):
        assert class_number(RELEASED, tumor, til) == class_number(PAPER, tumor, til)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (CaptionRule.of(5), "2, 3, 4"),
        (CaptionRule.of(2, (0.2, 0.5)), "1 rising number"),
        (CaptionRule.of(3, (0.5, 0.2)), "2 rising number"),
        (CaptionRule.of(2, (1.0,)), "between 0 and 1"),
        (CaptionRule.of(3, released=True), "two levels"),
    ],
)
def test_faulty_rules_are_named(rule: CaptionRule, words: str) -> None:
    assert words in " ".join(rule.problems())


def test_sound_rules_have_no_problem() -> None:
    rules = [PAPER, RELEASED, CaptionRule.of(4), CaptionRule.of(2, (0.3,))]
    assert [rule.problems() for rule in rules] == [[]] * 4


def test_probabilities_outside_0_to_1_are_refused() -> None:
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="expected: 0 to 1"):
            caption(PAPER, wrong, None, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # As the released sampling notebook writes it.
        ("High tumor; low TIL;the tumor is large", Levels("high", "low")),
        ("low til; a high tumor; grade", Levels(None, "low")),
        ("a report of a high tumor; low til", Levels(None, None)),
        ("high tumor", Levels("high", None)),
        ("", Levels(None, None)),
    ],
)
def test_levels_are_read_back(text: str, told: Levels) -> None:
    assert levels_told(text, PAPER) == told


@given(probabilities, probabilities, st.integers(2, 4))
def test_what_is_written_is_what_is_read(tumor: float, til: float, levels: int) -> None:
    rule = CaptionRule.of(levels)
    told = levels_told(caption(rule, tumor, til, "high tumor; in the summary"), rule)
    assert told == Levels(rule.names[rule.level(tumor)], rule.names[rule.level(til)])
