"""``voxella view``: a model, a run, a data set or a study in the browser."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading

__all__ = ["add_serving_options", "register", "serving_of"]


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``view`` to the command line."""
    about = "show a model, a run, a data set or a study in the browser"
    parser = subparsers.add_parser("view", help=about, description=about)
    parser.add_argument(
        "folder", metavar="RUN|MODEL|DATASET|STUDY", help="what to show; the model in it is asked"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        default="view-saved",
        help="where Save writes, and nothing else does; default view-saved",
    )
    parser.add_argument(
        "--show-reports",
        action="store_true",
        help="show the report texts of the data set; never done otherwise",
    )
    parser.add_argument("--examples", metavar="FILE", help="prompts to begin with, as JSON lines")
    parser.add_argument(
        "--autoencoder", metavar="FOLDER", help="of a model that was exported without its own"
    )
    parser.add_argument("--device", default="auto", help="as torch names it; default auto")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="over the model's recipe"
    )
    add_serving_options(parser)
    parser.set_defaults(func=_view)


def add_serving_options(parser: argparse.ArgumentParser) -> None:
    """Add where a page is served."""
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: any free one")
    parser.add_argument(
        "--host", default="127.0.0.1", help="another address than this machine's own: needs both:"
    )
    parser.add_argument("--certificate", metavar="FILE", help="of the server, PEM")
    parser.add_argument("--key", metavar="FILE", help="of the certificate, PEM")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")


def serving_of(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - ServeSettings, imported late
    """Return the :class:`voxella.view.server.ServeSettings` of the options.

    Raises:
        UserError: The extra is not installed.
    """
    from voxella.errors import UserError

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)}: not installed, and the browser's pages need it",
            remedy="pip install 'voxella[view]'",
        )
    from voxella.view.server import ServeSettings

    certificate, key = (
        None if path is None else Path(path).absolute()
        for path in (arguments.certificate, arguments.key)
    )
    return ServeSettings(
        arguments.host, arguments.port, certificate, key, browser=not arguments.no_browser
    )


def _view(arguments: argparse.Namespace) -> int:
    print_loading("view")
    serving = serving_of(arguments)
    from voxella.view.open import ViewSettings, view

    settings = ViewSettings(
        out=Path(arguments.out).absolute(),
        show_reports=arguments.show_reports,
        examples=None if arguments.examples is None else Path(arguments.examples),
        autoencoder=None if arguments.autoencoder is None else Path(arguments.autoencoder),
        device=arguments.device,
        overrides=arguments.set,
    )
    view(Path(arguments.folder), settings, serving)
    return 0
