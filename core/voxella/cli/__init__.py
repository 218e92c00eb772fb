"""The command line: ``voxella VERB ...``, and ``voxella RECIPE`` for launchers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from voxella import __version__
from voxella.cli import (
    averaging,
    check,
    converting,
    exporting,
    plan,
    plugins,
    reader_study,
    recipe,
    report,
    stages,
    study,
    summarise,
    view,
)
from voxella.cli.mistakes import EXIT_MISTAKE, from_file_system, print_mistake
from voxella.cli.parser import Parser
from voxella.errors import UserError
from voxella.files import owner_only
from voxella.machine import as_mistake
from voxella.provenance import running
from voxella.ranks import Ranks
from voxella.stopping import raised

__all__ = ["main"]

_RECIPE_SUFFIXES = (".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 a mistake that the user can fix."""
    words = _normalised(sys.argv[1:] if argv is None else argv)
    arguments = _parser(words).parse()
    try:
        with running(words), owner_only(), raised():
            code: int = arguments.func(arguments)
            # A full disk may be behind the standard output, too.
            sys.stdout.flush()
    except UserError as error:
        # A reader may have taken for its file's fault what was the machine's.
        print_mistake(as_mistake(error) or error, words)
        return _leave(EXIT_MISTAKE)
    except KeyboardInterrupt as stop:
        return _leave(_print_interrupted(stop))
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is left to say, and nothing is wrong.
        _let_go_of_stdout()
        return 0
    except Exception as error:
        if isinstance(error, RuntimeError) and _lost_a_process(error):  # torch has no other
            _print_lost("lost the connection to another process")
            return _leave(1)
        if (mistake := from_file_system(error)) is None:
            raise
        print_mistake(mistake, words)
        try:
            sys.stdout.flush()
        except OSError:
            _let_go_of_stdout()  # else the interpreter tries again when it ends, and complains
        return _leave(EXIT_MISTAKE)
    return code


def _let_go_of_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _normalised(argv: Sequence[str]) -> list[str]:
    """Let launchers call: drop DeepSpeed's ``--local_rank`` and read a bare recipe as ``train``."""
    kept = [word for word in argv if not word.startswith(("--local_rank=", "--local-rank="))]
    if kept and kept[0].endswith(_RECIPE_SUFFIXES):
        kept.insert(0, "train")
    return kept


def _parser(words: Sequence[str]) -> Parser:
    parser = Parser(
        words=words,
        prog="voxella",
        description="3D latent diffusion for medical imaging, from DICOM to a table.",
        epilog="A recipe alone is trained: deepspeed --module voxella recipes/ccella.yaml",
    )
    parser.add_argument("--version", action="version", version=f"voxella {__version__}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    stages.register(subparsers)
    study.register(subparsers)
    plan.register(subparsers)
    check.register(subparsers)
    exporting.register(subparsers)
    converting.register(subparsers)
    averaging.register(subparsers)
    summarise.register(subparsers)
    recipe.register(subparsers)
    report.register(subparsers)
    view.register(subparsers)
    reader_study.register(subparsers)
    plugins.register(subparsers)
    return parser


def _print_interrupted(stop: KeyboardInterrupt) -> int:
    """Say what the work goes on from, once; return the exit code that shells give a signal."""
    number, kept = getattr(stop, "number", signal.SIGINT), getattr(stop, "kept", "")
    ranks = Ranks.from_environment()
    if number == signal.SIGTERM and ranks.world > 1 and not kept:
        # A launcher ends the surviving processes this way when one has died.
        _print_lost("was told to stop")
    elif ranks.is_main:
        goes_on = f"the same command continues{kept and f' from {kept}'}"
        print(f"voxella: interrupted; {goes_on}", file=sys.stderr, flush=True)
    return 128 + number


def _lost_a_process(error: RuntimeError) -> bool:
    """Tell gloo's and NCCL's words for a dead peer from a fault of our own."""
    words = ("Connection closed by peer", "Connection reset by peer", "ncclRemoteError")
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(w in str(error) for w in words)


def _print_lost(what: str) -> None:
    rank = os.environ.get("RANK", "0")
    print(
        f"voxella: rank {rank} {what}; if another process died, its message is above. "
        "The same command continues from the newest complete checkpoint.",
        file=sys.stderr,
        flush=True,
    )


def _leave(code: int) -> int:
    """Leave at once when other processes wait for this one, so that the launcher ends them."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        os._exit(code)
    return code
