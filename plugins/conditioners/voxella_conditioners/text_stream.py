"""An encoder larger than memory: its blocks visit the device one after another.

Everything else stays: embeddings, the last norm. A block's weights are read from the memory-mapped
files when it is called and dropped when it returns, so that memory holds one block and the files'
pages, which all processes of a host share and the system takes back when it needs them. Values are
those of the whole encoder, bit for bit: the same operations on the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from voxella.autoencoder.tiling.memory import available_bytes
from voxella.progress import print_line
from voxella_conditioners.text_settings import TextSettings

__all__ = ["StoredWeights", "dtypes_of", "is_streamed", "stream_blocks"]


class StoredWeights:
    """Tensors of a model folder by name, read from memory-mapped files when they are asked for.

    Args:
        files: ``.safetensors`` or ``.bin`` files, every shard of a model.

    Raises:
        OSError, RuntimeError, SafetensorError: A file is cut, or a ``.bin`` of before torch 1.6,
            which cannot be memory-mapped.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._read: dict[str, Any] = {}
        for file in files:
            if file.suffix == ".safetensors":
                opened: Any = safe_open(file, framework="pt")
                self._read |= dict.fromkeys(opened.keys(), opened.get_tensor)
            else:
                loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
                self._read |= dict.fromkeys(loaded, loaded.__getitem__)

    def __contains__(self, name: object) -> bool:
        return name in self._read

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._read[name](name)
        return tensor


def is_streamed(outline: Any, part: nn.Module, settings: TextSettings) -> bool:  # noqa: ANN401 - untyped library
    """Return whether the blocks are to come and go: as told, or where the whole does not fit.

    Args:
        outline: The model without weights.
        part: What of it encodes text.
        settings: What is asked for.
    """
    if settings.stream != "auto" or settings.quantize != "none":
        return settings.stream == "always"
    itemsize = getattr(torch, settings.dtype).itemsize
    weights = itemsize * sum(parameter.numel() for parameter in part.parameters())
    need = weights + _working_bytes(outline.config, settings)
    # One process of a host encodes, so all that is free is its own.
    free = available_bytes(settings.place(), shared=False)
    if need > free:
        print_line(
            f"text encoder {settings.name}: {need / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free: "
            "its blocks are read one after another for each batch (less often with a larger "
            "text.encoder.batch_size)"
        )
    return bool(need > free)


def _working_bytes(config: Any, settings: TextSettings) -> int:  # noqa: ANN401 - untyped library
    """Return what a block's pass takes beside its weights, in float32 to be on the safe side.

    Three times the attention scores and three times the widest activations: what PyTorch holds at
    once in the attention of T5, which adds a bias, and in its gated feed-forward layer.
    """
    heads, wide = (int(getattr(config, name, 0) or 0) for name in ("num_heads", "d_ff"))
    tokens = settings.max_tokens
    return 4 * settings.batch_size * tokens * 3 * (heads * tokens + wide)


def dtypes_of(outline: Any, settings: TextSettings) -> dict[str, torch.dtype]:  # noqa: ANN401 - untyped library
    """Return the dtype of every parameter; where transformers keeps float32, so does this."""
    dtype = getattr(torch, settings.dtype)
    wide = getattr(outline, "_keep_in_fp32_modules", None) if dtype == torch.float16 else None
    return {
        name: torch.float32 if {*(wide or ())} & {*name.split(".")} else dtype
        for name, _ in outline.named_parameters(remove_duplicate=False)
    }


def stream_blocks(
    model: nn.Module, stored: StoredWeights, device: torch.device, dtypes: Mapping[str, torch.dtype]
) -> list[str]:
    """Give a model without weights those it keeps, and its blocks theirs while they run.

    Args:
        model: Made on the device ``meta``. Its blocks are the members of its outermost module
            lists.
        stored: Where the weights lie.
        device: Where it computes.
        dtypes: Of every parameter, by its name in the model.

    Returns:
        Names of the parameters that are stored nowhere. Unless there are none, the model is of no
        use.
    """
    names = _names(model)
    source = {own: next((n for n in alike if n in stored), None) for own, alike in names.items()}
    missing = sorted(own for own, found in source.items() if found is None)
    if missing:
        return missing

    def weights(prefix: str, inside: Iterable[str]) -> dict[str, Tensor]:
        # By the stored name first: a weight that is tied to another is read once.
        read: dict[str | None, Tensor] = {}
        found = {}
        for name in inside:
            origin = source[prefix + name]
            if origin not in read:
                read[origin] = stored[str(origin)].to(device, dtypes[prefix + name])
            found[name] = read[origin]
        return found

    blocks = _blocks(model)
    kept = [own for own in names if not own.startswith(tuple(blocks))]
    model.load_state_dict(weights("", kept), strict=False, assign=True)
    for prefix, block in blocks.items():
        inside = [own.removeprefix(prefix) for own in names if own.startswith(prefix)]
        _visit(block, lambda prefix=prefix, inside=inside: weights(prefix, inside))
    return []


def _visit(block: nn.Module, weights: Any) -> None:  # noqa: ANN401 - a lambda that binds defaults
    block.register_forward_pre_hook(
        lambda module, _: module.load_state_dict(weights(), assign=True) and None
    )
    block.register_forward_hook(lambda module, *_: module.to("meta") and None)


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the members of the outermost module lists by their prefix, such as ``block.3.``."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not name.startswith(tuple(found) or ("\0",)):
            found |= {f"{name}.{number}.": block for number, block in enumerate(module)}
    return found


def _names(model: nn.Module) -> dict[str, list[str]]:
    """Return every parameter's name and, behind it, all names under which it may be stored.

    A weight that is tied to another is stored under the name of either.
    """
    every = list(model.named_parameters(remove_duplicate=False))
    tied: dict[int, list[str]] = {}
    for name, parameter in every:
        tied.setdefault(id(parameter), []).append(name)
    return {name: [name, *tied[id(parameter)]] for name, parameter in every}
