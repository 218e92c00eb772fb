"""What differs from the settings that a training was begun with, key by key."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.provenance import command_line
from voxella.workspace.record import StageRecord
from voxella.workspace.state import StateFile, sealed

__all__ = ["keep_inputs", "refuse_changed"]

_KEPT = "inputs.json"
_INPUTS: StateFile[dict[str, Any]] = StateFile(dict[str, Any], "rm {path}")
# What a stage keeps only where the recipe sets it.
_NULL_IS_ABSENT = {"positive"}
# What a training is made of besides its recipe, as hashes: told in words.
_DATA = {
    "latents": "the latents: images, prepare settings or autoencoder",
    "text": "the text features: reports or text encoder",
    "cases": "the training cases, their labels or their voxel spacing",
    "inputs": "the images or how they are prepared",
    "prepared": "the images or how they are prepared",
    "initial_weights": "the autoencoder: its network, or the weights that it starts from",
    "start_sha256": "the weights that training starts from (init.from)",
    "train": "the training cases or their labels",
    "val": "the validation cases or their labels",
    "before": "the training before this one",
}
_SHOWN = 12


def _as_in_recipe(key: str) -> str:
    return "data.classes" if key == "classes" else key


def keep_inputs(record: StageRecord) -> None:
    """Remember what a training is begun with; its record is written when it has ended."""
    write_json_atomic(record.folder / _KEPT, sealed(record.inputs))


def refuse_changed(
    record: StageRecord,
    *,
    run: Path,
    work: Path | None,
    named: Callable[[str], str] = _as_in_recipe,
) -> None:
    """Refuse to go on with a training under other settings than it was begun with.

    Args:
        record: Of the training that is asked for.
        run: The run folder.
        work: Where prepared data and caches lie that another training can use; None: nowhere.
        named: Gives the recipe's name of a key of the inputs.

    Raises:
        UserError: Naming every key that differs, with both values. Nothing where no training was
            begun, or nothing is known of it.
    """
    begun = _begun(record)
    if begun is None:
        return
    now = json.loads(json.dumps(record.inputs))
    old, new = dict(_leaves(begun, "")), dict(_leaves(now, ""))
    changed = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    if not changed:
        return
    data = [_DATA[key] for key in changed if _is_data(key, now)]
    keys = [key for key in changed if not _is_data(key, now)]
    lines = [f"  {named(key)}: {_told(old, key)} -> {_told(new, key)}" for key in keys]
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    problem = f"{record.folder} was trained by another recipe than the one given, or on other data:"
    raise UserError(
        "\n".join([problem, *lines[:_SHOWN], *more, *(f"  {what}" for what in data)]),
        remedy=_remedy(
            {named(key): old.get(key) for key in keys if key in old or key in _NULL_IS_ABSENT},
            data,
            run,
            work,
        ),
    )


def _begun(record: StageRecord) -> dict[str, Any] | None:
    """Return the inputs of the training that is there; None where they are not known."""
    kept = _INPUTS.read_or_remake(record.folder / _KEPT)
    return kept or (record.previous() or {}).get("inputs")


def _is_data(key: str, inputs: Mapping[str, Any]) -> bool:
    # `train` is a block of settings to one stage, and a hash of cases to another.
    return key in _DATA and not isinstance(inputs.get(key), dict)


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _told(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "absent"


def _remedy(old: Mapping[str, Any], data: list[str], run: Path, work: Path | None) -> str:
    another = _command(run, None if data else work)
    if data:
        return f"{another} trains on what is there now; with the former data the same goes on"
    longer = any(key.endswith(("train.steps", "train.epochs", "training.steps")) for key in old)
    why = " (the learning rate falls over the whole length, so it starts anew)" if longer else ""
    back = " ".join(f"--set {shlex.quote(f'{k}={json.dumps(v)}')}" for k, v in old.items())
    caches = "" if work is None else ", on the same caches"
    return f"to extend or change it{caches}{why}: {another}; to keep what is trained: {back}"


def _command(run: Path, work: Path | None) -> str:
    """Return the running command with a run folder of its own, and with the caches that are here.

    Outside of a command, what to change about it.
    """
    other = _free(run)
    words = shlex.split(command_line() or "")
    if not words:
        caches = "" if work is None else f" with --workspace {shlex.quote(str(work))}"
        return f"another run folder, --out {shlex.quote(str(other))}{caches}"
    kept = _without(words, "--out")
    if work is not None:
        kept = [*_without(kept, "--workspace"), "--workspace", str(work)]
    return shlex.join([*kept, "--out", str(other)])


def _without(words: list[str], option: str) -> list[str]:
    kept: list[str] = []
    for place, word in enumerate(words):
        follows = place > 0 and words[place - 1] == option
        if word != option and not follows and not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def _free(run: Path) -> Path:
    """Return a run folder beside this one that is not there yet."""
    numbers = (run.with_name(f"{run.name}-{number}") for number in range(2, 1000))
    return next(path for path in numbers if not path.exists())
