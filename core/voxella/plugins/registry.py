"""Plugins by name: find the one owner, import only it, check its hooks, return its builder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.plugins.discovery import PluginInfo, find, list_plugins, nearest
from voxella.plugins.specs import PROJECT, FactorySpec
from voxella.wording import quoted

if TYPE_CHECKING:
    from voxella.plugins.component import Component

__all__ = ["PluginInfo", "build", "builder", "checked_manager", "list_plugins"]

_HOOK = "voxella_factory"


def builder(kind: str, name: str) -> Callable[..., Any]:
    """Return the function that builds a plugin, importing this plugin and no other.

    Raises:
        UserError: The name is unknown or has two owners; the plugin cannot be imported, misspells
            a hook, or knows no builder of that name; the builder's signature is not explicit.
    """
    plugin = find(kind, name)
    target = _guarded(plugin, "importing it", plugin.load)
    build_it = target if _is_builder(target) else _ask(plugin, target)
    if not callable(build_it):
        raise UserError(f"{_who(plugin)}: what it returned as a builder cannot be called")
    _explicit_signature(plugin, build_it)
    return build_it


def build(kind: str, component: Component, **injected: Any) -> Any:  # noqa: ANN401 - any plugin's object
    """Build a recipe's component.

    Args:
        kind: The plugin's kind.
        component: Its block in the recipe: a name and the builder's arguments.
        injected: What the engine supplies; passed on where the builder declares it, else dropped.

    Raises:
        UserError: As :func:`builder`; or the recipe gives an unknown argument, leaves out a
            required one, or sets one that is wired. Exceptions of the builder itself pass.
    """
    make = builder(kind, component.name)
    signature = inspect.signature(make)
    problems = [
        f"{kind}: {component.name}: the engine supplies {quoted(key)}, so a recipe cannot set it"
        for key in component.arguments
        if key in injected
    ]
    expected = [key for key in signature.parameters if key not in injected]
    problems += [
        f"{kind}: {component.name}: no argument {quoted(key)}{nearest(key, expected)}"
        for key in component.arguments
        if key not in signature.parameters
    ]
    given = component.arguments | {k: v for k, v in injected.items() if k in signature.parameters}
    problems += [
        f"{kind}: {component.name}: argument {quoted(key)} is missing"
        for key, parameter in signature.parameters.items()
        if parameter.default is parameter.empty and key not in given
    ]
    if problems:
        raise UserError("\n".join(problems), expected=", ".join(expected) or "no arguments")
    return make(**given)


def checked_manager(
    spec: type, plugin: object, *, who: str, expected: str | None = None
) -> pluggy.PluginManager:
    """Register one object against one hook specification and refuse hooks that it does not have.

    Raises:
        UserError: A hook is misspelt or takes arguments that the specification lacks.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(spec)
    hooks = sorted(name for name in vars(spec) if name.startswith(f"{PROJECT}_"))
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        callers = manager.get_hookcallers(plugin) or []
        unknown = sorted(caller.name for caller in callers if not caller.has_spec())
        told = [f"{who}: no hook {name!r}{nearest(name, hooks)}" for name in unknown]
        # The last line says which argument is wrong; the ones before repeat the plugin's address.
        problem = "\n".join(told) or f"{who}: {str(error).splitlines()[-1]}"
        raise UserError(problem, expected=expected or ", ".join(hooks)) from error
    return manager


def _ask(plugin: PluginInfo, target: object) -> object:
    """Ask the plugin's ``voxella_factory`` for the builder of its name."""
    manager = checked_manager(FactorySpec, target, who=_who(plugin))
    hook = manager.hook.voxella_factory
    if not hook.get_hookimpls():
        raise UserError(
            f"{_who(plugin)}: it implements no hook {_HOOK!r}",
            remedy="from voxella.plugins import hookimpl; @hookimpl def voxella_factory(name): ...",
        )
    made = _guarded(plugin, f"calling its {_HOOK}", lambda: hook(name=plugin.name))
    if made is None:
        raise UserError(
            f"{_who(plugin)}: its {_HOOK} returned None for {plugin.name!r}",
            remedy="return the builder for every name that the distribution declares",
        )
    return made


def _guarded(plugin: PluginInfo, doing: str, act: Callable[[], object]) -> object:
    """Turn whatever a plugin raises, even an exit at import, into one message that names it."""
    try:
        return act()
    except (Exception, SystemExit) as error:
        raise_if_machine(error)
        raise UserError(
            f"{_who(plugin)}: {doing} failed: {type(error).__name__}: {error}",
            remedy=f"fix or uninstall {plugin.distribution}; other plugins are not affected",
        ) from error


def _is_builder(target: object) -> bool:
    """Tell a plain function or class from an object that carries hooks."""
    marked = (hasattr(getattr(target, name, None), f"{PROJECT}_impl") for name in dir(target))
    return callable(target) and not any(marked)


def _explicit_signature(plugin: PluginInfo, make: Callable[..., Any]) -> None:
    """A recipe is bound to the signature before anything is built, so it has to say everything."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError) as error:
        raise UserError(f"{_who(plugin)}: its builder has no signature: {error}") from error
    hidden = {
        inspect.Parameter.VAR_KEYWORD: "**",
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.POSITIONAL_ONLY: "positional-only ",
    }
    vague = [f"{hidden[p.kind]}{p.name}" for p in parameters if p.kind in hidden]
    if vague:
        raise UserError(
            f"{_who(plugin)}: its builder takes {', '.join(vague)}: a recipe cannot be checked",
            expected="keyword arguments, each named in the builder's signature",
        )


def _who(plugin: PluginInfo) -> str:
    return f"{plugin.kind}: {plugin.name} ({plugin.owner}, {plugin.target})"
