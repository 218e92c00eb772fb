"""Which parameters are trained, and at which learning rate, by patterns over their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from voxella.errors import UserError
from voxella.recipe.model import Optimizer, RateGroup
from voxella.terminal import print_line
from voxella.wording import listed, quoted

__all__ = ["freeze", "matching", "nearest_names", "parameter_groups", "print_trained"]


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that a pattern means: of a whole part of the model, or by ``*?[]``.

    Args:
        names: Dotted, as ``named_parameters`` gives them.
        pattern: ``backbone`` or ``backbone.conv_in`` means all below it.
    """
    return [n for n in names if n.startswith(f"{pattern}.") or fnmatchcase(n, pattern)]


def freeze(
    model: nn.Module, patterns: Sequence[str], *, more_comes: bool = False, key: str = "init.freeze"
) -> None:
    """Take parameters out of training.

    Args:
        model: On any device.
        patterns: See :func:`matching`.
        more_comes: Adapters will be trained: all of the model may be frozen.
        key: The recipe's key, for messages.

    Raises:
        UserError: A pattern means no parameter, or nothing is left to be trained.
    """
    named = dict(model.named_parameters())
    for index, pattern in enumerate(patterns):
        found = matching(named, pattern)
        if not found:
            raise _nothing(f"{key}[{index}]", pattern, named)
        for name in found:
            named[name].requires_grad_(False)
    if patterns and not more_comes and not any(p.requires_grad for p in named.values()):
        raise UserError(
            f"{key}: {listed([quoted(pattern) for pattern in patterns])} freeze every parameter of "
            "the model: nothing is left to be trained",
            remedy=f"leave out a pattern, or voxella sample with the model as it is; {key}=[]",
        )


def parameter_groups(
    model: nn.Module, groups: Sequence[RateGroup], *, key: str = "optimizer.groups"
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Return what is trained, as an optimizer takes it: a list, or groups where rates differ.

    Args:
        model: What is trained of it requires a gradient.
        groups: The first whose pattern means a parameter counts; the rest of them come first, at
            the optimizer's own rate.
        key: The recipe's key, for messages.

    Raises:
        UserError: A pattern means no parameter that is trained.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not groups:
        return list(trained.values())
    left = dict(trained)
    found: list[dict[str, Any]] = []
    for index, group in enumerate(groups):
        names = matching(left, group.match)
        if not names:
            raise _nothing(f"{key}[{index}].match", group.match, left, trained=True)
        found.append({"params": [left.pop(name) for name in names], "lr": group.lr})
    rest: list[dict[str, Any]] = [{"params": list(left.values())}] if left else []
    return rest + found


def print_trained(model: nn.Module, optimizer: Optimizer, *, quiet: bool = False) -> None:
    """Print how many parameters learn at which rate; nothing where all do at one.

    Raises:
        UserError: As :func:`parameter_groups`.
    """
    parameter_groups(model, optimizer.groups)
    named = dict(model.named_parameters())
    frozen = sum(p.numel() for p in named.values() if not p.requires_grad)
    left = {name: p.numel() for name, p in named.items() if p.requires_grad}
    if not (frozen or optimizer.groups):
        return
    lines = [f"trained: {sum(left.values()):,} parameters; frozen: {frozen:,}"]
    for group in optimizer.groups:
        count = sum(left.pop(name) for name in matching(left, group.match))
        lines.append(f"  {group.match}: {count:,} at a learning rate of {group.lr:g}")
    if left:
        rest = "the others" if optimizer.groups else "all of them"
        lines.append(f"  {rest}: {sum(left.values()):,} at a learning rate of {optimizer.lr:g}")
    print_line("\n".join(lines), quiet=quiet)


def _nothing(key: str, pattern: str, names: Iterable[str], *, trained: bool = False) -> UserError:
    """Return the refusal of a pattern, with the names that are most like it."""
    known = list(names)
    parts = sorted({".".join(n.split(".")[:depth]) for n in known for depth in (1, 2, 3)})
    near = nearest_names(pattern, [*parts, *known])
    return UserError(
        f"{key}: {quoted(pattern)} means no parameter"
        + (" that is trained and not in a group before it" if trained else ""),
        expected="a part of the model, or a pattern over names; nearest: " + ", ".join(near),
    )


def nearest_names(pattern: str, names: Sequence[str]) -> list[str]:
    """Return up to three of the names, those most like a pattern; the first where none is alike."""
    near = difflib.get_close_matches(pattern.strip("*."), names, n=3, cutoff=0.4)
    return near or list(names[:3])
