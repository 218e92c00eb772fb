"""What this device's matrix units really reach: the yardstick of the other benchmarks."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

__all__ = ["describe_device", "matrix_peak_tflops", "synchronize"]


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read is about work done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_device(device: torch.device) -> str:
    """Return the device's name, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} x {torch.get_num_threads()} threads"
    return f"{platform.processor()} x {torch.get_num_threads()} threads"


def matrix_peak_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best of several square matrix products, in TFLOP/s (2 n^3 each)."""
    n = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = max(best, 2 * n**3 / (time.perf_counter() - start) / 1e12)
    return best
