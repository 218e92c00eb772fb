"""What the recipes of a study must have in common, or its table compares apples with pears."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

from voxella.errors import UserError
from voxella.study.recipes import Loaded

__all__ = ["WORKSPACE", "require_agreement"]

WORKSPACE = "workspace"
_SHARED = (
    *(
        "seed",
        "workspace_seed",
        "data",
        "prepare",
        "autoencoder",
        "autoencoder_training",
        "latent",
        "evaluate",
    ),
    *("sample.split", "sample.count", "sample.per_case", "sample.prompts"),
)


def require_agreement(entries: Sequence[Loaded], varies: Collection[str] = ()) -> None:
    """Refuse recipes that cannot stand in one study.

    Args:
        entries: The recipes.
        varies: Blocks that they may differ in.

    Raises:
        UserError: An override is for none of them, two have one name, one of them samples in a
            sweep, or they differ in what a study keeps equal.
    """
    _refuse_useless(entries)
    _refuse_same_names(entries)
    _refuse_different(entries, varies)


def _refuse_useless(entries: Sequence[Loaded]) -> None:
    """Refuse an override that no recipe can take, and a sweep, whose numbers have no one row."""
    nowhere = set.intersection(*(set(entry.left_out) for entry in entries))
    problems = [
        f"--set {text}: no recipe of the study has a {text.partition('.')[0]} block"
        for text in sorted(nowhere)
    ]
    problems += [
        f"recipe {entry.recipe.name}: sample.sweep makes several data sets, a table has one row"
        for entry in entries
        if entry.recipe.sample.sweep is not None
    ]
    if problems:
        raise UserError("\n".join(problems))


def _refuse_same_names(entries: Sequence[Loaded]) -> None:
    names = [entry.recipe.name for entry in entries]
    twice = sorted({n for n in names if names.count(n) > 1 or n.startswith(WORKSPACE)})
    if twice:
        raise UserError(
            f"recipes of a study have folders by their names, and these are taken: "
            f"{', '.join(twice)}",
            remedy="give each recipe file a `name:` of its own",
        )


def _refuse_different(entries: Sequence[Loaded], varies: Collection[str]) -> None:
    first, *others = [entry.recipe for entry in entries]
    problems = []
    shared, texts = [key for key in _SHARED if key not in varies], "text" not in varies
    for other in others:
        # A classifier learns from what another recipe samples, of the training cases.
        learns = first.classify is not None or other.classify is not None
        asked = [key for key in shared if not (learns and key == "sample.split")]
        differing = [key for key in asked if attrgetter(key)(first) != attrgetter(key)(other)]
        if texts and None not in (first.text, other.text) and first.text != other.text:
            differing.append("text")
        if differing:
            problems.append(f"{other.name} and {first.name} differ in {', '.join(differing)}")
    reader = next((r for r in (first, *others) if r.text is not None), None)
    if texts and first.text is None and reader is not None:
        problems += [
            f"{other.name} and {reader.name} differ in text"
            for other in others
            if other.text not in (None, reader.text)
        ]
    if problems:
        raise UserError(
            "\n".join(problems),
            expected="the recipes of a study share data, seed, preparation, autoencoder and text",
            remedy="--set KEY=VALUE and --profile hold for all of them; voxella recipe diff A B; a "
            "study whose table compares such blocks names them: varies: [autoencoder, latent]",
        )
