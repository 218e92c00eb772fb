"""What a training reads: latents and text features, from their caches or as it goes."""

from __future__ import annotations

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cache.latents import LatentCache
from voxella.cache.online import OnlineLatents
from voxella.cache.text import TextCache
from voxella.case import Case, Manifest
from voxella.case.texts import keeps_report
from voxella.errors import UserError
from voxella.progress import print_line
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


def open_features(
    text: Text | None, folders: Folders, cases: dict[str, Case], seed: int
) -> TextCache | None:
    """Return the features of these cases' texts; None where the recipe reads none.

    Args:
        text: The recipe's block; says of how many cases the report is read.
        folders: Of the run.
        cases: That are trained on.
        seed: Decides which they are.

    Raises:
        UserError: They are not there, made otherwise, or a case has none.
    """
    if text is None:
        return None
    features = TextCache.open(folders.text, text)
    features.require(cases)
    share, synthetic = text.reports_share, text.synthesise is not None
    told = [name for name in cases if features.has_report(name)]
    withheld = [name for name in told if not keeps_report(share, seed=seed, case_id=name)]
    found = features.for_training(withheld, synthetic=synthetic)
    if share < 1 or synthetic:
        instead = sum(found.has_report(name) for name in cases) - len(told) + len(withheld)
        print_line(
            f"text: {len(told) - len(withheld)} of {len(told)} training cases with a report are "
            f"shown with it, {instead} with a synthetic one, "
            f"{len(cases) - len(told) + len(withheld) - instead} with the empty one",
            quiet=not Ranks.from_environment().is_main,
        )
    return found


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
