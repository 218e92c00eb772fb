"""The base of every contract suite: which plugin, with which arguments, checked how."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import nn

from voxella.errors import UserError
from voxella.plugins.component import Component
from voxella.plugins.registry import build, builder
from voxella.testing.checks import same_seed_same_weights

__all__ = ["Contract", "SpatialContract"]


class Contract:
    """A suite of checks on one plugin; each ``test_*`` method raises AssertionError to refuse it.

    A plugin's own tests hold it to the suite of its kind in three lines::

        from voxella.testing import ConditionerContract

        class TestMine(ConditionerContract):
            plugin = "age"

    Nothing here needs pytest: ``voxella plugins check NAME`` calls the same methods.

    Attributes:
        kind: The plugin's kind.
        plugin: The plugin's name.
        arguments: The builder's arguments; what is not given keeps ``small`` or its default.
        small: Values taken for the arguments that a builder declares under these names, so that a
            check takes a second and not the minute that a paper's sizes take.
    """

    kind: ClassVar[str] = ""
    plugin: ClassVar[str] = ""
    arguments: ClassVar[Mapping[str, Any]] = {}
    small: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def chosen(cls) -> dict[str, Any]:
        """Return the arguments that the builder is called with, less the wired ones."""
        declared = inspect.signature(builder(cls.kind, cls.plugin)).parameters
        small = {key: value for key, value in cls.small.items() if key in declared}
        return small | dict(cls.arguments)

    @classmethod
    def checks(cls) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield every check as its name in words and a function that raises when it fails."""
        suite = cls()
        for name in sorted(vars_of(cls)):
            yield name.removeprefix("test_").replace("_", " "), getattr(suite, name)

    def build(self, *, seed: int = 0, **injected: Any) -> Any:  # noqa: ANN401 - any plugin's object
        """Build the plugin under a fixed seed with the engine's ``injected`` arguments."""
        torch.manual_seed(seed)
        return build(self.kind, Component(name=self.plugin, **self.chosen()), **injected)

    def build_module(self, **injected: Any) -> nn.Module:  # noqa: ANN401 - see build
        """Build the plugin, which has to be a module."""
        module = self.build(**injected)
        assert isinstance(module, nn.Module), f"{type(module).__name__} is no torch.nn.Module"
        return module

    def test_builder_is_annotated(self) -> None:
        """A recipe's values are checked against annotations, so every argument has one."""
        parameters = inspect.signature(builder(self.kind, self.plugin)).parameters.values()
        bare = [p.name for p in parameters if p.annotation is p.empty]
        assert not bare, f"the builder's arguments {bare} have no type annotation"
        loose = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        assert not loose, f"the builder's arguments {loose} are not keyword-only: put a * first"


class SpatialContract(Contract):
    """A suite for plugins that take ``spatial_dims``: everything is checked in 2D and in 3D.

    A plugin that is made for one of the two refuses the other with a UserError.
    """

    def build_spatial(self, spatial_dims: int, **changes: Any) -> Any:  # noqa: ANN401 - see build
        """Build the plugin for 2 or 3 spatial dimensions; subclasses supply what is wired."""
        raise NotImplementedError

    def dimensions(self) -> list[int]:
        """Return the numbers of spatial dimensions that the plugin does not refuse.

        Raises:
            AssertionError: It refuses both.
        """
        refusals = {dims: self._refusal(dims) for dims in (2, 3)}
        kept = [dims for dims, refusal in refusals.items() if refusal is None]
        assert kept, f"it builds neither in 2D nor in 3D: {refusals[3]}"
        return kept

    def test_builds_in_2d(self) -> None:
        """It builds in 2D, or says why not."""
        self._skip_refused(2)

    def test_builds_in_3d(self) -> None:
        """It builds in 3D, or says why not."""
        self._skip_refused(3)

    def test_seed_decides_weights(self) -> None:
        """Two builds under one seed are equal."""
        dims = self.dimensions()[-1]
        same_seed_same_weights(lambda seed: self.build_spatial(dims, seed=seed))

    def _skip_refused(self, spatial_dims: int) -> None:
        if spatial_dims not in self.dimensions():
            raise SkipTest(self._refusal(spatial_dims) or "")

    def _refusal(self, spatial_dims: int) -> str | None:
        try:
            self.build_spatial(spatial_dims)
        except UserError as error:
            return str(error)
        return None


def vars_of(cls: type) -> set[str]:
    """Return the names of a suite's checks, its parents' among them."""
    return {name for name in dir(cls) if name.startswith("test_")}
