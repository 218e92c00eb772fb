"""The source of the released CCELLA models, on small files of their form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_conditioners_released import _released
from torch import Tensor

from voxella.errors import UserError
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Released, Source
from voxella.testing import SourceContract


def read(path: Path) -> Released:
    source: Source = registry.build("sources", Component(name="ccella"))
    return source.read(path)


def content(variant: str = "ccella", **more: Any) -> dict[str, Any]:
    state = {f"module.{name}": tensor for name, tensor in _released(variant).items()}
    return {"unet_state_dict": state, "scale_factor": torch.tensor(0.87), **more}


class TestContract(SourceContract):
    plugin = "ccella"

    @pytest.fixture(autouse=True)
    def _small_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.save(content(), tmp_path / "ccella.pt")
        monkeypatch.setattr(type(self), "file", tmp_path / "ccella.pt")


@pytest.mark.parametrize("variant", ["ella", "ccella", "shared", "first", "last"])
def test_both_parts_come_out_under_our_names(variant: str, tmp_path: Path) -> None:
    more = {"epoch": 400, "loss": 0.1, "optimizer_state_dict": {"state": {0: torch.ones(2)}}}
    torch.save(content(variant, **more), tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert found.parts.keys() == {"backbone", "conditioner"}
    assert found.parts["backbone"].keys() == {"conv_in.conv.weight"}
    assert "connector.queries" in found.parts["conditioner"]
    assert found.latent_scale == pytest.approx(0.87)
    assert found.remarks == ["trained for 400 epochs", "left out: optimizer_state_dict"]


@pytest.mark.parametrize("name", ["conv_in.conv.weight", "module.conv_in.conv.weight"])
def test_a_variant_without_text_has_a_denoiser_alone(name: str, tmp_path: Path) -> None:
    state: dict[str, Tensor] = {
        name: torch.ones(1, dtype=torch.float16),
        "pirads_layer.0.weight": torch.ones(2),
    }
    torch.save({"unet_state_dict": state, "scale_factor": 1.2}, tmp_path / "radbase.pt")
    found = read(tmp_path / "radbase.pt")
    assert found.parts.keys() == {"backbone"}
    assert found.latent_scale == 1.2
    assert found.parts["backbone"]["conv_in.conv.weight"].dtype == torch.float16


def test_features_of_the_empty_report_come_along(tmp_path: Path) -> None:
    torch.save(content(null_text=torch.ones(7, 5)), tmp_path / "a.pt")
    null_text = read(tmp_path / "a.pt").null_text
    assert null_text is not None
    assert null_text.shape == (1, 7, 5)


def test_a_scale_by_channel_is_a_list(tmp_path: Path) -> None:
    torch.save({**content(), "scale_factor": torch.tensor([0.5, 2.0])}, tmp_path / "a.pt")
    assert read(tmp_path / "a.pt").latent_scale == [0.5, 2.0]


def test_another_network_is_refused_by_its_file(tmp_path: Path) -> None:
    torch.save({"layer1.weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt holds no U-Net .* layer1\.weight is the first of"):
        read(tmp_path / "a.pt")
