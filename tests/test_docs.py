"""The documentation hangs together: every page is in its place, and every reference leads to one.

`make docs` builds the site and checks the links and anchors between pages; these tests check what
lies outside of it, and need no package of the extra ``docs``.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from tiny_run import REPOSITORY

DOCS = REPOSITORY / "docs"
KINDS = {"tutorial", "how-to", "reference", "explanation"}
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")


def pages() -> set[str]:
    return {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def named(entry: Any) -> Iterator[str]:
    """Yield every page below an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for below in entry.values():
            yield from named(below)
    else:
        for below in entry:
            yield from named(below)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in titles)
    return {title.replace(" ", "-") for title in plain}


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(src_uri: str) -> SimpleNamespace:
    return SimpleNamespace(file=SimpleNamespace(src_uri=src_uri))


def test_every_page_is_of_one_kind_and_in_the_navigation() -> None:
    found = pages()
    assert {name.split("/")[0] for name in found} == {*KINDS, "index.md"}
    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    listed = list(named(nav))
    assert len(listed) == len(set(listed))
    assert set(listed) == found


def test_the_build_counts_its_warnings() -> None:
    """MkDocs ends a strict build by the warnings that it logs; --quiet logs none."""
    commands = subprocess.run(
        ["make", "--dry-run", "--always-make", "docs"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (build,) = [line for line in commands.splitlines() if "mkdocs build" in line]
    assert "--strict" in build
    assert "--quiet" not in build
    assert "-q" not in build.split()
    config = (REPOSITORY / "mkdocs.yml").read_text()
    for kind in ("omitted_files", "not_found", "unrecognized_links", "anchors"):
        assert re.search(rf"\b{kind}: warn\b", config)


@pytest.mark.parametrize("name", OUTSIDE)
def test_links_of_pages_outside_the_site_lead_somewhere(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#([^)\s]+))?\)", text):
        path = REPOSITORY / (target or name)
        assert path.exists(), target
        assert not anchor or anchor[1:] in anchors(path), f"{target}{anchor}"


def test_what_messages_and_comments_call_a_page_is_one() -> None:
    """Messages send users to pages by path; a page that moves takes them along."""
    files = subprocess.run(
        ["git", "ls-files", "core", "plugins", "recipes", "tests", "bench", "examples", "Makefile"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    lost: dict[str, list[str]] = {}
    seen = 0
    for file in files:
        path = REPOSITORY / file
        if path.suffix not in {".py", ".yaml", ".json", ".md", ".toml", ""} or not path.is_file():
            continue
        for found in re.findall(r"(?<![\w/])docs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
            seen += 1
            if not (REPOSITORY / found).is_file():
                lost.setdefault(file, []).append(found)
    assert seen > 10
    assert lost == {}


def test_links_that_leave_the_site_become_paths_that_exist(
    caplog: pytest.LogCaptureFixture,
) -> None:
    links = hook("repository_links")
    here = page("how-to/made-up.md")
    rewritten = links.on_page_markdown(
        "[ccella](../../recipes/ccella.yaml), [pages](training.md#precision), "
        "![picture](../images/phantom.png), [caches](../explanation/caches.md)",
        here,
    )
    assert rewritten == (
        "ccella (`recipes/ccella.yaml`), [pages](training.md#precision), "
        "![picture](../images/phantom.png), [caches](../explanation/caches.md)"
    )
    assert caplog.records == []
    with caplog.at_level(logging.WARNING):
        links.on_page_markdown("[gone](../../recipes/gone.yaml)", here)
    assert "../../recipes/gone.yaml" in caplog.text


def test_a_page_that_loads_from_a_network_is_named(caplog: pytest.LogCaptureFixture) -> None:
    offline = hook("offline_pages")
    fine = '<a href="https://arxiv.org">paper</a><script src="assets/x.js"></script>'
    with caplog.at_level(logging.WARNING):
        assert offline.on_post_page(fine, page("a.md")) == fine
        assert caplog.records == []
        for wrong in (
            '<script src="https://unpkg.com/x"></script>',
            '<link rel="stylesheet" href="//fonts.example/css">',
            '<img alt="" src="http://example.org/p.png">',
        ):
            offline.on_post_page(wrong, page("a.md"))
    assert len(caplog.records) == 3


def test_the_reference_of_recipes_has_every_key_of_the_schema() -> None:
    keys = hook("recipe_keys")
    text = keys.on_page_markdown(keys.MARK, page("reference/recipe.md"))
    assert "| `train_batch_size` |" not in text  # DeepSpeed's own words are not ours to list
    for key in ("crop_mm", "class_weight", "ema_decay", "fid_singular", "spectral_weight"):
        assert f"| `{key}` |" in text
    assert "| `lr` | number, above 0" in text
    assert keys.MARK in (DOCS / "reference" / "recipe.md").read_text()


def test_the_reference_of_the_command_line_has_every_verb() -> None:
    commands = hook("command_line")
    text = commands.on_page_markdown(commands.MARK, page("reference/command-line.md"))
    for verb in ("import", "check", "run", "train", "sample", "evaluate", "plugins check"):
        assert f"\n## voxella {verb}" in text
    assert "| `--quarantine` | leave out cases that cannot be prepared |" in text
    assert commands.MARK in (DOCS / "reference" / "command-line.md").read_text()


def test_the_reference_of_metrics_has_every_declared_number() -> None:
    numbers = hook("metric_numbers")
    text = numbers.on_page_markdown(numbers.MARK, page("reference/evaluation.md"))
    assert "| `fid_3d` | FID, 3D features | lower |" in text
    assert len(text.splitlines()) - 2 == len(numbers.declared_numbers())
    assert numbers.MARK in (DOCS / "reference" / "evaluation.md").read_text()
