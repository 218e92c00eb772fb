"""What every conditioner has to hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxella.conditioning import LABEL, SPACING, TEXT, Conditioning, arguments, unread
from voxella.recipe.condition import RESERVED
from voxella.testing.checks import (
    Outputs,
    assert_same,
    differs,
    gradients_reach_all,
    perturb,
    same_seed_same_weights,
    state_dict_round_trip,
)
from voxella.testing.conditioned import (
    AXES,
    LENGTHS,
    NUMBER,
    TEXT_DIM,
    batch_of,
    check_shapes,
    known_but_of_the_last,
    needs_of,
    one_case,
    rows,
    visible,
)
from voxella.testing.contract import Contract

__all__ = ["ConditionerContract"]


class ConditionerContract(Contract):
    """Shapes, masks, independence of the batch, gradients and attributes of a conditioner.

    Attributes:
        conditions: Width of each condition that the plugin needs and that is no number: of a
            category, how many values it has.
    """

    kind: ClassVar[str] = "conditioners"
    small: ClassVar[Mapping[str, Any]] = {
        "width": 32,
        "queries": 4,
        "blocks": 2,
        "heads": 4,
        "head_hidden": 16,
    }
    conditions: ClassVar[Mapping[str, int]] = {}

    def make(self, *, seed: int = 0, text_dim: int = TEXT_DIM, num_classes: int = 2) -> nn.Module:
        """Build the conditioner for text of ``text_dim`` features and ``num_classes`` classes."""
        offered = {TEXT: text_dim, LABEL: num_classes, SPACING: AXES, **self.conditions}
        widths = defaultdict(lambda: NUMBER, offered)
        return self.build_module(
            seed=seed, text_dim=text_dim, num_classes=num_classes, conditions=widths
        )

    def batch(
        self, module: nn.Module, text_dim: int = TEXT_DIM, num_classes: int = 2
    ) -> dict[str, Tensor]:
        """Return three cases with texts of different length; of the last no condition is known."""
        named = {
            name: known_but_of_the_last(self.conditions.get(name, NUMBER))
            for name in sorted(needs_of(module) - {TEXT, LABEL, SPACING})
        }
        return {**batch_of(text_dim, num_classes), **named}

    def run(self, module: nn.Module, batch: dict[str, Tensor]) -> Conditioning:
        """Condition a batch, handing over what the conditioner needs."""
        needs = needs_of(module)
        conditioning = module(
            timesteps=batch["timesteps"],
            **arguments(needs, batch, batch.get("text_mask")),
            **unread(module, needs),
        )
        assert isinstance(conditioning, Conditioning), (
            f"calling it returned {type(conditioning).__name__}, not a voxella Conditioning"
        )
        return conditioning

    def perturbed(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """Return the conditioner, no parameter zero, and a batch for it."""
        module = perturb(self.make())
        return module, self.batch(module)

    def outputs(self, module: nn.Module, batch: dict[str, Tensor]) -> Outputs:
        """Return what a backbone or a loss can see of a batch."""
        return visible(self.run(module, batch))

    def test_attributes_describe_it(self) -> None:
        """``needs``, ``context_dim`` and ``vector_sizes`` are there before any call."""
        module = self.make()
        needs: Any = getattr(module, "needs", None)
        assert isinstance(needs, frozenset), "needs has to be a frozenset of names"
        no_names = RESERVED - {TEXT, LABEL, SPACING}
        wrong = [name for name in needs if not str(name).isidentifier() or name in no_names]
        assert not wrong, f"needs {wrong}: no names of what a recipe may offer"
        width: Any = getattr(module, "context_dim", "missing")
        assert width is None or isinstance(width, int), "context_dim has to be an int or None"
        sizes: Any = getattr(module, "vector_sizes", None)
        assert isinstance(sizes, Mapping), "vector_sizes has to be {name: width}"

    def test_shapes_for_any_text_width_and_classes(self) -> None:
        """What comes out has the shapes that the attributes announce."""
        for text_dim, classes in ((TEXT_DIM, 2), (7, 3)):
            module = self.make(text_dim=text_dim, num_classes=classes).eval()
            batch = self.batch(module, text_dim, classes)
            check_shapes(module, self.run(module, batch), classes)

    def test_takes_text_in_the_dtype_of_the_cache(self) -> None:
        """Features are cached as bfloat16 while weights are float32: the conditioner casts."""
        module, batch = self.perturbed()
        batch["text"] = batch["text"].bfloat16()
        for name, value in self.outputs(module, batch).items():
            assert value.isfinite().all(), f"{name} is not finite for bfloat16 text"

    def test_forward_is_deterministic(self) -> None:
        """Two calls on the same batch agree to the last bit in evaluation mode."""
        module, batch = self.perturbed()
        first, second = self.outputs(module, batch), self.outputs(module, batch)
        assert_same(first, second, "called twice", tolerance=0.0)

    def test_seed_decides_weights(self) -> None:
        """Two builds under one seed are equal."""
        same_seed_same_weights(lambda seed: self.make(seed=seed))

    def test_padding_changes_nothing(self) -> None:
        """More masked tokens, whatever they hold, leave every output as it is."""
        module, batch = self.perturbed()
        if TEXT not in needs_of(module):
            return
        padded = dict(batch)
        junk = 50.0 * torch.ones(len(LENGTHS), 3, TEXT_DIM)
        padded["text"] = torch.cat(
            [batch["text"].masked_fill(~batch["text_mask"][..., None], -9), junk], 1
        )
        padded["text_mask"] = torch.cat([batch["text_mask"], junk[..., 0] < 0], 1)
        first, second = self.outputs(module, batch), self.outputs(module, padded)
        assert_same(first, second, "with more masked padding")

    def test_no_mask_means_all_real(self) -> None:
        """``text_mask=None`` equals a mask that is True everywhere."""
        module, batch = self.perturbed()
        batch["text_mask"] = torch.ones_like(batch["text_mask"])
        bare = {key: value for key, value in batch.items() if key != "text_mask"}
        first, second = self.outputs(module, batch), self.outputs(module, bare)
        assert_same(first, second, "without a mask")

    def test_a_case_alone_equals_the_case_in_a_batch(self) -> None:
        """Neither the other cases of a batch nor their order reach a case."""
        module, batch = self.perturbed()
        whole = self.run(module, batch)
        for index, length in enumerate(LENGTHS):
            alone = {key: rows(value, index) for key, value in batch.items()}
            alone["text"], alone["text_mask"] = (
                alone["text"][:, :length],
                alone["text_mask"][:, :length],
            )
            found = self.outputs(module, alone)
            case = visible(one_case(whole, index))
            assert_same(found, case, f"case {index} alone, at its own length")

    def test_reads_what_it_needs(self) -> None:
        """An input that ``needs`` names changes some output."""
        module, batch = self.perturbed()
        before = self.outputs(module, batch)
        for need in needs_of(module):
            changed = batch | {need: batch[need].roll(1, 0)}
            assert differs(before, self.outputs(module, changed)), (
                f"needs names {need!r}, yet no output depends on it"
            )

    def test_missing_label_is_zeros(self) -> None:
        """A row of zeros, "no label", gives finite outputs."""
        module, batch = self.perturbed()
        batch["label"] = torch.zeros_like(batch["label"])
        for name, value in self.outputs(module, batch).items():
            assert value.isfinite().all(), f"{name} is not finite for a case without label"

    def test_missing_conditions_are_zeros(self) -> None:
        """Zeros, "not known" in all cases, give finite outputs."""
        module, batch = self.perturbed()
        for name in needs_of(module) - {TEXT, LABEL, SPACING}:
            batch[name] = torch.zeros_like(batch[name])
        for name, value in self.outputs(module, batch).items():
            assert value.isfinite().all(), f"{name} is not finite where no condition is known"

    def test_inputs_are_left_alone(self) -> None:
        """A batch is shared with the loss and the backbone: nothing is written into it."""
        module, batch = self.perturbed()
        before = {key: value.clone() for key, value in batch.items()}
        self.outputs(module, batch)
        assert_same(before, batch, "the batch after the call", tolerance=0.0)

    def test_gradients_reach_every_parameter(self) -> None:
        """Every trainable parameter is used."""
        module = perturb(self.make())
        if any(True for _ in module.parameters()):
            gradients_reach_all(module, self.outputs(module, self.batch(module)))

    def test_state_dict_carries_everything(self) -> None:
        """Loading a state_dict restores the outputs."""
        state_dict_round_trip(
            lambda seed: self.make(seed=seed),
            lambda module: self.outputs(module, self.batch(module)),
        )
