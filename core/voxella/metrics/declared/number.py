"""What a metric declares of each of its numbers: all that a table, a page or a study says of it.

Nothing here needs torch: a study is checked, and a plugin listed, without waiting for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BINARY",
    "GROUPS",
    "HELD_OUT",
    "PICTURES",
    "Direction",
    "Number",
    "distance_key",
    "key_of",
    "kind_in",
    "statistic_of",
]

Direction = Literal["lower", "higher", ""]
_ARROWS = {"lower": " ↓", "higher": " ↑", "": ""}

# In the order of the page.
GROUPS = (
    "Distance to the real images",
    "Diversity and coverage",
    "Text head, all cases",
    "Text head, cases with a report",
    "Text head, unseen reports",
    "Text head, unseen cases with a report",
    "Adherence to report and label",
    "Copies of training cases",
    "Other",
)
# Numbers of two classes by their key: in a column's heading, and in full.
BINARY = {
    "accuracy": ("accuracy", "Accuracy"),
    "sensitivity": ("sensitivity", "Sensitivity"),
    "specificity": ("specificity", "Specificity"),
    "ppv": ("PPV", "Positive predictive value"),
    "npv": ("NPV", "Negative predictive value"),
    "auc": ("AUC", "AUC"),
    "ap": ("AP", "Average precision"),
}
# Kind of the features of images of two axes, and what their numbers of unseen cases end with.
PICTURES, HELD_OUT = "2d", "_heldout"
# Of a key, where the statistic that computes it has another name.
_STATISTICS = {"ap": "average_precision"}
_KEYS = {statistic: key for key, statistic in _STATISTICS.items()}


def statistic_of(key: str) -> str:
    """Return what ``voxella.metrics`` calls a number of predictions, by its key in files."""
    return _STATISTICS.get(key, key)


def key_of(statistic: str) -> str:
    """Return the key of a number of predictions in files; see :func:`statistic_of`."""
    return _KEYS.get(statistic, statistic)


def distance_key(distance: str, kind: str) -> str:
    """Return the key of a distance: ``fid_3d``, ``kid_2d_axial``; of pictures, ``fid`` alone.

    Args:
        distance: ``fid`` or ``kid``.
        kind: Of the features: ``3d``, ``2d_axial``...; ``2d`` of pictures.
    """
    return distance if kind == PICTURES else f"{distance}_{kind}"


def kind_in(key: str) -> str:
    """Return the kind of features of a distance; the inverse of :func:`distance_key`."""
    return key.partition("_")[2] or PICTURES


@dataclass(frozen=True)
class Number:
    """The declaration of one number.

    Attributes:
        key: Its name in ``metrics.json``, in recipes of studies and in TensorBoard.
        label: For people, where its group stands above it.
        heading: Of a table's column, without the arrow of its direction.
        better: Which way is better; "" where neither is.
        group: Of the page: one of :data:`GROUPS`, or a new one, which comes after these.
        unit: Such as ``mm`` or ``%``; "" where it has none.
        bounded: It lies between 0 and 1.
        paper_key: Key of the recipe's ``paper`` block that says the same; None: the paper has none.
        paper_split: Split of the real cases that the paper's number is of.
        same_cases: It is of the cases that the paper's number is of. Where not, the page does not
            show the two beside each other.
        table: Title of the terminal's table that it has a row in; "" is the first one.
        row: Its name there; "" is its key.
        printed: Whether the terminal shows it at all; the file and the page do.
        family: Numbers of one family are compared case by case in the same way; "" is none.
    """

    key: str
    label: str
    heading: str
    better: Direction
    group: str = GROUPS[-1]
    unit: str = ""
    bounded: bool = False
    paper_key: str | None = None
    paper_split: str = "test"
    same_cases: bool = True
    table: str = ""
    row: str = ""
    printed: bool = True
    family: str = ""

    @property
    def column(self) -> str:
        """Return the heading with an arrow that says which way is better."""
        return self.heading + _ARROWS[self.better]

    @property
    def full_label(self) -> str:
        """Return the label for where its group does not stand above it."""
        return f"Text head, {self.label.lower()}" if self.family == "text" else self.label

    @property
    def beside_paper(self) -> str | None:
        """Return the key of the paper's number that may stand beside it on the page."""
        return self.paper_key if self.same_cases else None

    @classmethod
    def undeclared(cls, key: str) -> Number:
        """Return what is said of a number that no installed metric declares: its key."""
        told = key.replace("_", " ")
        return cls(key, told, told, "")
