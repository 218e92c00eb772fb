"""What every probe has to hold."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np

from voxella.case import Case, Manifest
from voxella.detection import Detection
from voxella.plugins.contracts import Probe
from voxella.testing.contract import Contract

__all__ = ["ProbeContract"]


class ProbeContract(Contract):
    """An object that finds the same in the same image, in this process and in another."""

    kind: ClassVar[str] = "probes"

    def probe(self) -> Probe:
        """Build the probe."""
        probe: Probe = self.build()
        return probe

    def test_attributes_describe_it(self) -> None:
        """Its fingerprint is a word, the same twice; its dimensions are some of 2 and 3."""
        probe = self.probe()
        assert isinstance(probe.fingerprint, str), "fingerprint is no string"
        assert probe.fingerprint, "fingerprint is empty"
        assert probe.fingerprint == self.probe().fingerprint, "two builds, two fingerprints"
        dims = set(probe.spatial_dims)
        assert dims, "spatial_dims is empty"
        assert dims <= {2, 3}, f"spatial_dims are {sorted(dims)}, not of 2 and 3"

    def test_looking_is_deterministic(self) -> None:
        """One image gives one detection, and the image is left alone."""
        probe = self.probe()
        for image in images(probe):
            before = image.copy()
            first, second = look(probe, image), look(probe, image)
            assert first == second, f"called twice with shape {image.shape}, it finds another thing"
            assert np.array_equal(image, before), "the image was changed"

    def test_detections_can_be_kept(self) -> None:
        """A detection goes to JSON and back unchanged."""
        probe = self.probe()
        for image in images(probe):
            found = look(probe, image)
            assert isinstance(found, Detection), f"{type(found).__name__} is no Detection"
            kept = found.as_json()
            assert json.loads(json.dumps(kept, allow_nan=False)) == kept, "JSON changes it"

    def test_travels_to_other_processes(self) -> None:
        """A pickled copy finds the same."""
        probe = self.probe()
        copy: Probe = pickle.loads(pickle.dumps(probe))
        for image in images(probe):
            assert look(copy, image) == look(probe, image), "a pickled copy finds another thing"

    def test_unknown_cases_are_left_alone(self) -> None:
        """Of a case that names no source it tells nothing."""
        case = Case(id="a", group="a", images={"t2w": "a.nii.gz"})
        told = self.probe().told(Manifest(Path("nowhere"), [case]), case)
        assert told is None, "it tells something of a case it cannot know"


def images(probe: Probe) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Return an empty and a random image of each dimension that the probe looks at."""
    dice = np.random.default_rng(0)
    shapes = [(24,) * dims for dims in sorted(probe.spatial_dims)]
    return [
        image
        for shape in shapes
        for image in (np.zeros(shape, np.float32), dice.random(shape, dtype=np.float32))
    ]


def look(probe: Probe, image: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Detection:
    """Return what the probe finds, on a grid of 4 mm."""
    return probe.look(image, (4.0,) * image.ndim)
