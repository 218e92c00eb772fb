"""The one fixture that areas share: phantom data, prepared and encoded at smoke size."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Tiny tensors gain nothing from threads, and some tests start two processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# An encoder is a local folder or it is an error.
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell's background job ignores Ctrl-C, under nohup the end of the terminal as well, and so
# would all that the tests start and end.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests, so that no worker ends with one alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def smoke_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that runs of every recipe share, complete up to the caches."""
    from tiny_run import REPOSITORY

    from voxella.pipeline.run import run_stages
    from voxella.recipe.load import load_recipe

    folder = tmp_path_factory.mktemp("smoke")
    recipe = load_recipe(
        str(REPOSITORY / "recipes" / "ccella.yaml"), ["smoke"], [f"workspace={folder}"]
    )
    run_stages(recipe, folder / "run", until="encode", workers=1)
    return folder
