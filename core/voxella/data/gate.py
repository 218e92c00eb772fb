"""The gate: a synthetic data set that holds copies of patients is not handed on.

``voxella evaluate --gate`` judges a data set and writes ``gate.json`` beside its manifest; whatever
hands the data set on asks :func:`require_gate` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NotRequired

from typing_extensions import TypedDict

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.hashing import sha256_file, sha256_json
from voxella.workspace.state import StateFile, sealed

__all__ = ["GATE", "GATES", "hold", "judge", "require_gate", "samples_sha256"]

GATE = "gate.json"
_AGAIN = "voxella evaluate RECIPE --gate LIMIT"


class _Verdict(TypedDict):
    limit: float
    passed: bool
    share: float | None
    high: NotRequired[float | None]
    space: NotRequired[str | None]
    unknown: NotRequired[dict[str, str]]
    samples_sha256: NotRequired[str | None]


GATES: StateFile[dict[str, Any]] = StateFile(_Verdict, f"{_AGAIN} judges the data set again")


def samples_sha256(samples: Manifest, known: Mapping[Path, str] = MappingProxyType({})) -> str:
    """Return a hash of a data set's volumes; their order is nothing.

    Args:
        samples: The data set.
        known: Hashes of files; those that are not in it are read.
    """

    def digest(path: Path) -> str:
        return known[path] if path in known else sha256_file(path)

    return sha256_json(
        {
            case.id: {name: digest(samples.image_path(case, name)) for name in case.images}
            for case in samples
        }
    )


def hold(folder: Path, limit: float) -> None:
    """Hold a data set back until it is judged: an evaluation that breaks off lets nothing pass."""
    why = "its evaluation has not come to an end"
    # No volume is looked at: whatever they are, they are not handed on.
    nothing = dict.fromkeys(("share", "high", "space", "samples_sha256"))
    unknown = dict.fromkeys(("latent", "image"), why)
    verdict = {**nothing, "limit": limit, "passed": False, "unknown": unknown}
    write_json_atomic(folder / GATE, sealed(verdict))


def judge(
    samples: Manifest,
    limit: float,
    shares: Mapping[str, tuple[float, float] | str],
    known: Mapping[Path, str] = MappingProxyType({}),
) -> bool:
    """Write ``gate.json`` and return whether the data set may be handed on.

    Args:
        samples: The data set.
        limit: Largest share of copies that passes.
        shares: For each space in which copies were looked for, their share beyond chance and the
            upper end of its interval; or why it is unknown. The worst of the known decides; where
            none is known, nothing passes.
        known: Hashes of the volumes that were looked at, so that they are not read again.
    """
    told = {space: share for space, share in shares.items() if not isinstance(share, str)}
    worst = max(told, key=lambda space: told[space][0]) if told else None
    share, high = told[worst] if worst else (None, None)
    passed = share is not None and share <= limit
    write_json_atomic(
        samples.folder / GATE,
        sealed(
            {
                "limit": limit,
                "share": share,
                "high": high,
                "passed": passed,
                "space": worst,
                "unknown": {space: why for space, why in shares.items() if isinstance(why, str)},
                "samples_sha256": samples_sha256(samples, known),
            }
        ),
    )
    return passed


def require_gate(folder: Path) -> None:
    """Refuse to hand on a data set that was judged and did not pass, or has changed since.

    A data set that nobody asked to be judged has no ``gate.json`` and is not held back.

    Raises:
        UserError: It may not be handed on; says why. The verdict is damaged: nobody knows.
    """
    verdict = GATES.read(folder / GATE)
    if verdict is None:
        return
    held = verdict.get("passed") is False and verdict.get("samples_sha256") is None
    if not held and verdict.get("samples_sha256") != samples_sha256(Manifest.read(folder)):
        raise UserError(
            f"{folder} has changed since its copies of training cases were counted",
            remedy=_AGAIN,
        )
    if verdict.get("passed") is True:
        return
    if verdict.get("share") is None:
        why = "; ".join(f"{space}: {text}" for space, text in verdict.get("unknown", {}).items())
        raise UserError(
            f"{folder} may not be handed on: whether it holds copies of training cases could not "
            f"be told ({why})",
            remedy=f"fix that (copies are told by held-out cases), then {_AGAIN}",
        )
    raise UserError(
        f"{folder} may not be handed on: {verdict['share']:.2%} of its volumes (by the interval up "
        f"to {verdict['high']:.2%}) are nearer to one training case, in {verdict['space']} space, "
        "than chance allows, one by one or all together; the gate lets "
        f"{verdict['limit']:.2%} pass",
        remedy="look at the worst pairs in RUN/evaluation/copies-*.png; train for fewer epochs or "
        "on more cases, sample again, or leave these cases out",
    )
