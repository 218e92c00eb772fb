"""Trained weights in a network with more inputs: what is new is read at zero.

A backbone's ``grown(state)`` returns the state with zeros where the network would read what is new,
and the names of what may start at random because it is read through these zeros alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Grown", "grown_unet", "widened", "zeros_like"]

Grown = tuple[dict[str, Tensor], frozenset[str]]


def zeros_like(own: Mapping[str, Tensor], name: str) -> Tensor:
    """Return zeros of a parameter's shape, allocated though the network may not be."""
    return torch.zeros(own[name].shape)


def widened(tensor: Tensor, size: int, *, dim: int, at: int | None = None) -> Tensor:
    """Return a tensor of ``size`` along ``dim``, with zeros from ``at`` on; None: at its end."""
    at = tensor.shape[dim] if at is None else at
    shape = list(tensor.shape)
    shape[dim] = size - tensor.shape[dim]
    before, after = tensor.narrow(dim, 0, at), tensor.narrow(dim, at, tensor.shape[dim] - at)
    return torch.cat([before, tensor.new_zeros(shape), after], dim=dim)


def grown_unet(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], vectors: Sequence[str], width: int
) -> Grown:
    """Fit a state to MAISI's U-Net with more vectors, or with an added cross-attention.

    What is new of the embedding that the residual blocks read, and the last projection of an added
    cross-attention, is zero: the prediction stays, whatever the new inputs hold.

    Args:
        own: The network's state, on any device.
        state: Of the trained network.
        vectors: That are joined behind the time embedding, in order.
        width: Of each of them there, and of the time embedding.
    """
    grown = dict(state)
    known = [f"{name}_layer.0.weight" in state for name in vectors]
    new = _new_vectors(vectors, known)
    joined = width * (1 + sum(known))
    for name, tensor in state.items():
        read = name.endswith(".time_emb_proj.weight") and name in own and new
        if read and tensor.shape == (own[name].shape[0], joined):
            grown[name] = widened(tensor, own[name].shape[1], dim=1)
    for name in own.keys() - state.keys():
        if ".added.out_proj." in name:
            grown[name] = zeros_like(own, name)
    left = own.keys() - grown.keys()
    added = {name for name in left if ".added." in name or ".added_norm." in name}
    layers = tuple(f"{name}_layer." for name in new or ())
    return grown, frozenset(added | {name for name in left if name.startswith(layers)})


def _new_vectors(vectors: Sequence[str], known: Sequence[bool]) -> list[str] | None:
    """Return the vectors that a state has not; None where one of them stands before one it has.

    The place of a vector in the list is its place in the joined embedding.
    """
    count = sum(known)
    return list(vectors[count:]) if all(known[:count]) else None
