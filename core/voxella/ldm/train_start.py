"""What a training starts from, with what a model folder of ours says of itself."""

from __future__ import annotations

from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import load_facts
from voxella.ldm.read_start import read_start
from voxella.ldm.start import Start, own_folder
from voxella.recipe.model import Init

__all__ = ["start_of"]


def start_of(init: Init | None, model: LatentDiffusion) -> Start | None:
    """Read what training starts from; see :func:`voxella.ldm.read_start.read_start`.

    Args:
        init: The recipe's block.
        model: On the device ``meta``.

    Raises:
        UserError: It does not fit; a model folder is not whole, or not as it was exported.
    """
    folder = own_folder(init)
    return read_start(init, model, None if folder is None else load_facts(folder))
