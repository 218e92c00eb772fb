"""What the loop asks of a task, whatever is trained: batches, a monitor, a validation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from voxella.engine.order import SampleKey

__all__ = ["BatchBuilder", "Monitoring", "SecondOptimizer", "TaskBatch", "Validating", "prefetch"]

_T = TypeVar("_T")


class TaskBatch(Protocol):
    """Cases as a module learns from them."""

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Return the batch's cases, for messages."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on another device."""
        ...


class BatchBuilder(Protocol):
    """Makes batches of sample keys, the same on every process."""

    @property
    def cases(self) -> Mapping[str, Any]:
        """Return the training cases by id."""
        ...

    def make(
        self, keys: Sequence[SampleKey], *, global_keys: Sequence[SampleKey] | None = None
    ) -> Any:  # noqa: ANN401 - the task's own batch
        """Return the batch of ``keys``, a part of the step's ``global_keys``."""
        ...


class Monitoring(Protocol):
    """Sums what a task wants logged, over all processes when read."""

    def add(self, batch: Any, losses: dict[str, Tensor]) -> None:  # noqa: ANN401 - the task's own batch
        """Count one micro batch and the named losses that the module returned for it."""
        ...

    def check(self, step: int) -> None:
        """Raise NonFiniteLossError where a loss since the last check is not finite; collective."""
        ...

    def read(self) -> dict[str, float]:
        """Return the scalars since the last call and begin anew; collective."""
        ...


class Validating(Protocol):
    """Measures the averaged weights on held-out cases."""

    def measure(self, engine: Any, step: int) -> dict[str, float]:  # noqa: ANN401 - DeepSpeed ships no types
        """Return named scalars; collective, the same on every process."""
        ...


class SecondOptimizer(Protocol):
    """A network beside the model that learns from the same batches, by an optimizer of its own.

    It is whole on every process, and its state is part of every checkpoint.
    """

    def backward(
        self,
        batch: Any,  # noqa: ANN401 - the task's own batch
        losses: dict[str, Tensor],
        *,
        micro_batches: int,
    ) -> dict[str, Tensor]:
        """Add one micro batch's gradients, of ``micro_batches`` a step; return named losses.

        Args:
            batch: The micro batch.
            losses: What the model returned for it, its own backward pass done.
            micro_batches: How many of them make a step on this process.
        """
        ...

    def step(self, step: int) -> None:
        """Average the gradients over processes and take optimizer step ``step`` (from 1)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, the same on every process."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        ...


def prefetch(builders: Iterator[Callable[[], _T]], depth: int = 2) -> Iterator[_T]:
    """Run ``builders`` in order on a thread, ``depth`` ahead: reading hides behind compute."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        waiting: deque[Future[_T]] = deque()
        try:
            for builder in builders:
                waiting.append(pool.submit(builder))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
