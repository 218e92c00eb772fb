"""The card's YAML head, in the words of the Hugging Face hub's model card metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxella.ldm.model_card.results import shown_numbers
from voxella.recipe.yaml_lines import dump_yaml

__all__ = ["head"]


def head(
    blocks: Mapping[str, Any], facts: Mapping[str, Any], measured: Mapping[str, Any] | None
) -> str:
    """Return the head between its two lines of dashes.

    No data set is named: whose images they were is not for a card. A task is named for images of
    two axes alone; the hub has none for volumes.

    Args:
        blocks: Of the recipe, as in ``recipe.yaml``.
        facts: As in ``config.json``.
        measured: As in ``metrics.json``, or None.
    """
    flat = len(blocks["latent"]["size"]) == 2
    task = "text-to-image" if blocks.get("text") else "unconditional-image-generation"
    own = (facts.get("licences") or {}).get("model")
    found: dict[str, Any] = {"library_name": "voxella"}
    # The hub's words; a licence in a sentence of its own goes by "other".
    found |= {"license": "unknown"} if own is None else {"license": "other", "license_name": own}
    if flat:
        found["pipeline_tag"] = task
    found["tags"] = [
        *("medical-imaging", "synthetic-data", "latent-diffusion", "2d" if flat else "3d"),
        *blocks["data"]["sequences"],
        *(["text-conditioned"] if blocks.get("text") else []),
    ]
    if measured is not None and (metrics := _metrics(measured)):
        dataset = {
            "name": f"real cases of split {measured['split']}",
            "type": "private",
            "split": measured["split"],
        }
        result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
        found["model-index"] = [{"name": blocks["name"], "results": [result]}]
    return f"---\n{dump_yaml(found)}---\n"


def _metrics(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the numbers that have a value, with interval, N and baseline as their arguments."""
    return [
        {
            "type": number.key,
            "name": number.label,
            "value": entry["value"],
            "args": {
                "low": entry["low"],
                "high": entry["high"],
                "n": entry["n"],
                "split": entry["split"],
                "real_vs_real": (entry.get("floor") or {}).get("value"),
            },
        }
        for number, entry in shown_numbers(measured)
    ]
