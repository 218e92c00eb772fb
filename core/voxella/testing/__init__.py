"""Contract suites that any plugin is held to, built-in and third-party ones alike.

Import the suite of your plugin's kind and name the plugin; pytest finds the rest::

    from voxella.testing import ConditionerContract

    class TestMine(ConditionerContract):
        plugin = "age"

``voxella plugins check age`` runs the same from the shell. See docs/how-to/plugins.md.
"""

from __future__ import annotations

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
from voxella.testing.runner import CONTRACTS, CheckResult, run_contract
from voxella.testing.sources import SourceContract
from voxella.testing.summarisers import SummariserContract
from voxella.testing.text_encoders import TextEncoderContract

__all__ = [
    "CONTRACTS",
    "AutoencoderContract",
    "BackboneContract",
    "CheckResult",
    "ClassifierContract",
    "ConditionerContract",
    "Contract",
    "ExporterContract",
    "ImporterContract",
    "MetricContract",
    "ModelExporterContract",
    "ObserverContract",
    "ProbeContract",
    "SourceContract",
    "SummariserContract",
    "TextEncoderContract",
    "run_contract",
]
