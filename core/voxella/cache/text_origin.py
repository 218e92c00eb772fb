"""What text features were made with, and what of it differs from what is asked for now.

Features of a large encoder are hours of work: they are never overwritten because a recipe has
changed. Whoever asks for others is told what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from voxella.cache.shards import keys_of
from voxella.cache.text_settings import NOT_OF_FEATURES
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.recipe.inputs import Text, computed_in
from voxella.workspace.state import DamagedError, StateFile, print_once, sealed

__all__ = ["TextOrigin", "differences", "settings_as_made"]

_ORIGIN = "made_with.json"
# What is the recipe's to choose; the encoder and its width come with the weights.
_SETTINGS = frozenset(Text.model_fields) - NOT_OF_FEATURES - {"encoder", "width"}
_COMPUTED = "encoder dtype"
# What settings mean that are not written down: they are younger than the first caches.
_ABSENT = {"replace_markers": False}
_HASH = 64  # hexadecimal digits; shown shortened


class _Written(TypedDict):
    key: str
    fingerprint: str
    settings: dict[str, Any]
    identity: dict[str, Any]


_ORIGINS: StateFile[_Written] = StateFile(
    _Written,
    "name another --out or --workspace, or rm -r {folder}   (gives up the features that are there)",
)


@dataclass(frozen=True)
class TextOrigin:
    """Everything that decides features but the reports.

    Attributes:
        key: Hash over all of it.
        fingerprint: Of the encoder, as its plugin tells it.
        settings: The recipe's ``text`` block but for the encoder: width, truncation, dtype...
        identity: What the fingerprint is made of, where the plugin says so: weights' hash,
            tokenizer's hash, ...
    """

    key: str
    fingerprint: str
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write it into the cache's folder."""
        write_json_atomic(folder / _ORIGIN, sealed(asdict(self)))

    @classmethod
    def of(cls, folder: Path) -> TextOrigin | None:
        """Return what the features in ``folder`` were made with; None where there are none.

        Raises:
            DamagedError: It cannot be told, and hours of features might be given up.
        """
        found = _ORIGINS.read(folder / _ORIGIN)
        return None if found is None else cls(**found)

    def refuse_other(self, folder: Path) -> None:
        """Refuse to replace features that were made otherwise.

        Raises:
            UserError: Naming everything that differs.
        """
        try:
            found = TextOrigin.of(folder)
        except DamagedError as damage:
            # The shards say it, too, though not in words.
            if not keys_of(folder) <= {self.key}:
                raise
            print_once(f"{damage.problem}; it is made again")
            return
        if found is None or found.key == self.key:
            return
        made, asked = found._named(), self._named()
        told = differences(folder, made, asked) or differences(
            folder, {"encoder": found.fingerprint}, {"encoder": self.fingerprint}
        )
        # An encoder that does not say what it is may be another one besides.
        known = found.identity or found.fingerprint == self.fingerprint
        as_made = settings_as_made(made, asked) if known else None
        take = "" if as_made is None else f"{as_made}   (takes them as they are), or "
        raise UserError(
            "\n".join(told),
            remedy=f"{take}rm -r {folder}   (gives them up), or name another --out or --workspace",
        )

    def _named(self) -> dict[str, Any]:
        # What a plugin repeats of the block's own settings is told once.
        identity = {
            k: v for k, v in self.identity.items() if k == "dtype" or k not in self.settings
        }
        return {**self.settings, **{f"encoder {name}": value for name, value in identity.items()}}


def differences(folder: Path, made: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each thing that is asked for otherwise than it was made."""
    return [
        f"the text features in {folder} were made with {name} {_shown(_value(made, name))}, "
        f"the recipe says {_shown(_value(asked, name))}"
        for name in _names(made, asked)
        if _value(made, name) != _value(asked, name)
    ]


def settings_as_made(made: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """Return the options that make a recipe ask for what was made; None where options cannot."""
    other = [n for n in _names(made, asked) if _value(made, n) != _value(asked, n)]
    if {"dtype", _COMPUTED} <= {*other} and made.get(_COMPUTED) == computed_in(made["dtype"]):
        other.remove(_COMPUTED)  # it follows
    told = {**_ABSENT, **made}
    if not other or not all(name in {*_SETTINGS, _COMPUTED} and name in told for name in other):
        return None
    return " ".join(f"--set text.{name.replace(' ', '.')}={told[name]}" for name in other)


def _names(made: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    return [*asked, *(name for name in _ABSENT if name in made and name not in asked)]


def _value(settings: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - any value of a recipe
    return settings.get(name, _ABSENT.get(name))


def _shown(value: object) -> str:
    is_hash = isinstance(value, str) and len(value) == _HASH
    return f"{value[:12]}..." if isinstance(value, str) and is_hash else repr(value)
