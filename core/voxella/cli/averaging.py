"""``voxella ema``: a run's model with its weights averaged over another length."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading

__all__ = ["register"]


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``ema`` to the command line."""
    about = "write a run's model with its weights averaged over another length, from snapshots"
    parser = subparsers.add_parser("ema", help=about, description=about)
    parser.add_argument("run", help="a run folder, trained with train.snapshots")
    parser.add_argument(
        "--sigma-rel",
        type=float,
        required=True,
        metavar="WIDTH",
        help="standard deviation of the average's profile, as a share of the training: 0.05 to "
        "0.25 in use",
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="taken after this step; the newest snapshot's if left"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the model folder to write")
    parser.set_defaults(func=_average)


def _average(arguments: argparse.Namespace) -> int:
    print_loading("ema")
    from voxella.ldm.snapshots.store import write_model
    from voxella.progress import print_line
    from voxella.workspace.lock import holding

    out = Path(arguments.out).absolute()
    with holding(out):
        write_model(Path(arguments.run).absolute(), arguments.sigma_rel, out, arguments.step)
    print_line(f"written: {out}; voxella sample RECIPE --out RUN --model {out}")
    return 0
