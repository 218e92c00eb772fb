"""Section "Reproduce": commands, versions, hashes, and the recipe without its folders."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, NotRequired

from typing_extensions import TypedDict

from voxella.hashing import sha256_file
from voxella.provenance import versions
from voxella.recipe.yaml_lines import dump_yaml
from voxella.report.numbers import shown
from voxella.report.run_folder import RunFolder
from voxella.report.section import Section, command_shown, without_folders
from voxella.workspace.folders import model_facts_path
from voxella.workspace.state import StateFile

__all__ = ["Reproduction", "reproduce_section"]

_SHOWN = 16


class _Model(TypedDict):
    weights_sha256: NotRequired[str]
    autoencoder_fingerprint: str
    text: dict[str, Any] | None


_MODEL: StateFile[dict[str, Any]] = StateFile(
    _Model, "rm {path}, then voxella train RECIPE with the same --out: it exports the model again"
)


@dataclass(frozen=True)
class Reproduction:
    """The section's data.

    Attributes:
        commands: In order, to be pasted.
        called: Each command as it was given, its paths shortened, with the stages that it did.
        stages: Name, seconds, counted facts, inputs' hash.
        hashes: Name and hash of what decides the result.
        differing: Packages that not all stages ran with, with their versions.
        recipe: As YAML; of paths only the last part, without the paper's row.
    """

    commands: list[str]
    called: list[tuple[str, str]]
    stages: list[tuple[str, str, str, str]]
    hashes: list[tuple[str, str]]
    differing: list[str]
    recipe: str


def reproduce_section(run: RunFolder) -> Section:
    """Return the section."""
    found: dict[str, set[str]] = {}
    for record in run.records.values():
        for package, version in record.get("versions", {}).items():
            found.setdefault(package, set()).add(str(version))
    used = {p: sorted(v)[-1] for p, v in found.items()} or versions()
    # The paper's numbers decide nothing, and stand only where they can be compared.
    recipe = run.recipe.model_dump(mode="json", exclude={"paper"})
    data = Reproduction(
        _commands(run, used),
        _called(run),
        [_stage(name, record) for name, record in run.records.items()],
        _hashes(run),
        [f"{p} {', '.join(sorted(v))}" for p, v in found.items() if len(v) > 1],
        dump_yaml(without_folders(recipe)),
    )
    return Section("reproduce", "Reproduce", "reproduce.html", data)


def _commands(run: RunFolder, used: dict[str, str]) -> list[str]:
    pins = " ".join(f"{p}=={v.partition('+')[0]}" for p, v in used.items() if p != "python")
    lines = [f"# Python {used.get('python', '')}", f"pip install {pins}"]
    only_classifies = run.kept.parent != run.folders.run
    if not only_classifies:
        lines.append(run.command("run"))
    for path in sorted(run.folders.run.glob("classify/*/recipe.yaml")):
        kept = f"{run.name}/{path.relative_to(run.folders.run).as_posix()}"
        lines.append(f"voxella classify {shlex.quote(kept)} --out {shlex.quote(run.name)}")
    return [*lines, f"voxella report {shlex.quote(run.name)}"]


def _called(run: RunFolder) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for name, record in run.records.items():
        if record.get("command"):
            found.setdefault(command_shown(str(record["command"])), []).append(name)
    return [(command, ", ".join(stages)) for command, stages in found.items()]


def _stage(name: str, record: dict[str, Any]) -> tuple[str, str, str, str]:
    facts = record.get("facts", {})
    counted = [
        f"{key.replace('_', ' ')} {shown(value)}"
        for key, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    seconds = float(record.get("seconds") or 0.0)
    return name, _clock(seconds), ", ".join(counted), str(record.get("inputs_sha256", ""))[:_SHOWN]


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _hashes(run: RunFolder) -> list[tuple[str, str]]:
    model = _MODEL.read(model_facts_path(run.folders.model)) or {}
    prepared = (run.records.get("prepare") or {}).get("inputs", {})
    found = {
        "recipe.yaml": sha256_file(run.kept),
        "real cases": prepared.get("cases_sha256"),
        "autoencoder": model.get("autoencoder_fingerprint"),
        "text encoder": (model.get("text") or {}).get("encoder"),
        "model weights": model.get("weights_sha256"),
    }
    return [(name, str(value)) for name, value in found.items() if value]
