"""Multi-head attention in one dtype, with a mask over the tokens that are attended to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention", "PackedAttention", "attend", "pack_mask"]

_MOST_SCORES = 2**25  # 64 MiB


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, flash: bool, upcast: bool
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1).

    Query and key are brought to the dtype of the value first, so float queries never meet bf16
    values, whether the whole model is cast or autocast is on.

    Args:
        query: ``(B, heads, Q, d)``.
        key: ``(B, heads, T, d)``.
        value: ``(B, heads, T, d)``.
        mask: ``(B, T)`` bool, True where a token may be attended to; None when all may. A sample
            with no such token attends to nothing: its output is zero, not NaN.
        flash: Use torch's fused kernels. They accumulate the softmax in float32 whatever the
            dtype, so ``upcast`` has nothing to add and is not looked at.
        upcast: For the explicit form only: scores and softmax in float32.

    Returns:
        ``(B, heads, Q, d)`` in the value's dtype.
    """
    query, key = query.to(value.dtype), key.to(value.dtype)
    # A sample without tokens may look everywhere (a softmax over nothing is NaN) and is zeroed.
    allowed = None if mask is None else mask | ~mask.any(dim=1, keepdim=True)
    if flash and not _slow_when_fused(query, key):
        heads_mask = None if allowed is None else allowed[:, None, None, :]
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=heads_mask)
    else:
        out = _explicit(query, key, value, allowed, upcast=upcast)
    if mask is None:
        return out
    return out * mask.any(dim=1)[:, None, None, None].to(out.dtype)


def _slow_when_fused(query: Tensor, key: Tensor) -> bool:
    """Return whether the fused kernel is slower than what it fuses: training on a CPU in bfloat16.

    Its backward pass was measured at 44 % of a step of a transformer of 108 tokens (torch 2.13,
    AVX-512): 0.43 s a step, 0.25 s with the scores written out. Not where these would fill memory.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return False
    scores = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    return torch.is_grad_enabled() and scores <= _MOST_SCORES


def _explicit(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, *, upcast: bool
) -> Tensor:
    """Return the attention with its ``(B, heads, Q, T)`` score matrix written out."""
    scale = query.shape[-1] ** -0.5
    if upcast:
        # Autocast would turn the product back to half precision: that is what upcasting forbids.
        with torch.autocast(query.device.type, enabled=False):
            scores = query.float() @ key.float().transpose(-1, -2) * scale
    else:
        scores = query @ key.transpose(-1, -2) * scale
    if allowed is not None:
        scores = scores.masked_fill(~allowed[:, None, None, :], float("-inf"))
    weights: Tensor = scores.softmax(dim=-1).to(value.dtype)
    return weights @ value


class Attention(nn.Module):
    """Multi-head attention over its own tokens or over a context.

    The projections are handed in, so that the module can take over another library's parameters
    under the same names.

    Args:
        to_q: Tokens to queries, ``(..., C) -> (..., heads * d)``.
        to_k: Tokens or context to keys.
        to_v: Tokens or context to values.
        out_proj: ``(..., heads * d) -> (..., C)``.
        heads: Number of heads.
        flash: See :func:`attend`.
        upcast: See :func:`attend`.
    """

    def __init__(
        self,
        to_q: nn.Module,
        to_k: nn.Module,
        to_v: nn.Module,
        out_proj: nn.Module,
        heads: int,
        *,
        flash: bool = True,
        upcast: bool = False,
    ) -> None:
        super().__init__()
        self.to_q = to_q
        self.to_k = to_k
        self.to_v = to_v
        self.out_proj = out_proj
        self.heads = heads
        self.flash = flash
        self.upcast = upcast

    @classmethod
    def build(cls, width: int, heads: int, context_width: int | None = None) -> Attention:
        """Return an attention of ``width`` with fresh projections."""
        source = width if context_width is None else context_width
        return cls(
            nn.Linear(width, width),
            nn.Linear(source, width),
            nn.Linear(source, width),
            nn.Linear(width, width),
            heads,
        )

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Attend from ``x`` ``(B, Q, C)`` to ``context`` ``(B, T, K)``, or to ``x`` itself.

        Args:
            x: Tokens that ask.
            context: Tokens that answer; None for self-attention.
            mask: ``(B, T)`` bool over the tokens that answer.
        """
        source = x if context is None else context
        query = self._split(self.to_q(x))  # (B, heads, Q, d)
        key = self._split(self.to_k(source))  # (B, heads, T, d)
        value = self._split(self.to_v(source))  # (B, heads, T, d)
        out = attend(query, key, value, mask, flash=self.flash, upcast=self.upcast)
        joined: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))  # (B, Q, C)
        return joined

    def _split(self, tokens: Tensor) -> Tensor:
        """Map ``(B, T, heads * d)`` to ``(B, heads, T, d)``."""
        batch, length, _ = tokens.shape
        return tokens.reshape(batch, length, self.heads, -1).transpose(1, 2)


def pack_mask(context: Tensor, mask: Tensor | None) -> Tensor:
    """Append the mask to the context as one more channel: ``(B, T, C + 1)``.

    0 and 1 are exact in every dtype. A library that hands the context through untouched so hands
    the mask through as well, under gradient checkpointing and ``torch.compile`` too.
    """
    if mask is None:
        return context
    return torch.cat([context, mask.unsqueeze(-1).to(context.dtype)], dim=-1)


class PackedAttention(Attention):
    """An :class:`Attention` whose context may carry its mask, see :func:`pack_mask`."""

    def __init__(
        self,
        to_q: nn.Module,
        to_k: nn.Module,
        to_v: nn.Module,
        out_proj: nn.Module,
        heads: int,
        *,
        context_width: int,
        flash: bool = True,
        upcast: bool = False,
    ) -> None:
        super().__init__(to_q, to_k, to_v, out_proj, heads, flash=flash, upcast=upcast)
        self.context_width = context_width

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Unpack the mask where there is one, then attend."""
        if context is not None and context.shape[-1] == self.context_width + 1:
            context, mask = context[..., :-1], context[..., -1] > 0.5
        return super().forward(x, context, mask)
