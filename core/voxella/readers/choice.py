"""Which cases are read: half of them real, labels alike in both halves, drawn by a seed.

A case's draw is a function of (seed, id): a case that is added to a data set or taken from it
changes no other case's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from voxella.case import Case
from voxella.errors import UserError
from voxella.philox import keyed_generator
from voxella.wording import counted

__all__ = ["choose_halves", "drawn"]


def drawn(seed: int, purpose: str, *what: int | str) -> float:
    """Return a number in [0, 1) that is drawn for one thing alone."""
    return float(keyed_generator(seed, "reader-study", purpose, *what).random())


def choose_halves(
    real: Sequence[Case], synthetic: Sequence[Case], count: int, seed: int
) -> tuple[list[Case], list[Case]]:
    """Return as many real cases as synthetic ones, ``count`` in all.

    Of every group (patient) at most one case is taken, so that cases are independent. As many of a
    label are taken of one kind as of the other, as far as there are any: a label must not tell.

    Args:
        real: To choose from.
        synthetic: To choose from.
        count: Even.
        seed: Of the draws.

    Raises:
        UserError: The count is odd or below 2, or there are not enough cases of a kind.
    """
    if count < 2 or count % 2:
        raise UserError(f"a reader study of {counted(count, 'case')}", expected="2, 4, 6, ...")
    half = count // 2
    pools = [_one_of_a_group(cases, kind, seed) for cases, kind in _kinds(real, synthetic)]
    for pool, kind in zip(pools, ("real", "synthetic"), strict=True):
        if len(pool) < half:
            raise UserError(
                f"{count} cases are {half} real and {half} synthetic ones, and there are "
                f"{len(pool)} {kind} ones of different groups",
                remedy=f"--cases {2 * min(map(len, pools))}, or more splits: --split train",
            )
    quotas = _quotas(pools, half, seed)
    chosen_real, chosen_synthetic = (_take(pool, quotas, half) for pool in pools)
    return chosen_real, chosen_synthetic


def _kinds(real: Sequence[Case], synthetic: Sequence[Case]) -> list[tuple[Sequence[Case], str]]:
    return [(real, "real"), (synthetic, "synthetic")]


def _one_of_a_group(cases: Iterable[Case], kind: str, seed: int) -> list[Case]:
    """Return one case of each group, in the order of their draws."""
    first: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: (drawn(seed, kind, case.id), case.id)):
        first.setdefault(case.group, case)
    return list(first.values())


def _quotas(pools: Sequence[Sequence[Case]], half: int, seed: int) -> dict[str, int]:
    """Return how many of each label are taken of both kinds, dealt in turn."""
    there = [_count(pool) for pool in pools]
    left = {label: min(there[0][label], there[1][label]) for label in there[0].keys() & there[1]}
    # Where the turns do not come out even, the seed decides which label has one more.
    order = sorted(left, key=lambda label: (drawn(seed, "label", label), label))
    quotas = dict.fromkeys(order, 0)
    while sum(quotas.values()) < half and any(left.values()):
        for label in order:
            if left[label] and sum(quotas.values()) < half:
                quotas[label] += 1
                left[label] -= 1
    return quotas


def _take(pool: Sequence[Case], quotas: dict[str, int], half: int) -> list[Case]:
    """Return the first of each label, then the first of the others until there are enough."""
    wanted, taken = dict(quotas), []
    for case in pool:
        if wanted.get(case.label or "", 0):
            wanted[case.label or ""] -= 1
            taken.append(case)
    ids = {case.id for case in taken}
    return taken + [case for case in pool if case.id not in ids][: half - len(taken)]


def _count(pool: Iterable[Case]) -> dict[str, int]:
    found: dict[str, int] = {}
    for case in pool:
        found[case.label or ""] = found.get(case.label or "", 0) + 1
    return found
