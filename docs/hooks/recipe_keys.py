"""The reference of recipe keys, out of the recipe's JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

SCHEMA = Path(__file__).parents[2] / "recipes" / "schema.json"
MARK = "<!-- every key -->"
Node = Mapping[str, Any]


class _File(Protocol):
    src_uri: str


class _Page(Protocol):
    file: _File


def on_page_markdown(markdown: str, page: _Page, **_: object) -> str:
    """Put every block with its keys where the page has its mark."""
    if MARK not in markdown:
        return markdown
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return markdown.replace(MARK, "\n".join(_blocks(schema)))


def _blocks(schema: Node) -> Iterator[str]:
    blocks = schema["$defs"]
    yield "\n## The recipe itself\n"
    yield from _keys(schema["properties"], blocks)
    for name, block in blocks.items():
        if "properties" in block:
            yield f"\n## {name} {{ #{name.lower()} }}\n"
            yield " ".join(block.get("description", "").split()).replace("<", "&lt;") + "\n"
            yield from _keys(block["properties"], blocks)


def _keys(properties: Node, blocks: Node) -> Iterator[str]:
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for key, node in properties.items():
        meaning = " ".join(node.get("description", "").split())
        yield f"| `{key}` | {_kind(node, blocks)} | {_default(node)} | {_cell(meaning)} |"


def _default(node: Node) -> str:
    """Return a default; one that is a whole block is in that block's table."""
    value = node.get("default")
    block = isinstance(value, dict) and bool(value)
    return f"`{json.dumps(value)}`" if "default" in node and not block else ""


def _kind(node: Node, blocks: Node) -> str:
    """Say what a value may be: a type with its range, or a link to its block."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if "properties" in blocks.get(name, {}):
            return f"[{name}](#{name.lower()})"
        return "a recipe" if name == "#" else f"a plugin of the kind `{name}`"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(choice, blocks) for choice in node["anyOf"]))
    if "enum" in node:
        return ", ".join(f"`{json.dumps(value)}`" for value in node["enum"])
    if "const" in node:
        return f"`{json.dumps(node['const'])}`"
    if node.get("type") == "array":
        item = _kind(node["items"], blocks) if isinstance(node.get("items"), dict) else "values"
        return f"list of {item}"
    return str(node.get("type", "any")) + _range(node)


def _range(node: Node) -> str:
    words = {
        "minimum": "from {}", "exclusiveMinimum": "above {}",
        "maximum": "to {}", "exclusiveMaximum": "below {}",
    }  # fmt: skip
    told = [text.format(f"{node[key]:,}") for key, text in words.items() if key in node]
    return f", {' '.join(told)}" if told else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
