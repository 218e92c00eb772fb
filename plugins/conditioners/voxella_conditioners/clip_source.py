"""CLIP's and PLIP's text part, out of a folder or a file of the whole model."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from voxella.errors import UserError
from voxella.plugins.released import Released
from voxella.weights import not_it, read_state_dict

__all__ = ["ClipSource"]

_WHAT = "CLIP"
_FILES = ("model.safetensors", "pytorch_model.bin")
_TEXT = "text_model."
_FIRST = f"{_TEXT}embeddings.token_embedding.weight"
# A buffer of older releases of transformers, which counts 0, 1, 2, ...
_POSITIONS = "position_ids"


class ClipSource:
    """Reads CLIP (Radford et al. 2021) and its relatives in transformers' form, such as PLIP.

    The image part, the two projections and the temperature are left out: a denoiser sees the
    tokens' last states.
    """

    parts: frozenset[str] = frozenset({"text_encoder"})
    licence: str | None = None

    def read(self, path: Path) -> Released:
        """Read a folder or a weights file; see :class:`voxella.plugins.released.Source`.

        Raises:
            UserError: There is no such file, or no CLIP in it.
        """
        state = read_state_dict(_weights(path), what=_WHAT, remedy="name a folder or its weights")
        text: dict[str, Tensor] = {
            name: tensor
            for name, tensor in state.items()
            if name.startswith(_TEXT) and not name.endswith(_POSITIONS)
        }
        if _FIRST not in text:
            raise not_it(
                path,
                state,
                f"no text part of {_WHAT}",
                expected=f"{_FIRST}, as transformers names it",
                remedy="of OpenAI's own file take the conversion of transformers",
            )
        left = sorted({name.partition(".")[0] for name in state if not name.startswith(_TEXT)})
        remarks = [f"left out: {', '.join(left)}"] if left else []
        return Released({"text_encoder": text}, remarks=remarks)


def _weights(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in _FILES if (path / name).is_file()]
    if not found:
        raise UserError(f"{path} holds no weights", expected=" or ".join(_FILES))
    return found[0]
