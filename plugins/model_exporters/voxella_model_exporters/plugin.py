"""Entry points of the exporters of models. Light: nothing is loaded before one is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxella.plugins.contracts import Exported, ModelExporter
from voxella.plugins.specs import hookimpl

__all__ = ["ccella", "diffusers", "maisi", "monai_bundle", "voxella_factory"]


def ccella() -> ModelExporter:
    """Build the exporter of the released CCELLA code's checkpoint, ``NAME.pt``."""

    def export(model: Path, out: Path) -> Exported:
        from voxella_model_exporters.ccella import export_ccella

        return export_ccella(model, out)

    return export


def maisi(*, autoencoder_weights: Path | None = None) -> ModelExporter:
    """Build the exporter of weights that MONAI's MAISI classes read.

    Args:
        autoencoder_weights: Where the file lies that the recipe names under
            ``autoencoder.weights``, if not there.
    """

    def export(model: Path, out: Path) -> Exported:
        from voxella_model_exporters.maisi import export_maisi

        return export_maisi(model, out, autoencoder_weights)

    return export


def monai_bundle(*, autoencoder_weights: Path | None = None) -> ModelExporter:
    """Build the exporter of a bundle that MONAI runs without voxella.

    Args:
        autoencoder_weights: Where the file lies that the recipe names under
            ``autoencoder.weights``, if not there.
    """

    def export(model: Path, out: Path) -> Exported:
        from voxella_model_exporters.monai_bundle import export_bundle

        return export_bundle(model, out, autoencoder_weights)

    return export


def diffusers(*, autoencoder_weights: Path | None = None) -> ModelExporter:
    """Build the exporter of the folders that diffusers' ``from_pretrained`` reads, of 2D models.

    Args:
        autoencoder_weights: Where the file lies that the recipe names under
            ``autoencoder.weights``, if not there.
    """

    def export(model: Path, out: Path) -> Exported:
        from voxella_model_exporters.diffusers_folder import export_diffusers

        return export_diffusers(model, out, autoencoder_weights)

    return export


_BUILDERS: dict[str, Callable[..., ModelExporter]] = {
    "ccella": ccella,
    "maisi": maisi,
    "monai-bundle": monai_bundle,
    "diffusers": diffusers,
}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return _BUILDERS.get(name)
