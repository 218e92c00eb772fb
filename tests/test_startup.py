"""What starts without the heavy libraries, and that a line is printed before any other loads them.

No time is measured here: bench/startup.py does that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from shell import environment
from tiny_run import REPOSITORY

HEAVY = (
    *("torch", "monai", "deepspeed", "transformers", "torchio"),
    *("sklearn", "scipy", "pyarrow", "SimpleITK", "nibabel"),
)
LISTING = """
import sys
from voxella.cli import main
code = main(sys.argv[1:])
loaded = sorted(set({heavy!r}) & set(sys.modules))
sys.exit(f"loaded: {{loaded}}" if loaded else code)
"""
# The first import of a heavy library ends the command: what was printed before is all there is.
STOPPING = """
import sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name in {heavy!r}:
            raise SystemExit("would load " + name)
sys.meta_path.insert(0, Stop())
from voxella.cli import main
sys.exit(main(sys.argv[1:]))
"""
RECIPE = str(REPOSITORY / "recipes" / "ccella.yaml")
CLASSIFIER = str(REPOSITORY / "recipes" / "downstream" / "real.yaml")
STUDY = str(REPOSITORY / "recipes" / "studies" / "all.yaml")
SMOKE = ("--profile", "smoke")


def voxella(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script.format(heavy=HEAVY), *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("plugins",),
        ("plugins", "--json"),
        ("recipe", "validate", RECIPE, CLASSIFIER, *SMOKE),
        ("recipe", "show", RECIPE, *SMOKE),
        ("recipe", "schema"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_listing_and_validating_load_no_heavy_library(words: tuple[str, ...]) -> None:
    done = voxella(LISTING, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    "words",
    [
        ("import", "phantom"),
        *((verb, RECIPE, *SMOKE) for verb in ("prepare", "train-autoencoder", "encode")),
        *((verb, RECIPE, *SMOKE) for verb in ("check-autoencoder", "train", "sample", "evaluate")),
        ("run", RECIPE, *SMOKE),
        ("classify", CLASSIFIER, *SMOKE),
        ("study", STUDY, *SMOKE),
        ("plan", RECIPE, *SMOKE),
        ("check", "."),
        ("report", "."),
        ("export", "ccella", "."),
    ],
    ids=lambda words: words[0],
)
def test_a_command_prints_a_line_before_it_loads_any(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    out = () if words[0] == "plan" else ("--out", str(tmp_path / "out"))
    done = voxella(STOPPING, *words, *out)
    assert done.stderr.startswith(f"voxella {words[0]}: loading "), done.stderr
