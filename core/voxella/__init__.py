"""voxella: 3D latent diffusion for medical imaging, conditioned on reports and classes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxella.conditioning import Conditioning
    from voxella.errors import UserError
    from voxella.ldm.build import Batch, LatentDiffusion, build_model
    from voxella.ldm.export import load_model
    from voxella.recipe.load import load_recipe
    from voxella.recipe.model import Recipe
    from voxella.sampling.generator import Generator
    from voxella.view.show import show

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Conditioning",
    "Generator",
    "LatentDiffusion",
    "Recipe",
    "UserError",
    "__version__",
    "build_model",
    "load_model",
    "load_recipe",
    "show",
]

# Loaded on first use, so that `voxella plugins` and recipe validation never import torch.
_HOMES = {
    "Batch": "voxella.ldm.build",
    "Conditioning": "voxella.conditioning",
    "Generator": "voxella.sampling.generator",
    "LatentDiffusion": "voxella.ldm.build",
    "Recipe": "voxella.recipe.model",
    "UserError": "voxella.errors",
    "build_model": "voxella.ldm.build",
    "load_model": "voxella.ldm.export",
    "load_recipe": "voxella.recipe.load",
    "show": "voxella.view.show",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'voxella' has no attribute {name!r}")
