"""Names that plugins may still import by their old form: read for one release, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["old_names"]


def old_names(
    module: str, renamed: Mapping[str, str], found: Mapping[str, Any]
) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` that answers to old names.

    Args:
        module: The module's name.
        renamed: Old name -> new name.
        found: The module's ``globals()``.

    Raises:
        AttributeError: From what is returned: the name is neither an old nor a new one.
    """

    def get(name: str) -> Any:  # noqa: ANN401 - whatever has the name
        if name not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = renamed[name]
        warnings.warn(f"{module}.{name} is now {new}", DeprecationWarning, stacklevel=2)
        return found[new]

    return get
