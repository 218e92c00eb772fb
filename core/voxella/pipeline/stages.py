"""The stages, each declared once: name, order, what it is for, who does it, what it leaves.

The command line, ``run`` and its summary read this table; what a stage does is ``do_NAME`` in
``voxella.pipeline.steps``. The command line starts with this: nothing here needs another library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxella.workspace.folders import model_facts_path

if TYPE_CHECKING:
    from pathlib import Path

    from voxella.workspace.folders import Folders

__all__ = ["RUN", "STAGES", "Stage", "stage_names"]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: What the command line calls it.
        about: What ``voxella NAME --help`` says.
        alone: One process does it while the others wait; else all take part.
        stops: It trains, and ``--stop-after`` may end it before its end: it returns None then.
        results: What it leaves, for people, and where.
    """

    name: str
    about: str
    alone: bool = False
    stops: bool = False
    results: tuple[tuple[str, Callable[[Folders], Path]], ...] = ()


STAGES = (
    Stage(
        "import",
        "bring data into a data set folder with a manifest",
        alone=True,
        results=(("data set", lambda f: f.dataset / "manifest.jsonl"),),
    ),
    Stage(
        "prepare",
        "crop, normalise and resample the cases to the recipe's grid",
        alone=True,
        results=(("prepared cases", lambda f: f.prepared / "manifest.jsonl"),),
    ),
    Stage(
        "train-autoencoder",
        "train the recipe's autoencoder on the prepared cases",
        results=(("autoencoder", lambda f: f.autoencoder / "autoencoder.json"),),
    ),
    Stage(
        "check-autoencoder",
        "measure the autoencoder on held-out cases; exit code 2: not trusted",
        alone=True,
        results=(("reconstruction", lambda f: f.autoencoder / "reconstruction.png"),),
    ),
    Stage(
        "encode",
        "cache latents and text features",
        results=(
            ("latents", lambda f: f.latents / "index.json"),
            ("text features", lambda f: f.text / "index.json"),
        ),
    ),
    Stage(
        "train",
        "train the diffusion model and export it, doing missing stages first",
        stops=True,
        results=(
            ("losses", lambda f: f.run / "train" / "log.jsonl"),
            ("TensorBoard", lambda f: f.run / "tensorboard"),
            ("model", lambda f: model_facts_path(f.model)),
        ),
    ),
    Stage(
        "sample",
        "generate volumes with the exported model",
        results=(
            ("volumes", lambda f: f.samples / "manifest.jsonl"),
            ("montage", lambda f: f.samples / "montage.png"),
        ),
    ),
    Stage(
        "evaluate",
        "measure the volumes against real ones; exit code 2: the gate holds them back",
        results=(("metrics", lambda f: f.evaluation / "metrics.json"),),
    ),
    Stage(
        "classify",
        "train a downstream classifier and measure it on the test cases; or compare two",
        stops=True,
    ),
)


def stage_names() -> list[str]:
    """Return the names, in order."""
    return [stage.name for stage in STAGES]


# Of the verb that does them all.
RUN = (
    f"every stage in order: {', '.join(stage_names()[:-1])}; of a recipe that classifies, those it "
    f"needs and then {STAGES[-1].name}; then the page, RUN/report.html"
)
