"""The card's text, from facts alone: counts, numbers, limits and licences; no name and no id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from voxella.case import Case
from voxella.files import write_text_atomic
from voxella.ldm.model_card.head import head
from voxella.ldm.model_card.results import copies, results
from voxella.recipe.yaml_lines import parse_text, plain
from voxella.workspace.folders import model_facts_path

__all__ = ["CARD", "renew_card", "write_card"]

CARD = "README.md"
_UNKNOWN = "not stated"
Facts = Mapping[str, Any]


def renew_card(folder: Path, measured: Facts, samples: Iterable[Case]) -> Path | None:
    """Write the card of an exported model anew with its numbers; no other file changes.

    Args:
        folder: The model folder.
        measured: What ``voxella evaluate`` found of the model's images, as in ``metrics.json``.
        samples: Those images.

    Returns:
        The card; None where there is no model, or where another one has made the images.
    """
    path = model_facts_path(folder)
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    if {case.extra.get("model") for case in samples} != {facts["weights_sha256"]}:
        return None
    return write_card(folder, facts, measured)


def write_card(folder: Path, facts: Facts, measured: Facts | None = None) -> Path:
    """Write ``README.md`` of a model folder, unless it says the same already.

    Args:
        folder: Holds ``recipe.yaml``.
        facts: As in ``config.json``.
        measured: As in ``metrics.json``; None: nothing was measured yet.
    """
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    recipe: Any = plain(parse_text(text, "recipe.yaml", folder, lines=False))
    parts = [
        f"# {recipe['name']}",
        *([recipe["description"]] if recipe.get("description") else []),
        *_use(recipe),
        *_data(recipe, facts),
        *results(measured),
        *copies(measured),
        *_limits(recipe, facts),
        *_licences(recipe, facts),
        *_made(facts),
    ]
    written = head(recipe, facts, measured) + "\n" + "\n\n".join(parts) + "\n"
    path = folder / CARD
    if path.is_file() and path.read_text(encoding="utf-8") == written:
        return path
    return write_text_atomic(path, written)


def _use(recipe: Facts) -> Iterator[str]:
    dims = len(recipe["latent"]["size"])
    size = " x ".join(map(str, recipe["prepare"]["size"]))
    sequences = ", ".join(recipe["data"]["sequences"])
    read = "reports" if recipe.get("text") else "no report"
    yield (
        f"A latent diffusion model of {dims}D medical images, {size} voxels, sequences: "
        f"{sequences}. It reads {read}; its images are synthetic."
    )
    yield "## How to load"
    asked = 'report="Write the report here.", ' if recipe.get("text") else ""
    yield (
        "```python\nfrom voxella import Generator\n"
        'generator = Generator.open("FOLDER")  # this folder\n'
        f"(image,) = generator.generate({asked}seed=0)\n"
        'image.save("out")\n```'
    )
    yield "or, without Python: `voxella sample --model FOLDER --out OUT`."
    if needed := list(_needed(recipe)):
        yield "Not in this folder, and needed:\n\n" + "\n".join(needed)


def _needed(recipe: Facts) -> Iterator[str]:
    """Yield a line for each file that lies elsewhere, with the setting that names it."""
    autoencoder, text = recipe["autoencoder"], recipe.get("text")
    if recipe.get("autoencoder_training") is None and autoencoder.get("weights"):
        yield (
            f"- the weights of the autoencoder `{autoencoder['name']}` "
            f"(`{Path(autoencoder['weights']).name}`): `autoencoder.weights=PATH`"
        )
    if text and text["encoder"].get("path"):
        yield (
            f"- the text encoder `{text['encoder']['name']}` "
            f"(`{Path(text['encoder']['path']).name}`): `text.encoder.path=PATH`"
        )


def _data(recipe: Facts, facts: Facts) -> Iterator[str]:
    yield "## Data"
    importer = (recipe["data"].get("importer") or {}).get("name", "")
    if importer.startswith("phantom"):
        yield "Procedural phantoms, no patients: the model knows nothing of real images."
    counts = facts.get("data") or {}
    if not counts:
        yield "Counts of the training data are not known to this folder."
        return
    rows = ["| split | cases | patients | with a text | by label |", "|---|---|---|---|---|"]
    for split, found in counts.items():
        labels = ", ".join(f"{label}: {number}" for label, number in found["labels"].items())
        numbers = (found["cases"], found["patients"], found["with_text"])
        rows.append(f"| {split} | {' | '.join(map(str, numbers))} | {labels} |")
    yield "\n".join(rows)


def _limits(recipe: Facts, facts: Facts) -> Iterator[str]:
    yield "## Limits"
    lines = [
        "- Not for clinical use: no diagnosis, no treatment, no teaching of rare findings.",
        f"- Classes: {', '.join(facts['classes'])}. Others were never seen.",
        f"- Sequences: {', '.join(recipe['data']['sequences'])}.",
        f"- Voxel edges of the training cases: {_spacing(facts)}.",
        "- Biases of the training data are the model's; small groups are made badly or not at all.",
        "- What a model has learnt by heart can come out again: see copies of training cases.",
    ]
    for name, told in (facts.get("conditions") or {}).items():
        block = told.get("block", told)
        known = block.get("values") or block.get("range")
        if known:
            lines.append(f"- Condition {name}: {', '.join(map(str, known))}.")
    yield "\n".join(lines)


def _spacing(facts: Facts) -> str:
    found = facts.get("spacing_mm")
    if not found:
        return "not known"
    edges = zip(found["min"], found["max"], strict=True)
    return ", ".join(f"{low:g} to {high:g}" for low, high in edges) + " mm"


def _licences(recipe: Facts, facts: Facts) -> Iterator[str]:
    """Yield the licence of every part that was not made here, and of the model itself."""
    known = dict(facts.get("licences") or {})
    parts = {"model": "this model's weights"}
    if recipe.get("autoencoder_training") is None:
        parts["autoencoder"] = f"the frozen autoencoder `{recipe['autoencoder']['name']}`"
    if text := recipe.get("text"):
        parts["text_encoder"] = f"the frozen text encoder `{text['encoder']['name']}`"
    lines = [f"- {words}: {known.pop(part, _UNKNOWN)}" for part, words in parts.items()]
    lines += [f"- {part}: {licence}" for part, licence in known.items()]
    yield "## Licences"
    yield "\n".join(lines)
    yield (
        f"Where it says {_UNKNOWN}, ask whoever gave you that part; the images that the training "
        "data came from may bind as well."
    )


def _made(facts: Facts) -> Iterator[str]:
    text = facts.get("text")
    lines = [
        f"- steps: {facts['step']}{', moving average of the weights' if facts['averaged'] else ''}",
        f"- weights: sha256 `{facts['weights_sha256']}`",
        f"- autoencoder: fingerprint `{facts['autoencoder_fingerprint']}`",
    ]
    if text:
        lines.append(f"- text features: width {text['width']}, encoder `{text['encoder']}`")
    lines.append("- " + ", ".join(f"{name} {number}" for name, number in facts["versions"].items()))
    yield "## Made with"
    yield "\n".join(lines)
