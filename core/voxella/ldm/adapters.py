"""Low-rank adapters on a backbone's attention, by peft; merged into the weights, or kept apart.

With an adapter a linear layer ``W`` computes ``W x + alpha / rank * B A x`` (Hu et al. 2022,
arXiv:2106.09685, section 4.1). ``B`` starts at zero: the adapted model starts as the model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from voxella.engine.parameters import nearest_names
from voxella.errors import UserError
from voxella.recipe.model import Lora
from voxella.wording import quoted

__all__ = ["add_adapters", "apart", "joined", "merged"]

_BASE, _A, _B = ".base_layer.", ".lora_A.default.", ".lora_B.default."
# The attention's projections: of maisi_unet and dit3d, and as diffusers calls them.
_ATTENTION = ("to_q", "to_k", "to_v", "out_proj", "to_out.0")


def add_adapters(
    backbone: nn.Module, lora: Lora, *, seed: int, whole: Collection[str] = ()
) -> list[str]:
    """Put adapters on a backbone, freeze the rest of it, and return the adapted layers' names.

    Args:
        backbone: Its weights are in place.
        lora: The recipe's block.
        seed: Of the adapters' first matrices; they do not depend on what is drawn elsewhere.
        whole: Parameters, by their names in the backbone, that stay trained as they are: what was
            new when trained weights were loaded. Their layers get no adapter.

    Raises:
        UserError: peft is not installed, or a target is no linear layer of the backbone.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            "lora: the package peft is not installed", remedy="pip install 'voxella[lora]'"
        ) from error
    names = _targets(backbone, lora, whole)
    kept = [n for n, p in backbone.named_parameters() if n in whole and p.requires_grad]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.rank if lora.alpha is None else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        inject_adapter_in_model(config, backbone)
    for name, parameter in backbone.named_parameters():
        if name in kept:
            parameter.requires_grad_(True)
    return names


def merged(state: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """Return a state dict without adapters, under the names of the model without them.

    Args:
        state: Of the whole model or of its backbone, float32; may have no adapter.
        lora: The recipe's block.
    """
    factor = (lora.rank if lora.alpha is None else lora.alpha) / lora.rank
    plain = {}
    for name, tensor in state.items():
        if _A in name or _B in name:
            continue
        first, second = name.replace(_BASE, _A), name.replace(_BASE, _B)
        if _BASE in name and second in state:
            tensor = tensor + factor * (state[second] @ state[first])
        plain[name.replace(_BASE, ".")] = tensor
    return plain


def apart(
    state: Mapping[str, Tensor], model: nn.Module, base: Collection[str]
) -> dict[str, Tensor]:
    """Return what of a state the weights that training started from do not have.

    Args:
        state: Of the adapted model.
        model: Knows what of it was trained.
        base: Names in these weights, of the model without adapters.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: tensor
        for name, tensor in state.items()
        if name in trained or name.replace(_BASE, ".") not in base
    }


def joined(
    base: Mapping[str, Tensor], state: Mapping[str, Tensor], lora: Lora
) -> dict[str, Tensor]:
    """Return the whole state without adapters, of :func:`apart`'s and the weights beside it."""
    adapted = {name.partition(_A)[0] for name in state if _A in name}

    def in_adapted(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{layer}{_BASE}{kind}" if layer in adapted else name

    return merged({**{in_adapted(n): t.float() for n, t in base.items()}, **state}, lora)


def _targets(backbone: nn.Module, lora: Lora, whole: Collection[str]) -> list[str]:
    linear = [n for n, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    for index, target in enumerate(lora.targets):
        if not any(_ends(name, target) for name in linear):
            raise UserError(
                f"lora.targets[{index}]: {quoted(target)} ends the name of no linear layer of the "
                "backbone",
                expected=f"such as {', '.join(nearest_names(target, _ends_of(linear)))}",
            )
    names = [
        name
        for name in linear
        if any(_ends(name, target) for target in lora.targets or _ATTENTION)
        and f"{name}.weight" not in whole
    ]
    if not names:
        raise UserError(
            "lora: the backbone has no attention whose projections could be adapted",
            expected=f"lora.targets, such as {', '.join(nearest_names('to_q', _ends_of(linear)))}",
        )
    return names


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _ends_of(names: list[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names} | set(names))
