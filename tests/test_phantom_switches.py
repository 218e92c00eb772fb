"""The phantom's switches for conspicuity, and short reports: what they change and what not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella_importers.phantom.facts import CaseFacts, draw_facts
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.report import write_report
from voxella_importers.phantom.settings import GENERATION, PhantomSettings


def settings(**changes: object) -> PhantomSettings:
    importer = phantom(workers=1)
    assert isinstance(importer, PhantomImporter)
    return replace(importer.settings, **changes)  # type: ignore[arg-type]  # a test's shorthand


def easy() -> PhantomSettings:
    return settings(
        lesion_conspicuity=(0.9, 1.0),
        peripheral_share=1.0,
        lesion_size_mm=(14, 25),
        second_lesion_share=0.0,
        benign_focus_share=0.0,
        report_style="short",
    )


@pytest.fixture(scope="module")
def population() -> list[CaseFacts]:
    return [draw_facts(easy(), index) for index in range(200)]


def test_switches_that_are_off_change_no_data_set() -> None:
    """The hash is that of the settings as they were before there were switches."""
    given = settings()
    before = {
        key: value
        for key, value in given.as_json().items()
        if key
        not in {
            *("cases", "workers", "val_share", "test_share"),
            *("lesion_conspicuity", "peripheral_share", "report_style"),
        }
    }
    assert given.case_hash() == sha256_json({"generation": GENERATION, **before})
    assert settings(peripheral_share=0.5).case_hash() != given.case_hash()
    assert settings(report_style="short").case_hash() != given.case_hash()


def test_lesions_are_as_asked_for(population: list[CaseFacts]) -> None:
    lesions = [lesion for facts in population for lesion in facts.lesions]
    assert len(lesions) == sum(facts.true_class == "positive" for facts in population)
    assert {lesion.zone for lesion in lesions} == {"peripheral"}
    assert all(0.9 <= lesion.conspicuity <= 1.0 for lesion in lesions)
    # Small glands have no room for large ones.
    assert np.mean([lesion.size_mm >= 14 for lesion in lesions]) > 0.9
    assert {lesion.side for lesion in lesions} == {"left", "right"}


def test_a_share_of_peripheral_lesions_is_held() -> None:
    drawn = [draw_facts(settings(peripheral_share=0.0), index) for index in range(60)]
    assert {lesion.zone for facts in drawn for lesion in facts.lesions} == {"transition"}


def test_short_reports_say_volume_place_size_and_category(population: list[CaseFacts]) -> None:
    for facts in population:
        report = write_report(facts, "short")
        assert len(report.split()) < 45
        assert re.search(rf"\b{round(facts.patient.gland.volume_ml)} (ml|cc)", report)
        sides = set(re.findall(r"\b(left|right|midline)\b", report.lower()))
        assert sides == {lesion.side for lesion in facts.lesions}
        for lesion in facts.lesions:
            size = round(lesion.size_mm)
            assert f"{size} mm" in report or f"{size / 10:.1f} cm" in report
        found = re.search(r"PI-?RADS(?: v2\.1:)?[a-z ]* (\d)\b", report)
        assert found is not None
        assert int(found[1]) == facts.pirads


def test_a_short_report_is_a_function_of_its_facts(population: list[CaseFacts]) -> None:
    again = [write_report(facts, "short") for facts in population]
    assert again == [write_report(facts, "short") for facts in population]
    assert len(set(again)) > 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lesion_conspicuity": [0.2, 1.0]}, r"lesion_conspicuity is \[0.2, 1.0\]"),
        ({"lesion_conspicuity": [0.9]}, "lesion_conspicuity is"),
        ({"lesion_conspicuity": [1.0, 0.9]}, "lesion_conspicuity is"),
        ({"peripheral_share": 1.5}, "peripheral_share is 1.5"),
        ({"report_style": "long"}, "report_style is long; expected: free or short"),
    ],
)
def test_wrong_switches_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        phantom(**arguments)  # type: ignore[arg-type]  # wrong on purpose
