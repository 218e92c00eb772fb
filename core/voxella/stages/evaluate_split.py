"""Which split of a synthetic data set is compared with real cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from voxella.errors import UserError
from voxella.recipe.model import Recipe

__all__ = ["compared_split", "listed"]

_SHOWN = 6


def compared_split(recipe: Recipe, split_of: Mapping[str, str]) -> str:
    """Return the split whose synthetic and real cases are compared.

    Asked for, or the only one; of a data set made from several splits, the first that the recipe
    names. Anything else is a mix.

    Args:
        recipe: What it asks for.
        split_of: The split of each synthetic case's source, by id.

    Raises:
        UserError: The cases stem from several splits and nothing says which is meant, or none from
            the one asked for.
    """
    found = Counter(split_of.values())
    asked, made = recipe.evaluate.real_split, recipe.sample.splits
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
        f"would be compared with ({told}), such as {listed(other)}: a distance between mixed "
        "splits has no meaning",
        legal="synthetic cases made from reports of one split, or one of several by its name",
        remedy=" or ".join(f"--set evaluate.real_split={split}" for split in sorted(found)),
    )


def listed(names: Sequence[str]) -> str:
    """Return the first few names."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
