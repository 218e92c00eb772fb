"""What the engine expects of exporters, of data sets and of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from voxella.case import Manifest

__all__ = ["Exported", "Exporter", "ModelExporter"]


@dataclass(frozen=True)
class Exported:
    """What an exporter wrote.

    Attributes:
        files: Lists, tables and the like; images need not be among them.
        remarks: Lines for the user: what was left out, how to read it back. No report text.
        folders: Where the images were written.
    """

    files: Sequence[Path]
    remarks: Sequence[str] = ()
    folders: Sequence[Path] = ()


@runtime_checkable
class Exporter(Protocol):
    """A data set in the form that other code reads."""

    def __call__(self, dataset: Manifest, out: Path) -> Exported:
        """Write a data set under ``out``.

        Reports are written only where the exporter's own arguments ask for them.
        """
        ...


@runtime_checkable
class ModelExporter(Protocol):
    """An exported model in the form that other code reads."""

    def __call__(self, model: Path, out: Path) -> Exported:
        """Write what stands in a model folder under ``out``; the folder is left as it is.

        The same model gives the same files. Files of ``torch.save`` hold tensors and plain types
        alone, so that ``torch.load(weights_only=True)`` reads them.

        Args:
            model: A folder that :func:`voxella.load_model` reads.
            out: Receives the files; made where it is absent.

        Raises:
            UserError: The other code has no such network; says what does not fit.
        """
        ...
