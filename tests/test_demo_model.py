"""The model that ships is whole, and draws what it is said to draw; bounds of what was measured."""

from __future__ import annotations

import json

import pytest
import torch

import voxella
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella_demo import phantom_model
from voxella_demo.measure import Subject, draw_cases, generated, look, real, summary

MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.open(phantom_model())


def test_it_is_whole_and_small() -> None:
    folder = phantom_model()
    facts = json.loads((folder / "config.json").read_text())
    assert sha256_file(folder / "model.safetensors") == facts["weights_sha256"]
    for name, sha256 in facts["files"].items():
        assert sha256_file(folder / name) == sha256
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < MOST_BYTES
    model = voxella.load_model(folder)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_its_recipe_names_no_place_of_the_machine_that_trained_it() -> None:
    for path in phantom_model().rglob("*"):
        if path.suffix in {".json", ".yaml", ".md"}:
            assert "/tmp" not in path.read_text()
            assert "/work" not in path.read_text()


def test_sixteen_reports_that_it_has_not_seen(subject: Subject) -> None:
    """On 200 such reports a gland is found in nearly all, of the told volume; see the results."""
    _, facts = draw_cases(subject, 16, seed=777)
    volumes = generated(subject, facts)
    assert volumes.shape == (16, 24, 24, 12)
    found = summary(look(facts, volumes, subject.spacing_mm))
    gland, volume = found["gland found"].value, found["volume told and drawn, r"].value
    assert gland is not None
    assert volume is not None
    assert gland >= 0.75
    assert volume >= 0.85
    # A network that never looks at the report draws the same volume for all.
    assert float(volumes.std(0).mean()) > 0.02


def test_the_measure_takes_real_phantoms_for_what_they_are(subject: Subject) -> None:
    importer, facts = draw_cases(subject, 3, seed=778)
    volumes = real(subject, importer, facts)
    assert volumes.shape == (3, 24, 24, 12)
    assert torch.equal(volumes, real(subject, importer, facts))
    seen = look(facts, volumes, subject.spacing_mm)
    assert all(item.seen.gland_seen for item in seen)
    told = torch.tensor([item.facts.patient.gland.volume_ml for item in seen])
    drawn = torch.tensor([item.seen.volume_ml for item in seen])
    torch.testing.assert_close(drawn, told, rtol=0.25, atol=4.0)


def test_the_trainings_own_seed_is_refused(subject: Subject) -> None:
    with pytest.raises(UserError, match="seed 12 is the training's own"):
        draw_cases(subject, 1, seed=12)
