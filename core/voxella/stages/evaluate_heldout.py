"""The text head on reports that training has not seen: the conditioner alone, no sampling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from voxella.cache.text import TextCache
from voxella.diffusion.samplers import make_sampler
from voxella.errors import UserError
from voxella.export import load_facts, load_model
from voxella.model import LatentDiffusion
from voxella.recipe.model import Recipe
from voxella.stages.evaluate_measured import reason
from voxella.stages.evaluate_sets import Sets, Subject
from voxella.stages.evaluate_text import HeadAnswer
from voxella.stages.folders import Folders

__all__ = ["answers_of_unseen"]


def answers_of_unseen(
    recipe: Recipe, folders: Folders, sets: Sets, device: torch.device
) -> list[HeadAnswer] | str:
    """Return what the run's model says of the unseen split's reports; or why it says nothing.

    As in sampling the head is asked at the sampler's last timestep; the label is withheld.

    Args:
        recipe: The experiment.
        folders: Of the run: its model and text features.
        sets: The unseen cases.
        device: Where to compute.
    """
    labelled = [s for s in sets.unseen if s.case.label in recipe.data.classes]
    if recipe.text is None:
        return "the recipe reads no text"
    if not labelled:
        return "neither test nor val has a labelled case"
    try:
        text = TextCache.open(folders.text, recipe.text)
        text.require(subject.id for subject in labelled)
        load_facts(folders.model)
    except UserError as refusal:
        return reason(refusal)
    model = load_model(folders.model).to(device)
    found = list(_asked(recipe, model, text, labelled, device))
    return found or "the model has no text head"


@torch.no_grad()
def _asked(
    recipe: Recipe,
    model: LatentDiffusion,
    text: TextCache,
    subjects: Iterable[Subject],
    device: torch.device,
) -> Iterable[HeadAnswer]:
    settings = recipe.sample
    last = make_sampler(settings.sampler, model.schedule, settings.steps).moves[-1].t
    timestep = torch.tensor([last], device=device)
    for subject in subjects:
        features, has_report = text.read(subject.id)
        given: dict[str, Any] = {"text_features": features[None].float().to(device)}
        spacing = subject.case.extra.get("spacing_mm")
        if spacing:
            given["spacing_mm"] = torch.tensor([spacing], device=device)
        logits = model.condition(timesteps=timestep, **given).class_logits
        if logits is None:
            return
        positive = float(logits.float().softmax(dim=1)[0, -1])
        label = str(subject.case.label)
        yield HeadAnswer(subject.id, subject.patient, label, positive, has_report)
