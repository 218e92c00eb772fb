"""How a text encoder is to run, checked before anything is loaded."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch

from voxella.errors import UserError

__all__ = ["Dtype", "Padding", "Quantize", "Stream", "TextSettings", "Truncation"]

Dtype = Literal["float32", "bfloat16", "float16"]
Padding = Literal["none", "max"]
Truncation = Literal["right", "left"]
Stream = Literal["auto", "always", "never"]
Quantize = Literal["none", "int8"]

# What says how an encoder runs, and nothing about what it returns.
_EXECUTION = ("device", "batch_size", "stream")


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
    stream: Stream = "never"
    quantize: Quantize = "none"

    def __post_init__(self) -> None:
        """Check every value."""
        expected = {
            "truncation": get_args(Truncation),
            "padding": get_args(Padding),
            "dtype": get_args(Dtype),
            "stream": get_args(Stream),
            "quantize": get_args(Quantize),
        }
        for key, values in expected.items():
            if getattr(self, key) not in values:
                raise self.error(f"{key}={getattr(self, key)}", expected=", ".join(values))
        for key in ("max_tokens", "batch_size"):
            if getattr(self, key) < 1:
                raise self.error(f"{key}={getattr(self, key)}", expected="1 or more")
        if self.quantize != "none" and self.stream == "always":
            raise self.error(
                "stream: always with quantize: int8",
                expected="one of the two: weights of 8 bits are made once, when they are loaded",
            )
        self.place()

    def error(
        self, problem: str, *, expected: str | None = None, remedy: str | None = None
    ) -> UserError:
        """Return an error that names the encoder."""
        return UserError(f"text encoder {self.name}: {problem}", expected=expected, remedy=remedy)

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
            raise self.error(problem, expected="auto, cpu, cuda, cuda:0, ...") from error
        if place.type == "cuda" and not torch.cuda.is_available():
            raise self.error(
                f"device={self.device}, and there is no CUDA here", expected="auto, cpu"
            )
        return place

    def eight_bits(self) -> dict[str, Any]:
        """Return how transformers is asked for weights of 8 bits.

        Raises:
            UserError: What does the work is not installed.
        """
        needed = ("bitsandbytes", "accelerate")
        if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
            raise self.error(
                f"quantize: int8 needs {' and '.join(needed)}; absent: {', '.join(missing)}",
                expected="none, or int8 where they are installed",
                remedy='pip install "voxella[int8]", or stream: always, which needs nothing and '
                "rounds nothing",
            )
        from transformers import BitsAndBytesConfig

        eight = BitsAndBytesConfig(load_in_8bit=True)
        return {"quantization_config": eight, "device_map": {"": self.place()}}

    def identity(self) -> dict[str, object]:
        """Return what the features depend on: everything but how the encoder runs."""
        decides = {k: v for k, v in asdict(self).items() if k not in _EXECUTION}
        if self.quantize == "none":
            del decides["quantize"]
        return decides
