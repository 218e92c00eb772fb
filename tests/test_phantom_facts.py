"""Facts, reports and splits of the phantom, without rendering a voxel."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from voxella.case import Split
from voxella.errors import UserError
from voxella_importers.phantom import lesion_wording, wording
from voxella_importers.phantom.facts import CaseFacts, draw_facts, patient_of
from voxella_importers.phantom.gland import Gland
from voxella_importers.phantom.importer import PhantomImporter, split_of
from voxella_importers.phantom.lesions import pirads
from voxella_importers.phantom.plugin import phantom, voxella_factory
from voxella_importers.phantom.report import write_report
from voxella_importers.phantom.settings import PhantomSettings

LEVEL_WORDS = {
    "base": r"\b(base|basal third)\b",
    "mid": r"\b(mid-gland|midgland|middle third)\b",
    "apex": r"\b(apex|apical third)\b",
}
ZONE_WORDS = {"peripheral": r"peripheral zone|\bPZ\b", "transition": r"transition(al)? zone|\bTZ\b"}


def settings(**changes: object) -> PhantomSettings:
    importer = phantom(workers=1)
    assert isinstance(importer, PhantomImporter)
    return replace(importer.settings, **changes)  # type: ignore[arg-type]  # a test's shorthand


@pytest.fixture(scope="module")
def population() -> list[CaseFacts]:
    return [draw_facts(settings(), index) for index in range(300)]


def test_shares_over_300_cases(population: list[CaseFacts]) -> None:
    # Weyl sequences hold a share to about log(n) / n, so one per cent is generous.
    assert sum(case.true_class == "positive" for case in population) == pytest.approx(150, abs=3)
    assert sum(not case.has_report for case in population) == pytest.approx(45, abs=3)
    noisy = [case.label != case.true_class for case in population]
    assert sum(noisy) == pytest.approx(15, abs=3)
    positives = [case for case in population if case.true_class == "positive"]
    # The questions are independent: half of the missing reports are of positive cases.
    assert sum(not case.has_report for case in positives) == pytest.approx(22.5, abs=7)


def test_shares_can_be_switched_off_and_on() -> None:
    none = settings(
        positive_share=0.0, missing_reports=0.0, label_noise=0.0, benign_focus_share=0.0
    )
    every = settings(positive_share=1.0, missing_reports=1.0, label_noise=1.0)
    for index in range(20):
        quiet, loud = draw_facts(none, index), draw_facts(every, index)
        assert (quiet.true_class, quiet.label, quiet.has_report) == ("negative", "negative", True)
        assert quiet.lesions == ()
        assert (loud.true_class, loud.label, loud.has_report) == ("positive", "negative", False)


def test_class_follows_pirads(population: list[CaseFacts]) -> None:
    for case in population:
        for lesion in case.lesions:
            assert lesion.pirads == pirads(lesion.conspicuity, lesion.size_mm)
            assert 5 <= lesion.size_mm <= 25
        assert len(case.lesions) <= 2
        assert case.true_class == ("positive" if case.pirads >= 3 else "negative")
    assert set(Counter(case.pirads for case in population)) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("conspicuity", "size", "category"),
    [(0.1, 20, 1), (0.3, 20, 2), (0.5, 20, 3), (0.8, 14, 4), (0.8, 15, 5), (0.61, 25, 5)],
)
def test_pirads_parts_four_from_five_at_15_mm(conspicuity: float, size: int, category: int) -> None:
    # PI-RADS v2.1: category 5 is a category 4 lesion of 15 mm or more.
    assert pirads(conspicuity, size) == category


def test_a_positive_case_always_gets_its_lesion() -> None:
    huge = settings(positive_share=1.0, lesion_size_mm=(25, 25), second_lesion_share=1.0)
    cases = [draw_facts(huge, index) for index in range(24)]
    assert all(case.true_class == "positive" for case in cases)
    assert any(case.lesions[0].size_mm < 25 for case in cases)  # small glands have no room


def test_lesions_lie_on_their_side_in_their_zone_and_third(population: list[CaseFacts]) -> None:
    codes = {"peripheral": 1, "transition": 2}
    for case in population:
        for lesion in case.lesions:
            x, _, z = lesion.centre
            gland = case.patient.gland
            assert {"right": x > 3, "left": x < -3, "midline": abs(x) < 2}[lesion.side]
            assert gland.zone(np.array([lesion.centre]))[0] == codes[lesion.zone]
            third = gland.c / 3
            assert lesion.level == ("base" if z > third else "apex" if z < -third else "mid")


def test_two_lesions_never_merge(population: list[CaseFacts]) -> None:
    pairs = [case.lesions for case in population if len(case.lesions) == 2]
    assert len(pairs) > 15
    for first, second in pairs:
        gap = np.linalg.norm(np.subtract(first.centre, second.centre))
        assert gap > (first.size_mm + second.size_mm) / 2


def test_gland_volume_is_exact() -> None:
    gland = Gland.of_volume(
        60.0, depth=0.75, height=0.9, taper=0.2, bend=0.2, transition=0.75, asymmetry=0.0
    )
    assert gland.volume_ml == pytest.approx(60.0)
    # Independently: count a fine lattice.
    axis = np.arange(-45.0, 45.0, 0.75)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    counted = np.count_nonzero(gland.zone(points)) * 0.75**3 / 1000
    assert counted == pytest.approx(60.0, rel=0.01)


def test_a_case_depends_on_seed_and_index_alone() -> None:
    assert draw_facts(settings(cases=3), 2) == draw_facts(settings(cases=900), 2)
    assert draw_facts(settings(seed=1), 2) != draw_facts(settings(seed=2), 2)
    assert draw_facts(settings(), 2) != draw_facts(settings(), 3)


def test_some_patients_come_twice_and_look_the_same() -> None:
    twice = [n for n in range(1, 300) if patient_of(0, n) == patient_of(0, n - 1)]
    assert 5 <= len(twice) <= 40
    first, second = draw_facts(settings(), twice[0] - 1), draw_facts(settings(), twice[0])
    assert first.patient == second.patient
    assert first.scan != second.scan


def test_splits_are_by_patient_and_every_six_cases_hold_all() -> None:
    for seed in range(30):
        splits = [split_of(seed, n, val_share=0.1, test_share=0.15) for n in range(40)]
        assert set(splits[:6]) == set(get_args(Split))
        assert set(splits[:3]) >= {"train", "test"}
        of_patient: dict[str, set[str]] = {}
        for index, split in enumerate(splits):
            of_patient.setdefault(patient_of(seed, index), set()).add(split)
        assert all(len(found) == 1 for found in of_patient.values())


def test_split_shares() -> None:
    splits = Counter(split_of(3, n, val_share=0.1, test_share=0.2) for n in range(2000))
    assert splits["val"] / 2000 == pytest.approx(0.1, abs=0.03)
    assert splits["test"] / 2000 == pytest.approx(0.2, abs=0.03)
    none = {split_of(3, n, val_share=0.0, test_share=0.0) for n in range(50)}
    assert none == {"train"}


def _words(text: str, patterns: dict[str, str]) -> set[str]:
    return {name for name, pattern in patterns.items() if re.search(pattern, text)}


def _sizes_mm(text: str) -> set[int]:
    # Dimensions of the gland ("5.2 x 4.0 x 4.4 cm") are not a lesion's size.
    text = re.sub(r"[\d.]+ x [\d.]+ x [\d.]+ cm", "", text)
    found = {int(value) for value in re.findall(r"(\d+) mm\b", text)}
    return found | {round(10 * float(value)) for value in re.findall(r"(\d\.\d) cm\b", text)}


def _categories(text: str) -> set[int]:
    text = text.replace("according to PI-RADS v2.1", "").replace("v2.1", "")
    return {int(value) for value in re.findall(r"PI-?RADS\D*?(\d)", text)}


def test_reports_say_what_is_true_and_nothing_else() -> None:
    for seed in range(4):
        for index in range(120):
            case = draw_facts(settings(seed=seed), index)
            text = write_report(case)
            lowered = text.lower()
            where = f"seed {seed} case {index}"
            sides = set(re.findall(r"\b(left|right|midline)\b", lowered))
            assert sides == {lesion.side for lesion in case.lesions}, where
            assert _words(lowered, LEVEL_WORDS) == {lesion.level for lesion in case.lesions}, where
            assert _sizes_mm(text) == {round(lesion.size_mm) for lesion in case.lesions}, where
            scores = {lesion.pirads for lesion in case.lesions} or {1}
            assert _categories(text) == scores, where
            assert f"{case.patient.gland.volume_ml:.0f} " in text, where
            if case.true_class == "positive":
                assert not any(phrase in text for phrase in lesion_wording.NO_LESION), where
                assert not any(phrase in text for phrase in wording.PERIPHERAL), where


def test_each_lesion_has_one_sentence_that_holds_all_its_facts() -> None:
    for index in range(200):
        case = draw_facts(settings(seed=9), index)
        sentences = re.split(r"(?<=[a-zA-Z\d)])\.\s|\n", write_report(case))
        for lesion in case.lesions:
            level, zone = LEVEL_WORDS[lesion.level], ZONE_WORDS[lesion.zone]
            assert any(
                re.search(rf"\b{lesion.side}\b", sentence, re.IGNORECASE)
                and re.search(level, sentence, re.IGNORECASE)
                and re.search(zone, sentence, re.IGNORECASE)
                and round(lesion.size_mm) in _sizes_mm(sentence)
                for sentence in sentences
            ), f"case {index}"


def test_reports_are_worded_in_many_ways() -> None:
    texts = [write_report(draw_facts(settings(), index)) for index in range(200)]
    assert len(set(texts)) == 200
    # Strip the numbers: it is the words that must differ.
    worded = {re.sub(r"[\d.]+", "#", text) for text in texts}
    assert len(worded) > 190
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) < 60
    assert max(lengths) > 120


def test_fixed_phrases_name_no_place_and_no_category() -> None:
    free = [
        phrase
        for module in (wording, lesion_wording)
        for name in module.__all__
        if name not in {"LEVEL", "PLACE_MIDLINE", "TECHNIQUE"}
        for phrase in _leaves(getattr(module, name))
    ]
    assert len(free) > 150
    for phrase in free:
        for pattern in [r"\b(left|right|midline)\b", r"PI-?RADS", r"\d", *LEVEL_WORDS.values()]:
            fixed = re.sub(r"\{\w+\}|T2", "", phrase)
            found = re.search(pattern, fixed, re.IGNORECASE)
            assert found is None, phrase


def _leaves(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    assert not isinstance(items, (int, float))
    return [leaf for item in items for leaf in _leaves(item)]  # type: ignore[attr-defined]  # nested


def test_settings_that_cannot_be_are_all_named_at_once() -> None:
    with pytest.raises(UserError) as raised:
        phantom(
            cases=0,
            seed=-1,
            positive_share=1.5,
            val_share=0.6,
            test_share=0.5,
            lesion_size_mm=[3, 40],
            size=[32, 32, 4],
            workers=0,
        )
    message = str(raised.value)
    for part in (
        "cases is 0; expected: 1 to 99999",
        "seed is -1; expected: 0 to 2^63 - 1",
        "positive_share is 1.5; expected: 0 to 1",
        "leave nothing to train on",
        "lesion_size_mm is [3, 40]; expected: smallest and largest, whole mm from 5 to 25",
        "size is [32, 32, 4]; expected: whole numbers of voxels, 8 or more",
        "along R is 32 mm; expected: at least 84 mm",
        "workers is 0",
    ):
        assert part in message


def test_voxels_that_would_miss_the_gland_are_refused() -> None:
    with pytest.raises(UserError, match=r"spacing_mm is .*; expected: above 0 and up to 20 mm"):
        phantom(spacing_mm=[80, 8, 8], size=[20, 20, 12])


def test_two_numbers_for_a_volume_are_refused() -> None:
    with pytest.raises(UserError, match="need three numbers each"):
        phantom(size=[160, 160])


def test_the_factory_owns_one_name() -> None:
    assert voxella_factory("phantom") is phantom
    assert voxella_factory("picai") is None
