"""A model folder on disk: is everything in it, and what is its fingerprint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.hashing import sha256_file, sha256_json
from voxella.plain_json import parse_json

__all__ = ["ModelFolder", "identity", "open_folder"]

# In the order in which transformers prefers them; an index names the shards beside it.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Any one of these is a whole tokenizer ...
_VOCABULARIES = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
)
# ... and these alter what it does.
_TOKENIZER_SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_EXPECTED = (
    "a folder written by save_pretrained: config.json; model.safetensors (or its shards and "
    "model.safetensors.index.json); tokenizer.json or spiece.model or vocab.txt"
)
_LFS_POINTER = b"version https://git-lfs"
_QUIET_BYTES = 1 << 30  # hashing less than this takes a second or two


@dataclass(frozen=True)
class ModelFolder:
    """A complete model folder.

    Attributes:
        path: The folder.
        config: Its config.json.
        weights: The weight files that are read, shards included.
        tokenizer: The tokenizer's files.
    """

    path: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]


def open_folder(path: Path, encoder: str) -> ModelFolder:
    """Check a model folder and return what is in it. The network is never asked.

    Args:
        path: The folder.
        encoder: Name of the text encoder, for messages.

    Raises:
        UserError: When anything is missing; all that is missing is told at once.
    """
    if not path.is_dir():
        raise _incomplete(encoder, path, ["it is not a folder" if path.exists() else "no folder"])
    config = _read_json(path / "config.json")
    weights = _weight_files(path)
    tokenizer = _present(path, _VOCABULARIES + _TOKENIZER_SETTINGS)
    problems = [] if config else ["config.json is absent or not JSON"]
    if not weights:
        problems.append("no weights: none of " + ", ".join(_WEIGHTS))
    if not _present(path, _VOCABULARIES):
        problems.append("no tokenizer: none of " + ", ".join(_VOCABULARIES))
    for file in (*weights, *tokenizer):
        if not file.is_file():
            problems.append(f"{file.name} is absent, though the index names it")
        elif _is_lfs_pointer(file):
            problems.append(f"{file.name} is a Git LFS pointer, not the file itself")
    if problems:
        raise _incomplete(encoder, path, problems)
    return ModelFolder(path, config, weights, tokenizer)


def identity(
    folder: ModelFolder, settings: Mapping[str, object], *, weights: bool = True
) -> dict[str, object]:
    """Return what features depend on: SHA-256 of weights and tokenizer, and the settings.

    It depends on what the files hold, not on where they lie.

    Args:
        folder: The model's files.
        settings: What else decides.
        weights: Whether they decide: token counts are the tokenizer's alone.
    """
    weights_read = (folder.path / "config.json", *folder.weights) if weights else ()
    size = sum(file.stat().st_size for file in weights_read)
    if size > _QUIET_BYTES:
        print(f"reading {size / 1e9:.1f} GB of text encoder for its hash", file=sys.stderr)
    return {
        "weights": sha256_json({file.name: sha256_file(file) for file in weights_read}),
        "tokenizer": sha256_json({file.name: sha256_file(file) for file in folder.tokenizer}),
        **settings,
    }


def _weight_files(path: Path) -> tuple[Path, ...]:
    for name in _WEIGHTS:
        if (path / name).is_file():
            if not name.endswith(".json"):
                return (path / name,)
            return _shards(path, _read_json(path / name).get("weight_map"))
    return ()


def _shards(path: Path, weight_map: object) -> tuple[Path, ...]:
    """Return the shards that an index names, none where it names files of other folders."""
    shards = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()
    if any(Path(shard).name != shard for shard in shards):
        return ()
    return tuple(path / shard for shard in sorted(shards))


def _present(path: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(path / name for name in names if (path / name).is_file())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_lfs_pointer(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(len(_LFS_POINTER)) == _LFS_POINTER


def _incomplete(encoder: str, path: Path, problems: list[str]) -> UserError:
    return UserError(
        f"text encoder {encoder}: {path}: " + "; ".join(problems),
        expected=_EXPECTED,
        remedy="where there is a network: hf download NAME --local-dir FOLDER (the paper's NAME is "
        "google/flan-t5-xxl); copy FOLDER here and set text.encoder.path to it",
    )
