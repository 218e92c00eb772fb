"""The numbers that a study may ask for: what a table calls them, where they stand in the paper.

What the page calls a number, in which group it stands, which way is better, its paper's key.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLASSIFY", "EVALUATE", "GROUPS", "KNOWN", "heading", "name_of", "paper_field"]

_PLANES = ("sagittal", "coronal", "axial")
_BINARY = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "auc": "AUC",
    "ap": "AP",
}
# Which reports the text head was asked about; without an end: those that samples were made from.
_AMONG = {
    "": "",
    "_with_report": ", reports only",
    "_heldout": ", unseen cases",
    "_heldout_with_report": ", unseen reports",
}
_LOWER, _HIGHER = " ↓", " ↑"

# metric -> column heading, of what `voxella evaluate` writes
EVALUATE: dict[str, str] = {
    "fid_3d": "3D FID" + _LOWER,
    "kid_3d": "3D KID" + _LOWER,
    **{f"fid_2d_{plane}": f"2D FID {plane}" + _LOWER for plane in _PLANES},
    **{f"kid_2d_{plane}": f"2D KID {plane}" + _LOWER for plane in _PLANES},
    "ms_ssim": "MS-SSIM between volumes",
    "precision": "precision" + _HIGHER,
    "recall": "recall" + _HIGHER,
    "density": "density" + _HIGHER,
    "coverage": "coverage" + _HIGHER,
    "histogram_distance": "histogram distance" + _LOWER,
    **{
        f"text_{name}{end}": f"text {told}{among}" + _HIGHER
        for end, among in _AMONG.items()
        for name, told in _BINARY.items()
    },
    **{
        f"adherence_{what}": f"adherence, {what}" + _HIGHER
        for what in ("presence", "side", "zone", "size")
    },
    **{
        f"adherence_reconstructed_{what}": f"real cases after the autoencoder, {what}" + _HIGHER
        for what in ("presence", "side", "zone", "size")
    },
    **{
        f"adherence_label_{what}": f"label seen by a classifier, {_BINARY[what]}" + _HIGHER
        for what in ("accuracy", "auc", "sensitivity", "specificity")
    },
    "copies_share_latent": "copies (latent)" + _LOWER,
    "copies_share_image": "copies (image)" + _LOWER,
}
# The same of `voxella classify`.
CLASSIFY: dict[str, str] = {
    **{name: told + _HIGHER for name, told in _BINARY.items()},
    "percent_positive": "% positive",
}
KNOWN: dict[str, str] = {**EVALUATE, **CLASSIFY}

_SHORT_PLANES = {f"2d_{plane}": f"2D {plane}" for plane in ("sagittal", "coronal", "axial")}
_KINDS = {"3d": "3D", **_SHORT_PLANES}
_SHORT_BINARY = {
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "auc": "AUC",
    "ap": "Average precision",
    "brier": "Brier score",
    "ece": "Calibration error",
    "prevalence": "Prevalence",
    "percent_positive": "Positive in the training set, %",
}
_LOWER_IS_BETTER = (
    "fid_",
    "kid_",
    "histogram_",
    "copies_",
    "text_brier",
    "text_ece",
    "brier",
    "ece",
)
_NEITHER = ("ms_ssim", "prevalence", "text_prevalence", "percent_positive")
_SPREAD = {
    "ms_ssim": "MS-SSIM between synthetic volumes",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
    "histogram_distance": "Intensity histogram, Wasserstein",
}
_HELD, _REPORTS = "_heldout", "_with_report"

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
_SHORT = {"auc": "AUC"}
# What names of a family begin with -> what the page says in its place, and the group; a longer
# beginning before the shorter one that it has.
_STARTS = {
    "adherence_label_": ("Its label, to a classifier of real images", GROUPS[6]),
    "adherence_reconstructed_": ("Real cases after the autoencoder alone", GROUPS[6]),
    "adherence_": ("As the report says", GROUPS[6]),
    "copies_share_": ("Suspected copies", GROUPS[7]),
    "copies_beyond_chance_": ("Copies beyond chance", GROUPS[7]),
}


def heading(metric: str) -> str:
    """Return a metric's name in running text, such as ``3D FID``."""
    return KNOWN[metric].removesuffix(_LOWER).removesuffix(_HIGHER)


def paper_field(metric: str) -> str:
    """Return the key of a recipe's ``paper`` block for a metric; not every metric has one there."""
    plain = metric.removeprefix("text_")
    ends = sorted(filter(None, _AMONG), key=len, reverse=True)
    return next((plain.removesuffix(end) for end in ends if plain.endswith(end)), plain)


@dataclass(frozen=True)
class MetricName:
    """How a metric is presented.

    Attributes:
        label: For people.
        group: One of :data:`GROUPS`.
        better: ``lower``, ``higher``, or "" where neither is.
        bounded: It lies between 0 and 1.
        paper_key: Key of the recipe's ``paper`` block that says the same; None: the paper has none.
    """

    label: str
    group: str
    better: str
    bounded: bool
    paper_key: str | None


def name_of(metric: str) -> MetricName:
    """Return how a metric is presented; one that nobody has foreseen is shown by its key."""
    better = (
        "lower"
        if metric.startswith(_LOWER_IS_BETTER)
        else ""
        if metric.startswith(_NEITHER)
        else "higher"
    )
    distance, _, kind = metric.partition("_")
    if distance in ("fid", "kid") and kind in _KINDS:
        label = f"{distance.upper()}, {_KINDS[kind]} features"
        return MetricName(label, GROUPS[0], better, False, metric if distance == "fid" else None)
    if metric in _SPREAD:
        bounded = metric not in ("density", "histogram_distance")
        return MetricName(_SPREAD[metric], GROUPS[1], better, bounded, None)
    if metric.startswith("text_"):
        return _text_head(metric, better)
    if metric in _SHORT_BINARY:
        return MetricName(
            _SHORT_BINARY[metric], GROUPS[8], better, metric != "percent_positive", metric
        )
    for start, (told, group) in _STARTS.items():
        if metric.startswith(start):
            rest = metric.removeprefix(start)
            label = f"{told}, {_SHORT.get(rest, rest.replace('_', ' '))}"
            return MetricName(label, group, better, True, None)
    return MetricName(metric.replace("_", " "), GROUPS[8], "", False, None)


def _text_head(metric: str, better: str) -> MetricName:
    key = metric.removeprefix("text_")
    reports = key.endswith(_REPORTS)
    key = key.removesuffix(_REPORTS)
    held = key.endswith(_HELD)
    key = key.removesuffix(_HELD)
    label = _SHORT_BINARY.get(key, key.replace("_", " "))
    paper = None if reports or held else key
    return MetricName(label, GROUPS[2 + 2 * held + reports], better, True, paper)
