"""The contract suites: ours keep them, and every single breach is told by the right check."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from voxella.errors import UserError
from voxella.plugins.registry import PluginInfo, builder, list_plugins
from voxella.plugins.specs import INJECTED, KINDS
from voxella.testing import CONTRACTS, CheckResult, run_contract
from voxella.testing.contract import Contract
from voxella.testing.runner import suite_for

# kind, the one fault, the check that has to catch it, what it has to say
BREACHES = [
    ("conditioners", "needs", "attributes describe it", "needs has to be a frozenset"),
    ("conditioners", "vector_sizes", "shapes for any text width and classes", "announces"),
    ("conditioners", "no_mask", "padding changes nothing", "with more masked padding"),
    ("conditioners", "mask_none", "no mask means all real", "without a mask"),
    ("conditioners", "batch", "a case alone equals the case in a batch", "case 0 alone"),
    ("conditioners", "random", "forward is deterministic", "called twice"),
    ("conditioners", "label", "reads what it needs", "needs names 'label'"),
    ("conditioners", "unread_age", "reads what it needs", "needs names 'age'"),
    ("conditioners", "zero_age", "missing conditions are zeros", "no condition is known"),
    ("conditioners", "zero_label", "missing label is zeros", "not finite"),
    ("conditioners", "in_place", "inputs are left alone", "the batch after the call"),
    ("conditioners", "dtype", "takes text in the dtype of the cache", "same dtype"),
    ("conditioners", "unused", "gradients reach every parameter", "spare.weight, spare.bias"),
    ("conditioners", "buffer", "state dict carries everything", "after loading its state_dict"),
    ("conditioners", "unseeded", "seed decides weights", "pool.bias"),
    ("backbones", "no_mask", "padding changes nothing", "in 2D"),
    ("backbones", "time", "every condition is read", "the timestep changes nothing"),
    ("backbones", "vector", "every condition is read", "vector class changes nothing"),
    ("backbones", "places", "vectors go by name", "in another order"),
    ("backbones", "batch", "a case alone equals the case in a batch", "case 0 alone"),
    ("backbones", "checkpoint", "checkpointing changes no value", "checkpointing: prediction"),
    ("backbones", "axes", "prediction has the shape of the input", "(2, 5, 4, 8), not (2, 5, 8"),
    ("autoencoders", "factor", "factor and channels are true", "not {'mean'"),
    ("autoencoders", "draws", "encoding is deterministic", "called twice"),
    ("autoencoders", "batch", "a case alone equals the case in a batch", "decoded differs"),
    ("autoencoders", "detached", "gradients reach every parameter", "up.weight, up.bias"),
    ("classifiers", "classes", "one logit per class", "not (2, 3)"),
    ("classifiers", "batch", "a case alone equals the case in a batch", "image 0 alone"),
    ("classifiers", "random", "forward is deterministic", "called twice"),
    ("text_encoders", "counts", "max tokens cuts the named end", "before any truncation"),
    ("text_encoders", "lengths", "features have the true length", "the features have"),
    ("text_encoders", "end", "max tokens cuts the named end", "truncation=left cuts"),
    ("text_encoders", "padding", "padding max fills up", "not max_tokens=32"),
    ("text_encoders", "fingerprint", "fingerprint tells settings apart", "has to change with"),
    ("text_encoders", "graph", "needs no gradient", "hang on the encoder's graph"),
    ("importers", "empty", "manifest is valid", "no case was imported"),
    ("importers", "image", "images are readable", "b.nii.gz"),
    ("importers", "hash", "reports are whole and stay private", "texts_sha256 does not fit"),
    ("importers", "leak", "reports are whole and stay private", "repeats its report"),
    ("importers", "random", "importing twice gives the same", "differ in case a"),
    ("exporters", "nothing", "files are there", "no file was written"),
    ("exporters", "leak", "reports stay private", "ids.txt holds a report"),
    ("exporters", "remark", "reports stay private", "a remark holds a report"),
    ("exporters", "dataset", "dataset is left alone", "added or taken away"),
    ("exporters", "names", "exporting twice gives the same files", "wrote other files"),
    ("model_exporters", "nothing", "files are there", "no file was written"),
    ("model_exporters", "refuses", "files are there", "it refuses every model"),
    ("model_exporters", "model", "model is left alone", "files of the model were changed"),
    ("model_exporters", "random", "exporting twice gives the same files", "two exports differ"),
    ("model_exporters", "code", "weights load without running code", "with weights_only"),
    ("summarisers", "fingerprint", "attributes describe it", "fingerprint is empty"),
    ("summarisers", "count", "one summary per report", "1 summaries of 2 reports"),
    ("summarisers", "batch", "a report alone equals the report in a batch", "another summary"),
    ("summarisers", "random", "summarising is deterministic", "says another thing"),
    ("summarisers", "long", "summaries are short", "9 words, and it says 5"),
    ("sources", "parts", "attributes describe it", "{'engine'}, expected of backbone"),
    ("sources", "licence", "attributes describe it", "licence is empty"),
    ("sources", "missing", "a missing file is a message", "FileNotFoundError"),
    ("sources", "damaged", "a damaged file is a message", "RuntimeError"),
    ("sources", "code", "code in a file does not run", "code of the file ran"),
    ("sources", "undeclared", "it reads what it declares", "{'conditioner'}, which it does not"),
    ("sources", "device", "it reads what it declares", "lies on meta"),
    ("sources", "random", "reading is deterministic", "other values"),
    ("sources", "rewrites", "file is left alone", "changed the file"),
    ("probes", "fingerprint", "attributes describe it", "fingerprint is empty"),
    ("probes", "random", "looking is deterministic", "finds another thing"),
    ("probes", "json", "detections can be kept", "not JSON compliant"),
    ("probes", "travels", "travels to other processes", "a pickled copy"),
    ("probes", "told", "unknown cases are left alone", "cannot know"),
    ("metrics", "twice", "numbers are declared well", "declared twice"),
    ("metrics", "declares", "declarations are always the same", "other numbers"),
    ("metrics", "undeclared", "it measures what it declares", "['darkness']"),
    ("metrics", "bounded", "it measures what it declares", "between 0 and 1"),
    ("metrics", "network", "it measures what it declares", "of the features"),
    ("metrics", "needs", "it measures what it declares", "asks for images"),
    ("metrics", "random", "measuring is deterministic", "finds another thing"),
    ("metrics", "few", "few cases are no failure", "ZeroDivisionError"),
    ("metrics", "leak", "reports stay private", "repeats a report"),
    ("observers", "hooks", "hooks are known", "no @hookimpl method"),
    ("observers", "random", "draws no random number", "global random generators"),
    ("observers", "failure", "lives through a failure", "only success was thought of"),
    ("observers", "resume", "lives through a run", "only fresh runs"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def faulty_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    entries = [f"{kind}:faulty=plugins_faulty:{kind[:-1]}" for kind in KINDS]
    monkeypatch.setenv("VOXELLA_PLUGINS", ",".join(entries))


def failures(kind: str, fault: str) -> dict[str, str]:
    results = run_contract(kind, "faulty", {"fault": fault})
    return {result.check: result.message for result in results if result.outcome == "failed"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_faultless_plugin_passes(kind: str) -> None:
    results = list(run_contract(kind, "faulty", {"fault": "none"}))
    assert len(results) >= 5
    assert {result.outcome for result in results} == {"passed"}, results


@pytest.mark.parametrize(("kind", "fault", "check", "words"), BREACHES)
def test_a_breach_is_caught_by_its_check(kind: str, fault: str, check: str, words: str) -> None:
    assert words in failures(kind, fault).get(check, f"{check}: not caught")


def test_every_check_of_every_suite_can_fail() -> None:
    caught = {(kind, check) for kind, _, check, _ in BREACHES}
    checks = {(kind, check) for kind, suite in CONTRACTS.items() for check in names(suite)}
    # Each of these is tested on its own below, or fails with the build.
    elsewhere = {"builder is annotated", "builds in 2d", "builds in 3d"}
    shared = {"seed decides weights", "state dict carries everything", "forward is deterministic"}
    shared |= {"gradients reach every parameter", "no mask means all real"}
    same_code = {(kind, check) for kind, check in checks if check in shared}
    plain = {
        ("backbones", "works without any condition"),
        ("text_encoders", "empty report has features"),
        ("text_encoders", "a text alone equals the text in a batch"),
        ("text_encoders", "encoding is deterministic"),
    }
    unproven = {pair for pair in checks - caught - same_code - plain if pair[1] not in elsewhere}
    assert not unproven


def names(suite: type[Contract]) -> Iterator[str]:
    held = suite_for(suite.kind, "faulty", {"fault": "none"})
    return (name for name, _ in held.checks())


def test_vague_builders_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELLA_PLUGINS", "classifiers:faulty=plugins_faulty:bare")
    message = failures("classifiers", "x")["builder is annotated"]
    assert "['fault'] have no type annotation" in message


def test_a_contract_for_every_kind() -> None:
    assert set(CONTRACTS) == set(KINDS) == set(INJECTED)


def test_no_contract_without_a_plugin() -> None:
    with pytest.raises(UserError, match="no plugin 'nobody' among the observers"):
        list(run_contract("observers", "nobody"))


def missing(plugin: PluginInfo) -> set[str]:
    """Return the arguments that only a user can give, such as a weights file."""
    parameters = inspect.signature(builder(plugin.kind, plugin.name)).parameters.values()
    required = {p.name for p in parameters if p.default is p.empty}
    return required - set(INJECTED[plugin.kind])


@pytest.mark.parametrize(
    "plugin", list_plugins(), ids=lambda plugin: f"{plugin.kind}-{plugin.name}"
)
def test_installed_plugins_keep_their_contract(
    plugin: PluginInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if wanted := missing(plugin):
        pytest.skip(f"{plugin.name} needs {', '.join(sorted(wanted))}, which only a user has")
    results: list[CheckResult] = list(run_contract(plugin.kind, plugin.name))
    broken = [f"{r.check}: {r.message}" for r in results if r.outcome == "failed"]
    assert not broken, "\n".join(broken)
    assert any(result.outcome == "passed" for result in results)
