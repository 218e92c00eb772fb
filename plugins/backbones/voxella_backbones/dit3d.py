"""A diffusion transformer over patches of a 2D or 3D latent (Peebles & Xie 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella_backbones.attention import Attention
from voxella_backbones.growing import Grown, widened, zeros_like
from voxella_backbones.inputs import checked_context, checked_vectors, mean_token, vector_mlp
from voxella_backbones.patches import patchify, sincos_positions, unpatchify

__all__ = ["DiT"]

_FREQUENCIES = 256  # width of the sinusoid of the timestep, as in the DiT paper


class DiT(nn.Module):
    """DiT with adaptive layer norm zero (arXiv:2212.09748), cross-attention and named vectors.

    Every vector is lifted to ``width`` by a two-layer SiLU network and ADDED to the time embedding,
    as the paper adds its class embedding (so their order has no bearing here, unlike the U-Net's).
    Cross-attention sits between self-attention and MLP; unlike the paper's variant it is modulated
    and gated like its neighbours, so a fresh network ignores the text until it learns to read it.

    Inputs are cast to the parameters' dtype; the output has the dtype of ``x``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of ``x``.
        out_channels: Channels predicted.
        input_size: Voxels of ``x`` per axis.
        context_dim: Width of the context tokens; None builds no cross-attention.
        vectors: ``{name: width}``. May be empty.
        patch_size: Voxels per token along each axis.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Attention heads.
        pooled_context: Add the mean of the context tokens as one more vector.

    Raises:
        UserError: If the sizes do not fit one another; all of them are named at once.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        input_size: Sequence[int],
        context_dim: int | None,
        vectors: Mapping[str, int],
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        pooled_context: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(spatial_dims, input_size, patch_size, width, heads)
        self.input_size = tuple(input_size)
        self.patch_size = patch_size
        self.context_dim = context_dim
        self.vector_widths = dict(vectors)
        self.checkpointing = False
        patch_volume = patch_size**spatial_dims
        grid = tuple(size // patch_size for size in input_size)
        self.patch_embed = nn.Linear(in_channels * patch_volume, width)
        # Derived from the sizes, so it is no part of a checkpoint.
        self.register_buffer("positions", sincos_positions(grid, width), persistent=False)
        self.positions: Tensor
        self.time_embed = vector_mlp(_FREQUENCIES, width)
        # A list, not a ModuleDict: a vector's name may be any string.
        self.vector_layers = nn.ModuleList(vector_mlp(size, width) for size in vectors.values())
        self.pooled_layer = (
            vector_mlp(context_dim, width) if pooled_context and context_dim is not None else None
        )
        self.blocks = nn.ModuleList(DiTBlock(width, heads, context_dim) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final_linear = nn.Linear(width, out_channels * patch_volume)
        self._initialise()

    def _initialise(self) -> None:
        """Initialise as the paper does: Xavier, zero biases, and zero wherever a gate or end is."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in self.time_embed:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        ends = [block.modulation for block in self.blocks if isinstance(block, DiTBlock)]
        for end in [*ends, self.final_modulation, self.final_linear]:
            nn.init.zeros_(end.weight)

    def forward(self, x: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict from a noised latent.

        Args:
            x: ``(B, C, *input_size)``.
            timesteps: ``(B,)``, in steps of the schedule.
            conditioning: Exactly the vectors, and the context if any, that were built in.

        Returns:
            ``(B, out_channels, *input_size)`` in the dtype of ``x``.

        Raises:
            ValueError: If ``x`` or the conditioning is not what the network was built for.
        """
        if tuple(x.shape[2:]) != self.input_size:
            raise ValueError(f"dit3d was built for {self.input_size}, got {tuple(x.shape[2:])}")
        dtype, batch = self.patch_embed.weight.dtype, x.shape[0]
        vectors = checked_vectors(conditioning, self.vector_widths, batch, dtype)
        context, mask = checked_context(conditioning, self.context_dim, batch, dtype)
        pooled = None if context is None else mean_token(context, mask)
        signal = self._embed(timesteps, vectors, pooled, dtype)  # (B, width)
        tokens = self.patch_embed(patchify(x.to(dtype), self.patch_size))  # (B, N, width)
        tokens = tokens + self.positions.to(dtype)
        for block in self.blocks:
            tokens = self._run(block, tokens, signal, context, mask)
        shift, scale = self.final_modulation(signal).unsqueeze(1).chunk(2, dim=-1)
        tokens = self.final_linear(self.final_norm(tokens) * (1 + scale) + shift)
        grid = tuple(size // self.patch_size for size in self.input_size)
        return unpatchify(tokens, grid, self.patch_size).to(x.dtype)

    def _embed(
        self, timesteps: Tensor, vectors: list[Tensor], pooled: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """Return time plus vectors, through the SiLU that every modulation shares."""
        signal: Tensor = self.time_embed(get_timestep_embedding(timesteps, _FREQUENCIES).to(dtype))
        for layer, vector in zip(self.vector_layers, vectors, strict=True):
            signal = signal + layer(vector)
        if self.pooled_layer is not None and pooled is not None:
            signal = signal + self.pooled_layer(pooled)
        return nn.functional.silu(signal)

    def _run(
        self,
        block: nn.Module,
        tokens: Tensor,
        signal: Tensor,
        context: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            plain: Tensor = block(tokens, signal, context, mask)
            return plain
        recomputed: Tensor = checkpoint(
            block, tokens, signal, context, mask, use_reentrant=False, preserve_rng_state=False
        )
        return recomputed

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute each block in the backward pass; no value changes."""
        self.checkpointing = enabled

    def grown(self, state: Mapping[str, Tensor]) -> Grown:
        """Fit a state without some of the vectors, or without context, see ``growing``.

        Vectors are added as zeros; a new cross-attention has its shift, scale and gate at zero.
        """
        own, grown = self.state_dict(), dict(state)
        names = list(self.vector_widths)
        known = [f"vector_layers.{k}.0.weight" in state for k in range(len(names))]
        random: set[str] = set()
        for index in range(sum(known), len(names)):
            for kind in ("weight", "bias"):
                last = f"vector_layers.{index}.2.{kind}"
                grown[last] = zeros_like(own, last)
                random.add(f"vector_layers.{index}.0.{kind}")
        for name, tensor in state.items():
            rows = own[name].shape[0] if name in own else 0
            if ".modulation." in name and 3 * tensor.shape[0] == 2 * rows:
                # shift, scale and gate of self-attention, of cross-attention, of the MLP
                grown[name] = widened(tensor, rows, dim=0, at=rows // 3)
        random |= {n for n in own.keys() - grown.keys() if ".cross_attention." in n}
        return grown, frozenset(random)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention if there is a context, MLP: each modulated and gated.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        context_dim: Width of the context tokens, or None.
    """

    def __init__(self, width: int, heads: int, context_dim: int | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)  # no state to share
        self.self_attention = Attention.build(width, heads)
        self.cross_attention = (
            None if context_dim is None else Attention.build(width, heads, context_dim)
        )
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.sublayers = 2 if context_dim is None else 3
        self.modulation = nn.Linear(width, 3 * self.sublayers * width)

    def forward(
        self, tokens: Tensor, signal: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """Map ``(B, N, width)`` to ``(B, N, width)`` under ``signal`` ``(B, width)``."""
        signals = self.modulation(signal).unsqueeze(1).chunk(3 * self.sublayers, dim=-1)
        shift, scale, gate = signals[:3]
        tokens = tokens + gate * self.self_attention(self.norm(tokens) * (1 + scale) + shift)
        if self.cross_attention is not None:
            shift, scale, gate = signals[3:6]
            asking = self.norm(tokens) * (1 + scale) + shift
            tokens = tokens + gate * self.cross_attention(asking, context, mask)
        shift, scale, gate = signals[-3:]
        out: Tensor = tokens + gate * self.mlp(self.norm(tokens) * (1 + scale) + shift)
        return out


def _check_sizes(
    spatial_dims: int, input_size: Sequence[int], patch_size: int, width: int, heads: int
) -> None:
    problems: list[str] = []
    if spatial_dims not in (2, 3) or len(input_size) != spatial_dims:
        problems.append(f"input_size {tuple(input_size)} for spatial_dims {spatial_dims}")
    if patch_size < 1 or any(size % patch_size for size in input_size):
        problems.append(f"patch_size {patch_size} does not divide input_size {tuple(input_size)}")
    if heads < 1 or width % heads:
        problems.append(f"heads {heads} does not divide width {width}")
    if width < 2 * spatial_dims:
        problems.append(f"width {width} cannot hold a sine and a cosine for each axis")
    if problems:
        common = math.gcd(*input_size)
        divisors = [str(p) for p in range(1, common + 1) if common % p == 0]
        raise UserError(
            "dit3d: " + "; ".join(problems),
            expected=f"patch_size {', '.join(divisors)} for this latent",
            remedy="change the recipe's backbone block, or latent.size",
        )
