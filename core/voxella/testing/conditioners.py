"""What every conditioner has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from voxella.conditioning import Conditioning
from voxella.testing.checks import (
    Outputs,
    assert_same,
    differs,
    gradients_reach_all,
    perturb,
    same_seed_same_weights,
    state_dict_round_trip,
)
from voxella.testing.contract import Contract

__all__ = ["ConditionerContract"]

_LENGTHS = [6, 1, 4]  # true tokens of the three cases of the suite's batch
_TEXT_DIM = 12


class ConditionerContract(Contract):
    """Shapes, masks, independence of the batch, gradients and attributes of a conditioner."""

    kind: ClassVar[str] = "conditioners"
    small: ClassVar[Mapping[str, Any]] = {
        "width": 32,
        "queries": 4,
        "blocks": 2,
        "heads": 4,
        "head_hidden": 16,
    }

    def make(self, *, seed: int = 0, text_dim: int = _TEXT_DIM, num_classes: int = 2) -> nn.Module:
        """Build the conditioner for text of ``text_dim`` features and ``num_classes`` classes."""
        return self.build_module(seed=seed, text_dim=text_dim, num_classes=num_classes)

    def run(self, module: nn.Module, batch: dict[str, Tensor]) -> Conditioning:
        """Condition a batch, handing over None for what the conditioner does not need."""
        needs: frozenset[str] = module.needs  # type: ignore[assignment] # nn.Module hides attributes
        text = "text" in needs
        conditioning = module(
            timesteps=batch["timesteps"],
            text_features=batch["text"] if text else None,
            text_mask=batch.get("mask") if text else None,
            label=batch["label"] if "label" in needs else None,
        )
        assert isinstance(conditioning, Conditioning), (
            f"calling it returned {type(conditioning).__name__}, not a voxella Conditioning"
        )
        return conditioning

    def outputs(self, module: nn.Module, batch: dict[str, Tensor]) -> Outputs:
        """Return what a backbone or a loss can see of a batch."""
        return visible(self.run(module, batch))

    def test_attributes_describe_it(self) -> None:
        """``needs``, ``context_dim`` and ``vector_sizes`` are there before any call."""
        module = self.make()
        needs: Any = getattr(module, "needs", None)
        assert isinstance(needs, frozenset), "needs has to be a frozenset of 'text', 'label'"
        assert needs <= {"text", "label"}, f"needs {sorted(needs)}: only 'text', 'label' exist"
        width: Any = getattr(module, "context_dim", "missing")
        assert width is None or isinstance(width, int), "context_dim has to be an int or None"
        sizes: Any = getattr(module, "vector_sizes", None)
        assert isinstance(sizes, Mapping), "vector_sizes has to be {name: width}"

    def test_shapes_for_any_text_width_and_classes(self) -> None:
        """What comes out has the shapes that the attributes announce."""
        for text_dim, classes in ((_TEXT_DIM, 2), (7, 3)):
            module = self.make(text_dim=text_dim, num_classes=classes).eval()
            check_shapes(module, self.run(module, batch_of(text_dim, classes)), classes)

    def test_takes_text_in_the_dtype_of_the_cache(self) -> None:
        """Features are cached as bfloat16 while weights are float32: the conditioner casts."""
        module, batch = perturb(self.make()), batch_of()
        batch["text"] = batch["text"].bfloat16()
        for name, value in self.outputs(module, batch).items():
            assert value.isfinite().all(), f"{name} is not finite for bfloat16 text"

    def test_forward_is_deterministic(self) -> None:
        """Two calls on the same batch agree to the last bit in evaluation mode."""
        module, batch = perturb(self.make()), batch_of()
        first, second = self.outputs(module, batch), self.outputs(module, batch)
        assert_same(first, second, "called twice", tolerance=0.0)

    def test_seed_decides_weights(self) -> None:
        """Two builds under one seed are equal."""
        same_seed_same_weights(lambda seed: self.make(seed=seed))

    def test_padding_changes_nothing(self) -> None:
        """More masked tokens, whatever they hold, leave every output as it is."""
        module, batch = perturb(self.make()), batch_of()
        if "text" not in module.needs:  # type: ignore[operator] # nn.Module hides attributes
            return
        padded = dict(batch)
        junk = 50.0 * torch.ones(len(_LENGTHS), 3, _TEXT_DIM)
        padded["text"] = torch.cat(
            [batch["text"].masked_fill(~batch["mask"][..., None], -9), junk], 1
        )
        padded["mask"] = torch.cat([batch["mask"], junk[..., 0] < 0], 1)
        first, second = self.outputs(module, batch), self.outputs(module, padded)
        assert_same(first, second, "with more masked padding")

    def test_no_mask_means_all_real(self) -> None:
        """``text_mask=None`` equals a mask that is True everywhere."""
        module, batch = perturb(self.make()), batch_of()
        batch["mask"] = torch.ones_like(batch["mask"])
        bare = {key: value for key, value in batch.items() if key != "mask"}
        first, second = self.outputs(module, batch), self.outputs(module, bare)
        assert_same(first, second, "without a mask")

    def test_a_case_alone_equals_the_case_in_a_batch(self) -> None:
        """Neither the other cases of a batch nor their order reach a case."""
        module, batch = perturb(self.make()), batch_of()
        whole = self.run(module, batch)
        for index, length in enumerate(_LENGTHS):
            alone = {key: rows(value, index) for key, value in batch.items()}
            alone["text"], alone["mask"] = alone["text"][:, :length], alone["mask"][:, :length]
            found = self.outputs(module, alone)
            case = visible(one_case(whole, index))
            assert_same(found, case, f"case {index} alone, at its own length")

    def test_reads_what_it_needs(self) -> None:
        """An input that ``needs`` names changes some output."""
        module, batch = perturb(self.make()), batch_of()
        before = self.outputs(module, batch)
        for need, key in (("text", "text"), ("label", "label")):
            if need in module.needs:  # type: ignore[operator] # nn.Module hides attributes
                changed = batch | {key: batch[key].roll(1, 0)}
                assert differs(before, self.outputs(module, changed)), (
                    f"needs names {need!r}, yet no output depends on it"
                )

    def test_missing_label_is_zeros(self) -> None:
        """A row of zeros, "no label", gives finite outputs."""
        module, batch = perturb(self.make()), batch_of()
        batch["label"] = torch.zeros_like(batch["label"])
        for name, value in self.outputs(module, batch).items():
            assert value.isfinite().all(), f"{name} is not finite for a case without label"

    def test_inputs_are_left_alone(self) -> None:
        """A batch is shared with the loss and the backbone: nothing is written into it."""
        module, batch = perturb(self.make()), batch_of()
        before = {key: value.clone() for key, value in batch.items()}
        self.outputs(module, batch)
        assert_same(before, batch, "the batch after the call", tolerance=0.0)

    def test_gradients_reach_every_parameter(self) -> None:
        """Every trainable parameter is used."""
        module = perturb(self.make())
        if any(True for _ in module.parameters()):
            gradients_reach_all(module, self.outputs(module, batch_of()))

    def test_state_dict_carries_everything(self) -> None:
        """Loading a state_dict restores the outputs."""
        state_dict_round_trip(
            lambda seed: self.make(seed=seed), lambda module: self.outputs(module, batch_of())
        )


def batch_of(text_dim: int = _TEXT_DIM, num_classes: int = 2) -> dict[str, Tensor]:
    """Return three cases with texts of different length, classes and timesteps."""
    generator = torch.Generator().manual_seed(3)
    shape = (len(_LENGTHS), max(_LENGTHS))
    return {
        "timesteps": torch.tensor([1, 500, 999]),
        "text": torch.randn(*shape, text_dim, generator=generator),
        "mask": torch.arange(shape[1])[None] < torch.tensor(_LENGTHS)[:, None],
        "label": one_hot(torch.arange(shape[0]) % num_classes, num_classes).float(),
    }


def rows(tensor: Tensor, index: int) -> Tensor:
    """Return one case of a batch, as a batch of one."""
    return tensor[index : index + 1]


def one_case(found: Conditioning, index: int) -> Conditioning:
    """Return one case of a batch's conditioning, as a batch of one."""

    def row(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else rows(tensor, index)

    return Conditioning(
        context=row(found.context),
        context_mask=row(found.context_mask),
        vectors={name: rows(vector, index) for name, vector in found.vectors.items()},
        class_logits=row(found.class_logits),
    )


def visible(found: Conditioning) -> Outputs:
    """Return what a backbone or a loss can see: real context tokens, vectors, logits."""
    seen = {f"vectors[{name}]": vector for name, vector in found.vectors.items()}
    if found.context is not None:
        mask = found.context_mask
        seen["context"] = found.context.flatten(0, 1) if mask is None else found.context[mask]
    if found.class_logits is not None:
        seen["class_logits"] = found.class_logits
    return seen


def check_shapes(module: nn.Module, found: Conditioning, num_classes: int) -> None:
    """Refuse a Conditioning that its conditioner's attributes do not announce."""
    batch = len(_LENGTHS)
    width: int | None = module.context_dim  # type: ignore[assignment] # see run
    assert (found.context is None) == (width is None), "context and context_dim disagree"
    if found.context is not None:
        shape = tuple(found.context.shape)
        assert shape == (batch, shape[1], width), (
            f"context has shape {shape}, not (batch, tokens, context_dim={width})"
        )
        mask = found.context_mask
        assert mask is None or (mask.dtype == torch.bool and mask.shape == shape[:2]), (
            "context_mask has to be bool of shape (batch, tokens)"
        )
    sizes = {name: tuple(vector.shape) for name, vector in found.vectors.items()}
    announced: Mapping[str, int] = module.vector_sizes  # type: ignore[assignment] # see run
    told = {name: (batch, size) for name, size in announced.items()}
    assert sizes == told, f"vectors have shapes {sizes}; vector_sizes announces {told}"
    logits = found.class_logits
    assert logits is None or tuple(logits.shape) == (batch, num_classes), (
        "class_logits has to be (batch, num_classes)"
    )
