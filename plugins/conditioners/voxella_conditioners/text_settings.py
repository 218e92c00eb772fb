"""How a text encoder is to run, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch

from voxella.errors import UserError

__all__ = ["Dtype", "Padding", "TextSettings", "Truncation"]

Dtype = Literal["float32", "bfloat16", "float16"]
Padding = Literal["none", "max"]
Truncation = Literal["right", "left"]


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Settings of a text encoder; see the builders for what each means.

    Raises:
        UserError: When a value is impossible.
    """

    name: str
    max_tokens: int
    truncation: Truncation
    padding: Padding
    dtype: Dtype
    device: str
    batch_size: int

    def __post_init__(self) -> None:
        """Check every value."""
        legal = {
            "truncation": get_args(Truncation),
            "padding": get_args(Padding),
            "dtype": get_args(Dtype),
        }
        for key, values in legal.items():
            if getattr(self, key) not in values:
                raise self.error(f"{key}={getattr(self, key)}", legal=", ".join(values))
        for key in ("max_tokens", "batch_size"):
            if getattr(self, key) < 1:
                raise self.error(f"{key}={getattr(self, key)}", legal="1 or more")
        self.place()

    def error(
        self, problem: str, *, legal: str | None = None, remedy: str | None = None
    ) -> UserError:
        """Return an error that names the encoder."""
        return UserError(f"text encoder {self.name}: {problem}", legal=legal, remedy=remedy)

    def place(self) -> torch.device:
        """Return the device: ``auto`` is CUDA where there is one.

        Raises:
            UserError: When there is no such device.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            place = torch.device(self.device)
        except RuntimeError as error:
            problem = f"device={self.device}"
            raise self.error(problem, legal="auto, cpu, cuda, cuda:0, ...") from error
        if place.type == "cuda" and not torch.cuda.is_available():
            raise self.error(f"device={self.device}, and there is no CUDA here", legal="auto, cpu")
        return place

    def identity(self) -> dict[str, object]:
        """Return what the features depend on: everything but device and batch size."""
        return {k: v for k, v in asdict(self).items() if k not in ("device", "batch_size")}
