"""Reading what training starts from: a file held against the model, by names and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from voxella.errors import UserError
from voxella.ldm.adapters import joined
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.model_folder.facts import ModelFacts, load_facts
from voxella.ldm.start import Start, own_folder, start_file, start_sha256
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Released, Source
from voxella.recipe.model import Init, Lora
from voxella.recipe.start import OWN
from voxella.weights import KeyReport, compare_keys, read_state_dict
from voxella.wording import listed

__all__ = ["read_start", "with_base"]

_PARTS = ("backbone", "conditioner")


def read_start(init: Init | None, model: LatentDiffusion) -> Start | None:
    """Read what training starts from and hold it against a model; None where there is nothing.

    Args:
        init: The recipe's block.
        model: On the device ``meta``: only its names and shapes are looked at.

    Raises:
        UserError: The file cannot be read, or does not fit: every difference is counted; a model
            folder is not whole, or not as it was exported.
    """
    sha256 = start_sha256(init)
    if init is None or init.path is None or sha256 is None:
        return None
    folder = own_folder(init)
    known = None if folder is None else load_facts(folder)
    released = _read(init, known, sha256, list(model.vectors))
    states: dict[str, Mapping[str, Tensor]] = {}
    reports: dict[str, KeyReport] = {}
    new, widened, problems = set[str](), set[str](), list[str]()
    wanted = [part for part in init.parts if part in _PARTS]
    for part in wanted:
        module = model.get_submodule(part)
        own = module.state_dict()
        given = released.parts.get(part, {})
        if not own and not given:
            continue
        reports[part] = report = compare_keys(own, given)
        free = frozenset[str]()
        if init.missing == "new":
            given, free = _grown(part, module, given, report)
        fitted = compare_keys(own, given)
        left = replace(fitted, missing=[name for name in fitted.missing if name not in free])
        problems += [f"  {part}: {line}" for line in left.problems]
        states[part] = {name: given[name] for name in fitted.matched}
        new |= {f"{part}.{name}" for name in report.missing}
        widened |= {f"{part}.{name}" for name in report.mismatched if name in fitted.matched}
    matched = sum(len(report.matched) for report in reports.values())
    if problems or (wanted and not matched):
        raise _refusal(init, reports, problems)
    return Start(
        init.path,
        sha256,
        states,
        reports,
        frozenset(f"{part}.{name}" for part, r in reports.items() for name in r.matched),
        frozenset(new),
        frozenset(widened),
        released.latent_scale,
        _licences(init, known, [part for part, report in reports.items() if report.matched]),
        tuple(released.remarks),
    )


def with_base(
    model: LatentDiffusion, init: Init | None, lora: Lora, state: Mapping[str, Tensor], sha256: str
) -> dict[str, Tensor]:
    """Return a model's whole state, of what was trained alone and the weights it was trained on.

    Args:
        model: Built, its own values not yet of any meaning.
        init: Of the recipe that it was trained by; names the weights.
        lora: The same.
        state: What was trained.
        sha256: Of the weights that it was trained on.

    Raises:
        UserError: These weights are not there, or have changed.
    """
    found = start_sha256(init)
    if init is None or found != sha256:
        raise UserError(
            "this model's adapters were kept apart (lora.export: apart); the weights that they "
            f"belong to are {'not named' if init is None else f'others now: {init.path}'}",
            expected=f"the file with the hash {sha256}",
            remedy="put that file there",
        )
    start = read_start(init, model)
    assert start is not None, "its hash was taken"
    base = {f"{part}.{name}": t for part, held in start.states.items() for name, t in held.items()}
    return joined(base, state, lora)


def _read(init: Init, known: ModelFacts | None, sha256: str, vectors: list[str]) -> Released:
    assert init.path is not None, "the caller looked"
    if init.source != OWN:
        source: Source = registry.build("sources", Component(name=init.source))
        return source.read(init.path)
    file, scale = start_file(init.path), None
    if known is not None:
        _refuse_other(init.path, known, sha256, vectors)
        scale = known.latent_scale
    state = read_state_dict(file, what="a model of voxella", remedy="name an existing file")
    parts = {
        part: {n.removeprefix(f"{part}."): t for n, t in state.items() if n.startswith(f"{part}.")}
        for part in _PARTS
    }
    return Released({part: found for part, found in parts.items() if found}, latent_scale=scale)


def _licences(init: Init, known: ModelFacts | None, taken: Sequence[str]) -> dict[str, str]:
    """Return the licences of the parts that are taken, the autoencoder's as well.

    What was trained on weights is bound as they are: a model folder's licences go on.
    """
    held = {} if known is None else known.licences
    parts = [*taken, *(part for part in init.parts if part not in _PARTS)]
    found = {part: init.licence or held.get(part) or held.get("model") for part in parts}
    return {part: words for part, words in found.items() if words}


def _refuse_other(path: Path, known: ModelFacts, sha256: str, vectors: list[str]) -> None:
    """Refuse a damaged model, or one whose vectors are joined in another order than here."""
    if sha256 != known.weights_sha256:
        raise UserError(
            f"init.from: {start_file(path)} is not the file that was exported: its hash differs",
            remedy="copy the whole folder again",
        )
    if vectors[: len(known.vectors)] != known.vectors:
        raise UserError(
            f"init.from: {path} joins the vectors {listed(known.vectors)}; the recipe "
            f"{listed(vectors) or 'none'}",
            expected="the file's vectors first, in its order, new ones behind them",
            remedy="change the order of the recipe's vectors",
        )


def _grown(
    part: str, module: nn.Module, given: Mapping[str, Tensor], report: KeyReport
) -> tuple[Mapping[str, Tensor], frozenset[str]]:
    """Return the state with zeros wherever the backbone would read what is new.

    Returns:
        It, and the names of what may start at random.
    """
    if part != "backbone" or not (report.missing or report.mismatched):
        return given, frozenset(report.missing)
    grow = getattr(module, "grown", None)
    if grow is None:
        raise UserError(
            "init.missing: new: this backbone does not say how inputs are added to trained weights "
            "so that it predicts the same (a method grown)",
            expected="maisi_unet, dit3d, ldm_unet; or a file that has all of it",
            remedy="--set init.missing=refuse, and the recipe that the file was trained by",
        )
    state, free = grow(given)
    return state, frozenset(free)


def _refusal(init: Init, reports: Mapping[str, KeyReport], problems: list[str]) -> UserError:
    counts = [report.lines(f"  {part}")[0] for part, report in reports.items()]
    if not any(report.matched for report in reports.values()):
        problems = [*problems, "  nothing of it was loaded: not one tensor has its place"]
    only_missing = not any(report.unexpected or report.mismatched for report in reports.values())
    hint = (
        "if the recipe adds inputs to the network of the file: --set init.missing=new; "
        if only_missing and init.missing == "refuse"
        else "set the sizes that it was trained with; a part of it: --set 'init.parts=[backbone]'; "
    )
    return UserError(
        "\n".join([f"init.from: {init.path} does not fit the model:", *counts, *problems]),
        remedy=f"{hint}another release's names: init.source (voxella plugins lists them)",
    )
