"""Weights files that somebody else made: damaged ones are a message, code in them does not run."""

from __future__ import annotations

import os
import random
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from voxella.errors import UserError
from voxella.weights import compare_keys, read_state_dict

WEIGHTS = {"a": torch.arange(40.0), "b": torch.zeros(3, 3)}


def write(path: Path, *, zipped: bool = True) -> bytes:
    if path.suffix == ".safetensors":
        save_file(WEIGHTS, path)
    else:
        torch.save({"state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "zipped"), [("w.pt", True), ("w.pt", False), ("w.safetensors", True)]
)
def test_a_damaged_file_is_always_a_message(name: str, zipped: bool, tmp_path: Path) -> None:
    path, draw = tmp_path / name, random.Random(8)
    whole = write(path, zipped=zipped)
    said = []
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about the pickle protocol
            try:
                read_state_dict(path, what="the network", remedy="none")
            except UserError as error:
                said.append(str(error))
    assert len(said) > 200
    assert all(str(path) in text for text in said)


class _Code:
    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.ran}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(zipped: bool, tmp_path: Path) -> None:
    path, ran = tmp_path / "w.pt", tmp_path / "ran"
    torch.save({"a": _Code(ran)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="cannot be read as weights of the network"):
        read_state_dict(path, what="the network", remedy="none")
    assert not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists()  # it is what it is meant to be


def test_a_trainers_objects_beside_the_tensors_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in checkpoints of latent-diffusion: callbacks by their class, settings as objects.
    made = types.ModuleType("pytorch_lightning")
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning"})
    made.ModelCheckpoint = callback  # type: ignore[attr-defined] # a module made here
    monkeypatch.setitem(sys.modules, "pytorch_lightning", made)
    settings = callback()
    settings.lr = 0.1
    content = {"callbacks": {callback: {"best": 1}}, "settings": settings, "state_dict": WEIGHTS}
    torch.save(content, tmp_path / "model.ckpt")
    monkeypatch.delitem(sys.modules, "pytorch_lightning")
    found = read_state_dict(tmp_path / "model.ckpt", what="the network", remedy="none")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)
    assert "pytorch_lightning" not in sys.modules, "nothing of it was imported"


def test_another_packages_objects_are_refused_still(tmp_path: Path) -> None:
    torch.save({"where": Path("a"), "state_dict": WEIGHTS}, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match="cannot be read as weights of the network"):
        read_state_dict(tmp_path / "model.ckpt", what="the network", remedy="none")


def test_a_comparison_of_names_tells_all_four_kinds_and_allocates_nothing() -> None:
    with torch.device("meta"):
        network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5, bias=False))
    state = {
        "0.weight": torch.zeros(2, 3),
        "1.weight": torch.zeros(5, 4),
        "head.weight": torch.zeros(1),
    }
    report = compare_keys(network.state_dict(), state)
    assert report.matched == ["0.weight"]
    assert report.missing == ["0.bias"]
    assert report.unexpected == ["head.weight"]
    assert report.mismatched == {"1.weight": ((5, 4), (5, 2))}
    assert not report.fits
    assert report.lines("backbone") == [
        "backbone: 1 tensors matched, 1 missing, 1 unexpected, 1 of another shape",
        "  1 missing: 0.bias",
        "  1 unknown: head.weight",
        "  1 of another shape: 1.weight (5, 4) instead of (5, 2)",
    ]
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_a_state_that_fits_has_no_problem() -> None:
    report = compare_keys(WEIGHTS, dict(WEIGHTS))
    assert report.fits
    assert report.problems == []
    assert report.matched == ["a", "b"]
