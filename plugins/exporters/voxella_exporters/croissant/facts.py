"""What is known of a data set for its description: counts and settings, no case's own value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from voxella.case import Case
from voxella_exporters.names import is_synthetic

__all__ = ["describe", "responsible"]

_MADE_BY = ("model", "seed", "sampler", "steps", "guidance")


def describe(cases: Sequence[Case]) -> str:
    """Return what the data set is, in two sentences."""
    made = sum(is_synthetic(case) for case in cases)
    groups = len({case.group for case in cases})
    kind = "synthetic" if made == len(cases) else "real" if not made else "real and synthetic"
    return (
        f"{len(cases)} {kind} cases of {groups} groups (patients or slides), {made} of them made "
        f"by a latent diffusion model. Cases by split: {_counted(case.split for case in cases)}; "
        f"by label: {_counted(case.label or 'unknown' for case in cases)}."
    )


def responsible(cases: Sequence[Case], *, with_text: bool) -> dict[str, Any]:
    """Return fields of the extension RAI, by name.

    Args:
        cases: Of the data set.
        with_text: Whether reports leave with it.
    """
    made = [case for case in cases if is_synthetic(case)]
    real = len(cases) > len(made)
    settings = {
        name: sorted({str(case.extra[name]) for case in made if case.extra.get(name) is not None})
        for name in _MADE_BY
    }
    told = "; ".join(f"{name}: {', '.join(values)}" for name, values in settings.items() if values)
    collection = []
    if made:
        collection.append(f"{len(made)} cases sampled from a latent diffusion model ({told}).")
    if real:
        collection.append(f"{len(cases) - len(made)} cases imported from clinical or public data.")
    sensitive = ["Names of cases and groups are pseudonyms; under the GDPR they are no anonymity."]
    if real:
        sensitive.append("Images of real persons; their voxels are not altered.")
    if made:
        sensitive.append("Synthetic images may resemble cases that the model was trained on.")
    if with_text:
        sensitive.append("The table holds reports, which are patient data.")
    sources = _counted(case.label_source or "unknown" for case in cases)
    return {
        "dataCollection": " ".join(collection),
        "dataCollectionType": [*(["Synthetic"] if made else []), *(["Others"] if real else [])],
        "dataPreprocessingProtocol": [
            "Images are stored in RAS order, as NIfTI or PNG, without any other header field."
        ],
        "dataAnnotationProtocol": [f"Labels by source: {sources}."],
        "dataBiases": [f"Cases by label: {_counted(case.label or 'unknown' for case in cases)}."],
        "dataLimitations": [
            "For research; not for diagnosis.",
            *(["Labels of synthetic cases are those that were asked for."] if made else []),
        ],
        "dataUseCases": ["Training and evaluation of models of medical images."],
        "personalSensitiveInformation": sensitive,
    }


def _counted(values: Any) -> str:  # noqa: ANN401 - any iterable of words
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(values).items()))
