"""What a ``deepspeed:`` block computes in, whether that trains, and whether the device can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxella.wording import named, quoted

if TYPE_CHECKING:
    import torch

__all__ = ["autocast_dtype", "lacks", "precision_problems", "without_ours"]

_DTYPES = {
    **dict.fromkeys(("bfloat16", "bf16", "torch.bfloat16"), "bfloat16"),
    **dict.fromkeys(("float16", "fp16", "half", "torch.float16"), "float16"),
}
_SUB_KEYS = {"torch_autocast": ("enabled", "dtype"), "bf16": ("enabled",), "fp16": ("enabled",)}
_FLOAT16 = "torch_autocast: {enabled: true, dtype: float16}"
_BFLOAT16 = "torch_autocast: {enabled: true, dtype: bfloat16}"


def autocast_dtype(block: dict[str, Any]) -> str | None:
    """Return ``bfloat16`` or ``float16`` when the model computes in less than float32."""
    autocast = block.get("torch_autocast") or {}
    if autocast.get("enabled"):
        return _DTYPES.get(str(autocast.get("dtype", "bfloat16")))
    return "bfloat16" if (block.get("bf16") or {}).get("enabled") else None


def without_ours(block: dict[str, Any]) -> dict[str, Any]:
    """Return a checked block as DeepSpeed is to see it: without what the engine does itself.

    Of float16 DeepSpeed is told nothing (see :class:`~voxella.engine.loss_scale.LossScale`). A
    dtype is always named: left out, torch would take float16 on a GPU.
    """
    kept = {key: value for key, value in block.items() if key not in ("torch_autocast", "fp16")}
    if (block.get("torch_autocast") or {}).get("enabled") and autocast_dtype(block) == "bfloat16":
        kept["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return kept


def precision_problems(block: dict[str, Any], device: torch.device | None) -> list[str]:
    """Return what is wrong with the precision of a block.

    Args:
        block: The recipe's block.
        device: Where the model will compute; None where that is not this machine.
    """
    problems = _shapes(block)
    if problems:
        return problems
    enabled = [key for key in _SUB_KEYS if (block.get(key) or {}).get("enabled")]
    if len(enabled) > 1:
        problems.append(f"{' and '.join(enabled)} are both enabled; expected: one of them")
    if "fp16" in enabled:
        # Stage 0 to 3 alike: DeepSpeed's own scaler takes a skipped step for a broken one, at its
        # smallest scale it raises, and its checkpoints hold the scaler as a pickled object.
        problems.append(f"fp16 is not how float16 is trained here; expected: {_FLOAT16}")
    problems += _communication(block, enabled)
    dtype = autocast_dtype(block)
    if device is not None and dtype is not None and "fp16" not in enabled:
        problems += _of_device(enabled[0], dtype, device)
    return problems


def lacks(device: torch.device, dtype: str) -> str | None:
    """Return the name of a device that does not compute in ``dtype``; None where it does.

    A GPU older than Ampere (V100, T4, P100) has no bfloat16: torch would emulate it, at a fraction
    of the speed. On a CPU float16 convolutions were measured a thousand times slower than float32.
    """
    if device.type == "cpu":
        return "the CPU" if dtype == "float16" else None
    if device.type != "cuda" or dtype != "bfloat16":
        return None
    import torch

    with torch.cuda.device(device):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return None
        return torch.cuda.get_device_name(device)


def _shapes(block: dict[str, Any]) -> list[str]:
    problems = []
    for key, expected in _SUB_KEYS.items():
        value = block.get(key) or {}
        if not isinstance(value, dict):
            problems.append(
                f"{key} is {quoted(value)}; expected: {{{': ..., '.join(expected)}: ...}}"
            )
            continue
        for name in sorted(set(value) - set(expected)):
            problems.append(
                f"{key}.{named(name)} is not supported; expected: {', '.join(expected)}"
            )
        if not isinstance(value.get("enabled", False), bool):
            problems.append(f"{key}.enabled is {quoted(value['enabled'])}; expected: true, false")
    dtype = (block.get("torch_autocast") or {}).get("dtype", "bfloat16") if not problems else ""
    if not problems and str(dtype) not in _DTYPES:
        problems.append(f"torch_autocast.dtype is {quoted(dtype)}; expected: bfloat16, float16")
    return problems


def _communication(block: dict[str, Any], enabled: list[str]) -> list[str]:
    """Refuse a dtype of sent gradients that would be passed over or that overflows."""
    name = block.get("communication_data_type")
    if name is None:
        return []
    if name not in ("fp32", "bf16"):
        return [
            f"communication_data_type is {quoted(name)}; expected: fp32, bf16 (float16 overflows)"
        ]
    if "torch_autocast" in enabled:
        return [
            "communication_data_type has no effect under torch_autocast: bfloat16 sends gradients "
            "in bfloat16 above stage 0, float16 sends them in float32; expected: leave it out"
        ]
    return []


def _of_device(key: str, dtype: str, device: torch.device) -> list[str]:
    name = lacks(device, dtype)
    if name is None:
        return []
    if dtype == "float16":
        return [
            f"fp16 needs a CUDA device; on the CPU leave precision out (fp32), or use {_BFLOAT16}"
        ]
    return [
        f"{key} computes in bfloat16, which {name} cannot; expected: {_FLOAT16}, or {key}: null "
        "(float32)"
    ]
