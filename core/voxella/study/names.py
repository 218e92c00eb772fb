"""The numbers that a study may ask for: what a table calls them, where they stand in the paper."""

from __future__ import annotations

__all__ = ["CLASSIFY", "EVALUATE", "KNOWN", "heading", "paper_field"]

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


def heading(metric: str) -> str:
    """Return a metric's name in running text, such as ``3D FID``."""
    return KNOWN[metric].removesuffix(_LOWER).removesuffix(_HIGHER)


def paper_field(metric: str) -> str:
    """Return the key of a recipe's ``paper`` block for a metric; not every metric has one there."""
    plain = metric.removeprefix("text_")
    ends = sorted(filter(None, _AMONG), key=len, reverse=True)
    return next((plain.removesuffix(end) for end in ends if plain.endswith(end)), plain)
