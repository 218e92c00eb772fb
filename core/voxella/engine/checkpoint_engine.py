"""How DeepSpeed's engine writes and reads its files: hashed, synced, and without running code.

DeepSpeed's own engine reads pickles with all they may do. Import this after
:func:`voxella.engine.runtime.load_deepspeed`: importing DeepSpeed settles its device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from voxella.engine.saved_state import FileFacts, read_state, write_state

__all__ = ["SafeCheckpointEngine"]

# All that DeepSpeed 0.19 puts into its files beside tensors, numbers and containers, under every
# ZeRO stage and precision. They are records: building one runs nothing of the file's.
_ALLOWED = (DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address)


class SafeCheckpointEngine(CheckpointEngine):  # type: ignore[misc]  # DeepSpeed ships no types
    """Takes the place of ``DeepSpeedEngine.checkpoint_engine``.

    Attributes:
        written: What this process has written since :meth:`create`, by path.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = "SafeCheckpointEngine"
        self.written: dict[Path, FileFacts] = {}

    def create(self, info: Any) -> None:  # noqa: ANN401 - DeepSpeed ships no types
        """Begin a checkpoint."""
        self.written = {}

    def save(self, state_dict: Any, path: str) -> None:  # noqa: ANN401
        """Write one file of it."""
        self.written[Path(path)] = write_state(Path(path), state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:  # noqa: ANN401
        """Read one file of it.

        Raises:
            UserError: It is damaged, or holds what may run code.
        """
        folder = Path(path).parent
        return read_state(
            Path(path),
            device=map_location,
            allowed=_ALLOWED,
            remedy=f"find out who wrote there; rm -r {folder} to go on from the one before it",
        )

    def commit(self, info: Any) -> bool:  # noqa: ANN401
        """End a checkpoint; its files are on the disk."""
        return True
