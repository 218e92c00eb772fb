"""Run a contract suite without pytest, one check after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from unittest import SkipTest

from voxella.errors import UserError
from voxella.plugins.registry import builder
from voxella.testing.autoencoders import AutoencoderContract
from voxella.testing.backbones import BackboneContract
from voxella.testing.classifiers import ClassifierContract
from voxella.testing.conditioners import ConditionerContract
from voxella.testing.contract import Contract
from voxella.testing.exporters import ExporterContract
from voxella.testing.importers import ImporterContract
from voxella.testing.metrics import MetricContract
from voxella.testing.model_exporters import ModelExporterContract
from voxella.testing.observers import ObserverContract
from voxella.testing.probes import ProbeContract
from voxella.testing.sources import SourceContract
from voxella.testing.summarisers import SummariserContract
from voxella.testing.text_encoders import TextEncoderContract

__all__ = ["CONTRACTS", "CheckResult", "run_contract", "suite_for"]

CONTRACTS: dict[str, type[Contract]] = {
    suite.kind: suite
    for suite in (
        ConditionerContract,
        BackboneContract,
        AutoencoderContract,
        TextEncoderContract,
        SummariserContract,
        SourceContract,
        ClassifierContract,
        ImporterContract,
        ExporterContract,
        ModelExporterContract,
        ProbeContract,
        MetricContract,
        ObserverContract,
    )
}


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        check: Its name in words.
        outcome: ``passed``, ``failed``, or ``skipped`` (the plugin refuses that case in words).
        message: Why, unless it passed.
        seconds: How long it took.
    """

    check: str
    outcome: Literal["passed", "failed", "skipped"]
    message: str
    seconds: float


def suite_for(kind: str, name: str, arguments: Mapping[str, Any]) -> type[Contract]:
    """Return the suite of a kind, held to one plugin."""
    return type(f"Check_{kind}", (CONTRACTS[kind],), {"plugin": name, "arguments": arguments})


def run_contract(
    kind: str, name: str, arguments: Mapping[str, Any] | None = None
) -> Iterator[CheckResult]:
    """Hold a plugin to its kind's suite and yield each result as it comes.

    Args:
        kind: The plugin's kind.
        name: The plugin's name.
        arguments: The builder's arguments; what is missing takes the suite's small sizes.

    Raises:
        UserError: The plugin cannot be found or loaded. What it does wrong after that is a result.
    """
    builder(kind, name)
    if not __debug__:
        raise UserError("python -O removes assertions, so that every check would pass")
    for check, act in suite_for(kind, name, arguments or {}).checks():
        yield _run(check, act)


def _run(check: str, act: Callable[[], None]) -> CheckResult:
    started = time.perf_counter()
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    message = ""
    try:
        act()
    except SkipTest as reason:
        outcome, message = "skipped", str(reason)
    except AssertionError as refusal:
        outcome, message = "failed", str(refusal) or "an assertion without a message"
    except Exception as error:  # a plugin may raise anything, and the other checks still run
        outcome, message = "failed", f"{type(error).__name__}: {error}"
    return CheckResult(check, outcome, message, time.perf_counter() - started)
