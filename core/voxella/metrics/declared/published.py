"""Whether the paper's number may stand beside one of ours: all rules, for files, page and studies.

CCELLA's are of held-out patients (sections 3.1 and 3.5: its hold-out test set assesses all
results), PathLDM's distance of captions of its training set: each number declares which. They are
of features of the paper's own networks, and of its own classifier. Features of another network are
another unit, however alike the names, and procedural phantoms are other data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.measured import Measured

__all__ = ["Published", "row_beside", "why_no_classifier"]

_PAPERS_CLASSIFIER = "efficientnet"
_OF_AUTOENCODER = ("reconstruction_ssim", "reconstruction_mse")


class PaperNumbers(Protocol):
    """A row of the paper, its numbers by their keys: ``recipe.paper``."""

    @property
    def model(self) -> str:
        """Return the paper's name for it."""


@dataclass(frozen=True)
class Published:
    """A row of the paper, and what one run has said of its own numbers.

    Attributes:
        row: None where the paper has no such experiment.
        differs: Why none of our numbers is comparable with it; None where some may be.
        allowed: Keys of the row that the evaluation lets stand beside numbers without a network.
    """

    row: PaperNumbers | None
    differs: str | None = None
    allowed: frozenset[str] = frozenset()

    def number(self, key: str | None) -> float | None:
        """Return the paper's number, wherever it may stand; None where it has none."""
        return None if key is None or self.row is None else getattr(self.row, key, None)

    def beside(
        self, key: str | None, entry: Mapping[str, Any], split: str = ""
    ) -> tuple[float | None, str]:
        """Return the paper's number for one of ours, or None; and why not, where it has one."""
        number = self.number(key)
        if number is None or entry.get("value") is None:
            return None, ""
        refusal = self.why_not(key, entry, split)
        return (float(number), "") if refusal is None else (None, refusal)

    def why_not(self, key: str | None, entry: Mapping[str, Any], split: str = "") -> str | None:
        """Return why the paper's number may not stand beside one of ours; None where it may.

        Args:
            key: Of the row.
            entry: What ``metrics.json`` has of our number.
            split: Of the cases that the paper's is of; "": any.
        """
        network, flag = entry.get("network"), entry.get("comparable_with_paper")
        if network is not None and flag is not True:
            which = "a random network" if "random" in str(network) else str(network)
            return f"the features are of {which}, not of the paper's network"
        if self.differs is not None:
            return self.differs
        ours = entry.get("split")
        if split and ours and ours != split:
            return f"the paper's is of cases of the split {split}, not of {ours}"
        if flag is not True and (flag is False or key not in self.allowed):
            return "not measured as in the paper"
        return None


def row_beside(
    row: Mapping[str, Any],
    metrics: Mapping[str, Measured],
    networks: Sequence[bool],
    *,
    split: str,
    phantoms: bool,
) -> dict[str, Any] | None:
    """Return the part of a row that may stand beside an evaluation's numbers; None: nothing.

    A distance where its own network is the paper's; the text head's numbers, which know no
    network, where all networks are: then the whole evaluation is meant as the paper's. What an
    autoencoder gives back of real cases is measured without any network.

    Args:
        row: Of the paper, without what it does not have.
        metrics: As measured.
        networks: Of each network of the evaluation, whether it is the paper's.
        split: Whose real cases these are.
        phantoms: Whether they are phantoms.
    """
    if phantoms:
        return None

    def may_stand(name: str) -> bool:
        ours = metrics.get(name)
        if name in _OF_AUTOENCODER:
            return ours is not None and split == "test"
        if not any(networks):
            return False
        if ours is not None and ours.network is not None:
            return ours.comparable_with_paper and ours.split == number_of(name).paper_split
        return split == "test" and all(networks) and f"text_{name}" in metrics

    found = {name: value for name, value in row.items() if may_stand(name)}
    return {"model": row["model"], **found} if found else None


def why_no_classifier(network: str, papers: str | None = None, *, phantoms: bool) -> str | None:
    """Return why a classifier's numbers do not stand beside the paper's; None where they may.

    Args:
        network: The classifier's name.
        papers: The paper's; None: CCELLA's.
        phantoms: Whether its images are of phantoms.
    """
    if phantoms:
        return "the data are phantoms"
    papers = papers or _PAPERS_CLASSIFIER
    if network != papers:
        return f"the classifier is {network}, the paper's is {papers}"
    return None
