"""The hooks a plugin may implement, and the arguments the engine supplies.

A plugin is a module named by an entry point. The group is the kind, the entry point's name is what
a recipe writes::

    [project.entry-points."voxella.conditioners"]
    age = "my_package.plugin"

The module implements :meth:`FactorySpec.voxella_factory` and returns a BUILDER for that name: a
function with keyword-only, annotated parameters. Keep the module light: import torch inside the
builder, so that listing plugins and validating recipes stays quick. A builder's parameters come
from the recipe's block, except those named in :data:`INJECTED`, which the engine supplies when the
builder declares them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

from voxella.old_names import old_names

__all__ = ["INJECTED", "KINDS", "PROJECT", "FactorySpec", "hookimpl", "hookspec"]

PROJECT = "voxella"
hookspec = pluggy.HookspecMarker(PROJECT)
if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"WIRED": "INJECTED"}, globals())

hookimpl = pluggy.HookimplMarker(PROJECT)

# kind -> what it is, one line for `voxella plugins`
KINDS: dict[str, str] = {
    "conditioners": "turn report features and labels into context, vectors and class logits",
    "backbones": "denoisers",
    "autoencoders": "images to latents and back",
    "text_encoders": "reports to token features",
    "summarisers": "reports to short summaries, for captions",
    "sources": "networks of other releases, under our parameter names",
    "classifiers": "downstream classifiers",
    "importers": "data from elsewhere to a data set folder with a manifest",
    "exporters": "a data set in the form that other code reads",
    "model_exporters": "an exported model in the form that other code reads",
    "probes": "look at an image and tell what is in it",
    "metrics": "numbers of synthetic volumes, or of a trained classifier",
    "observers": "watch a run: TensorBoard, progress",
}

# kind -> arguments that the engine supplies to builders that declare them
INJECTED: dict[str, dict[str, str]] = {
    "conditioners": {
        "text_dim": "width of the text features (int)",
        "num_classes": "number of classes (int)",
        "conditions": "{name: width} of text, label, spacing and the recipe's conditions",
    },
    "backbones": {
        "spatial_dims": "2 or 3",
        "in_channels": "latent channels (int)",
        "out_channels": "channels to predict (int)",
        "input_size": "latent size, one int per spatial axis",
        "context_dim": "width of the context tokens, or None",
        "vectors": "{name: width} of the vectors, in the recipe's order",
    },
    "autoencoders": {
        "spatial_dims": "2 or 3",
        "in_channels": "image channels (int)",
        "latent_channels": "channels of the latent (int)",
    },
    "text_encoders": {
        "max_tokens": "tokens kept per report (int)",
        "truncation": "which end of a long report is cut: right or left",
        "padding": "none, or max (paper mode: padded to max_tokens)",
        "tokens_only": "whether only token_counts will be asked: no weights need be read (bool)",
    },
    "summarisers": {},
    "sources": {},
    "classifiers": {
        "spatial_dims": "2 or 3",
        "in_channels": "image channels (int)",
        "num_classes": "number of classes (int)",
    },
    "importers": {},
    "exporters": {},
    "model_exporters": {},
    "probes": {},
    "metrics": {},
    "observers": {},
}


class FactorySpec:
    """The one hook every plugin of every kind implements."""

    @hookspec(firstresult=True)
    def voxella_factory(self, name: str) -> Callable[..., Any] | None:
        """Return the builder behind ``name``, or None when it is not ours."""
