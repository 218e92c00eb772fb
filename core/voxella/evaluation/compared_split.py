"""What a recipe compares: images of which size, and which split's real cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxella.errors import UserError
from voxella.imaging.geometry import three_axes
from voxella.recipe.model import Recipe
from voxella.wording import listed

__all__ = ["SetSettings", "compared_split"]


@dataclass(frozen=True)
class SetSettings:
    """What a recipe says of the sets.

    Attributes:
        sequences: That every case has, in order.
        shape: Voxels of every image along R, A, S.
        real_split: The split compared with; None: the one that the synthetic cases are made from.
        made_from: The splits that the recipe makes synthetic cases from.
        whole: Voxels of the prepared images, where the model sees crops of ``shape``: then their
            middles are compared, as PathLDM's real statistics are of centre crops. None: as
            ``shape``.
    """

    sequences: Sequence[str]
    shape: tuple[int, ...]
    real_split: str | None
    made_from: Sequence[str]
    whole: tuple[int, ...] | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> SetSettings:
        """Return a recipe's."""
        prepared, split = three_axes(recipe.prepare.size), recipe.evaluate.real_split
        seen = three_axes(recipe.latent.crop or recipe.prepare.size)
        whole = None if seen == prepared else prepared
        return cls(recipe.data.sequences, seen, split, recipe.sample.splits, whole)


def compared_split(asked: str | None, made: Sequence[str], split_of: Mapping[str, str]) -> str:
    """Return the split whose synthetic and real cases are compared.

    Asked for, or the only one; of a data set made from several splits, the first that the recipe
    names. Anything else is a mix.

    Args:
        asked: ``evaluate.real_split``.
        made: The splits that volumes are made for, in the recipe's order.
        split_of: Of each synthetic case's source, by id.

    Raises:
        UserError: The cases stem from several splits and nothing says which is meant, or none from
            the one asked for.
    """
    found = Counter(split_of.values())
    if asked is not None and asked in found:
        return asked
    if asked is None and len(found) == 1:
        return next(iter(found))
    if asked is None and set(found) <= set(made):
        return next(split for split in made if split in found)
    wanted = asked or found.most_common(1)[0][0]
    other = sorted(name for name, split in split_of.items() if split != wanted)
    told = ", ".join(f"{count} from {split}" for split, count in sorted(found.items()))
    raise UserError(
        f"the synthetic cases are made from other splits than {wanted}, whose real cases they "
        f"would be compared with ({told}), such as {listed(other, 6)}: a distance between mixed "
        "splits has no meaning",
        expected="synthetic cases made from reports of one split, or one of several by its name",
        remedy=" or ".join(f"--set evaluate.real_split={split}" for split in sorted(found)),
    )
