"""What a training reads: latents and text features, from their caches or as it goes."""

from __future__ import annotations

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cache.latents import LatentCache
from voxella.cache.online import OnlineLatents
from voxella.cache.text import TextCache
from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.ranks import Ranks
from voxella.recipe.inputs import Text
from voxella.workspace.folders import Folders

__all__ = ["open_features", "open_latents", "training_cases"]


def open_latents(
    plan: AutoencoderPlan, folders: Folders, ranks: Ranks
) -> LatentCache | OnlineLatents:
    """Return the latents of a run, cached or encoded as training goes; collective.

    Raises:
        UserError: They are not there, or made otherwise.
    """
    if plan.latent.source == "cached":
        return LatentCache.open(folders.latents, plan.latent)
    own = folders.run / "train"
    return OnlineLatents.open(plan, folders.prepared, folders.autoencoder, own, ranks)


def open_features(text: Text | None, folders: Folders, cases: dict[str, Case]) -> TextCache | None:
    """Return the features of these cases' texts; None where the recipe reads none.

    Raises:
        UserError: They are not there, made otherwise, or a case has none.
    """
    if text is None:
        return None
    features = TextCache.open(folders.text, text)
    features.require(cases)
    return features


def training_cases(folders: Folders) -> dict[str, Case]:
    """Return the cases of the split train by id.

    Raises:
        UserError: There is none.
    """
    cases = {case.id: case for case in Manifest.read(folders.prepared).split("train")}
    if not cases:
        raise UserError(
            f"{folders.prepared} has no case in the split train",
            remedy="fix the manifest's splits and run voxella prepare again",
        )
    return cases
