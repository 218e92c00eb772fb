"""A recipe from its files: extends, profiles, conditions, overrides; then checked, then resolved.

Precedence, from weak to strong:

1. the recipe's file over everything it ``extends`` (``layers.py``),
2. the recipe's ``when`` clauses that hold (``conditions.py``),
3. each profile in the order given: first its plain keys, then its ``when`` clauses that hold,
4. every ``--set`` (``overrides.py``).

``--set`` values are also laid in below each layer's conditions, so that ``--set
conditioner.name=shared`` picks the arguments that a profile has for ``shared``. A profile that
changes a block which some recipes switch off (``text``) does so under a condition, so null in a
recipe stays null.

Nothing here imports torch: a recipe is checked to the last argument in a fraction of a second.

What only shows when blocks are seen together; every rule says why it exists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxella.diffusion.samplers import misfits, quickest
from voxella.limits import VOXELS
from voxella.plugins.registry import builder as registered_builder
from voxella.recipe.autoencoder import stacked
from voxella.recipe.bind import Bound, Lookup, bind
from voxella.recipe.conditions import clauses, judge
from voxella.recipe.inputs import Latent, Prepare
from voxella.recipe.layers import Document, absolute, anchored, find_profile, read_chain, stack
from voxella.recipe.model import Recipe
from voxella.recipe.objective.diffusion import Diffusion
from voxella.recipe.overrides import Override, apply, parse_overrides
from voxella.recipe.problems import Problem, from_validation, impossible_numbers, raise_problems
from voxella.recipe.sampling import Sample
from voxella.recipe.shape import KeyPath
from voxella.recipe.start import lora_problems, started
from voxella.recipe.training import Dropout, Train
from voxella.recipe.yaml_lines import Node, dump_yaml, locate, plain, shown
from voxella.wording import quoted

__all__ = ["assemble", "dump_recipe", "load_recipe", "resolve"]


def load_recipe(
    path: str | Path, profiles: Sequence[str] = (), overrides: Sequence[str] = ()
) -> Recipe:
    """Load, check and resolve a recipe.

    Args:
        path: The recipe's file.
        profiles: Names or paths of overlays, applied in order.
        overrides: ``a.b=c`` strings, applied last; values are YAML, a number is a list's index.

    Returns:
        The recipe with every default filled in and every path absolute.

    Raises:
        UserError: One, that lists everything wrong with the recipe, each with file and line.
    """
    source = absolute(path, Path.cwd())
    return resolve(assemble(source, profiles, overrides), shown(source))


def assemble(path: Path, profiles: Sequence[str] = (), overrides: Sequence[str] = ()) -> Node:
    """Merge a recipe's layers without checking what they say.

    Raises:
        UserError: For a file that cannot be read, a cycle, an unknown profile, a malformed
            condition or override.
    """
    sets = parse_overrides(overrides)
    chain = read_chain(path)
    tree = _lay(None, chain, sets)
    for profile in profiles:
        tree = _lay(tree, read_chain(find_profile(profile, chain)), sets)
    tree = _without_null_settings(apply(tree, sets))
    return Node(tree.value, chain[-1].body.mark)  # what is missing is missing from the recipe


def _lay(tree: Node | None, chain: Sequence[Document], sets: Sequence[Override]) -> Node:
    return judge(apply(stack(tree, chain), sets, lenient=True), clauses(chain))


def _without_null_settings(tree: Node) -> Node:
    """Drop nulls from the ``deepspeed`` block: there null only removes an inherited setting."""
    block = tree.get("deepspeed")
    if block is None or not isinstance(tree.value, dict):
        return tree
    return Node({**tree.value, "deepspeed": _without_nulls(block)}, tree.mark)


def _without_nulls(node: Node) -> Node:
    if not isinstance(node.value, dict):
        return node
    kept = {k: _without_nulls(v) for k, v in node.value.items() if v.value is not None}
    return Node(kept, node.mark)


def resolve(tree: Node, source: str, lookup: Lookup = registered_builder) -> Recipe:
    """Check a merged recipe, bind its components and make its paths absolute.

    Args:
        tree: From :func:`assemble`.
        source: How errors call the recipe.
        lookup: ``(kind, name)`` to a builder.

    Raises:
        UserError: One, that lists every problem; or ``init`` gives the autoencoder weights that it
            cannot take.
    """
    raise_problems(impossible_numbers(tree), source)
    bound = bind(tree, lookup)
    problems: list[Problem] = []
    try:
        # Strict JSON: "3" and true are no numbers, but a list may be a tuple and a word a path.
        recipe = Recipe.model_validate_json(json.dumps(plain(tree)), strict=True)
    except ValidationError as error:
        problems = from_validation(error, tree)
    else:
        problems = cross_check(recipe, tree)
    raise_problems([*problems, *bound.problems], source)
    whole = Recipe.model_validate(_completed(anchored(recipe.model_dump(), tree), bound))
    autoencoder = started(whole.init, whole.autoencoder)
    return whole.model_copy(update={"autoencoder": autoencoder})


def _completed(data: dict[str, Any], bound: Bound) -> dict[str, Any]:
    """Put the converted arguments in the place of the written ones."""
    for path, arguments in bound.arguments.items():
        block: Any = data
        for part in path:
            block = block[part]
        block.update(arguments)
    return data


def dump_recipe(recipe: Recipe) -> str:
    """Return YAML that :func:`load_recipe` reads back to an equal recipe, from any folder."""
    return dump_yaml(recipe.model_dump(mode="json"))


def cross_check(recipe: Recipe, tree: Node) -> list[Problem]:
    """Return what is wrong between the blocks of a recipe that is allowed block by block."""
    return [
        Problem(str(locate(tree, path)[0].mark), path, text)
        for path, text in (
            *_samplers(recipe.diffusion, recipe.sample, recipe.train),
            *stacked(
                recipe.autoencoder,
                recipe.autoencoder_training,
                recipe.data,
                recipe.prepare,
                recipe.latent,
                recipe.evaluate.sequence,
            ),
            *_grids(recipe.prepare, recipe.latent),
            *_ranges(recipe.prepare, recipe.diffusion, recipe.dropout),
            *_null(recipe.sample, recipe.conditions),
            *lora_problems(recipe.lora, recipe.init, recipe.backbone.arguments.get("weights")),
        )
    ]


def _samplers(diffusion: Diffusion, sample: Sample, train: Train) -> Iterator[tuple[KeyPath, str]]:
    """Every plan that the recipe will ask for: of its samples, of a sweep, of panels."""
    plan = (diffusion.schedule, diffusion.steps)
    for key, text in misfits(sample.sampler, *plan, sample.steps):
        yield ("sample", key), text
    if sample.timestep_shift is not None and diffusion.prediction != "flow":
        yield ("sample", "timestep_shift"), "only a flow's timesteps are shifted; expected: null"
    for steps in sample.sweep.steps if sample.sweep is not None else []:
        for key, text in misfits(sample.sampler, *plan, steps):
            if key == "steps":
                yield ("sample", "sweep", "steps"), text
    if train.panel_every:
        for _, text in misfits(quickest(plan[0])[0], *plan, train.panel_steps):
            yield ("train", "panel_steps"), text


def _grids(prepare: Prepare, latents: Latent) -> Iterator[tuple[KeyPath, str]]:
    size, latent = prepare.size, latents.size
    name = "crop_mm" if prepare.crop_voxels is None else "crop_voxels"
    crop = prepare.crop_mm if prepare.crop_voxels is None else prepare.crop_voxels
    if len(crop) != len(size):
        yield ("prepare", name), f"has {len(crop)} axes, prepare.size has {len(size)}"
    if len(latent) != len(size):
        yield ("latent", "size"), f"has {len(latent)} axes, prepare.size has {len(size)}"
        return
    for key, told in latents.augment.problems(len(latent), "latent.size"):
        yield ("latent", "augment", *key.split(".")), told
    if (voxels := math.prod(size)) > VOXELS.most:
        yield (
            ("prepare", "size"),
            f"{voxels:,} voxels; expected: at most {VOXELS.most:,} ({VOXELS.remedy(voxels)})",
        )
    # An autoencoder has one factor for all axes (contracts.Autoencoder.factor).
    seen, of = (size, "prepare.size") if latents.crop is None else (latents.crop, "latent.crop")
    factors = {voxels / cells for voxels, cells in zip(seen, latent, strict=False)}
    if len(factors) != 1 or not next(iter(factors)).is_integer():
        yield (
            ("latent", "size"),
            f"received {latent}: {of} {seen} must be one whole multiple of it, the "
            "autoencoder's factor, the same on every axis",
        )


def _ranges(
    prepare: Prepare, diffusion: Diffusion, dropout: Dropout
) -> Iterator[tuple[KeyPath, str]]:
    low, high = prepare.percentiles
    if not 0 <= low < high <= 100:
        yield (
            ("prepare", "percentiles"),
            f"received {low}, {high}; expected: 0 <= low < high <= 100",
        )
    if diffusion.beta_start >= diffusion.beta_end:
        yield (
            ("diffusion", "beta_start"),
            f"received {diffusion.beta_start}; expected: below beta_end, {diffusion.beta_end}",
        )
    total = dropout.text + dropout.label + dropout.both
    if total > 1:
        yield (
            ("dropout",),
            f"the three shares add up to {total:g}; expected: at most 1, each case loses one of "
            "them",
        )


def _null(sample: Sample, conditions: Iterable[str]) -> Iterator[tuple[KeyPath, str]]:
    """What the unconditional prediction lacks: names that the recipe's models have."""
    expected = ["text", "label", "conditions", *conditions]
    for index, name in enumerate(sample.guidance_null):
        if name not in expected:
            where = ("sample", "guidance_null", index)
            yield where, f"received {quoted(name)}; expected: {', '.join(expected)}"
