"""Where a run keeps things: one place that knows the layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODEL_FACTS", "OLD_MODEL_FACTS", "Folders", "model_facts_path"]

# Says what a model folder holds; model hubs look for a file of this name.
MODEL_FACTS = "config.json"
# Its name in version 0.1, read for one release.
OLD_MODEL_FACTS = "model.json"


@dataclass(frozen=True)
class Folders:
    """The folders of one run.

    Attributes:
        run: The run folder.
        work: Prepared data and caches; the run folder, or ``recipe.workspace`` when runs share.
        dataset: The data set: the recipe's, or the run's own when an importer makes it.
        given: An exported model folder that is used in place of the run's own; None: the run's.
    """

    run: Path
    work: Path
    dataset: Path
    given: Path | None = None

    @classmethod
    def of(cls, run: Path, workspace: Path | None, dataset: Path | None) -> Folders:
        """Return the folders of a run.

        Args:
            run: The run folder.
            workspace: The recipe's, where runs share; None: the run's own.
            dataset: The recipe's ``data.dataset``; None: made in the workspace.
        """
        run = Path(run).absolute()
        work = workspace or run
        return cls(run, work, dataset or work / "dataset")

    @property
    def prepared(self) -> Path:
        """Return the prepared data set."""
        return self.work / "prepared"

    @property
    def autoencoder(self) -> Path:
        """Return the folder of an autoencoder trained in place; a model may bring its own."""
        brought = None if self.given is None else self.given / "autoencoder"
        return brought if brought is not None and brought.is_dir() else self.work / "autoencoder"

    @property
    def latents(self) -> Path:
        """Return the latent cache."""
        return self.work / "latents"

    @property
    def text(self) -> Path:
        """Return the text feature cache."""
        return self.work / "text"

    @property
    def model(self) -> Path:
        """Return the exported model."""
        return self.run / "model" if self.given is None else self.given

    @property
    def samples(self) -> Path:
        """Return the synthetic data set."""
        return self.run / "samples"

    @property
    def prompts(self) -> Path:
        """Return the text features of prompts that are no report of the data set."""
        return self.run / "prompts"

    @property
    def pair(self) -> Path:
        """Return the two volumes of one noise that the page opens with."""
        return self.run / "pair"

    @property
    def evaluation(self) -> Path:
        """Return what was measured of the synthetic data set."""
        return self.run / "evaluation"


def model_facts_path(model: Path) -> Path:
    """Return the file that says what a model folder holds, under its new name or its old one."""
    path, old = model / MODEL_FACTS, model / OLD_MODEL_FACTS
    return old if old.is_file() and not path.is_file() else path
