"""Weights files that somebody else made: damaged ones are a message, code in them does not run."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from voxella.errors import UserError
from voxella.weights import read_state_dict

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
