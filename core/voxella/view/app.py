"""The application: sections with their pages and routes, and a fixed list of static files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from voxella.view.access import Access, Door
from voxella.view.answers import HANDLERS, refusal

__all__ = ["Section", "make_app"]

_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
_SENTENCES = {404: "There is nothing at this address.", 405: "This address is not asked that way."}


@dataclass(frozen=True)
class Section:
    """One entry of the navigation: a page, and what its script asks for.

    Attributes:
        name: Of its address, ``/NAME``.
        title: In the navigation.
        page: Template in ``voxella/view/pages``, which extends ``page.html``; it receives
            ``values`` too.
        script: A static file, loaded as a module.
        routes: Below ``/api/NAME/``. Plain functions run in threads; a slow one stops nobody.
        values: For the template.
    """

    name: str
    title: str
    page: str
    script: str
    routes: Sequence[Route] = ()
    values: dict[str, Any] = field(default_factory=dict)


def make_app(sections: Sequence[Section], access: Access, *, shown: str = "") -> Door:
    """Return the application.

    Args:
        sections: In the order of the navigation; the first is the front page.
        access: Who may ask.
        shown: Name of what is looked at, in every title.
    """
    pages = Environment(
        loader=PackageLoader("voxella.view", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def page(section: Section) -> Route:
        template = pages.get_template(section.page)

        def show(_: Request) -> Response:
            html = template.render(sections=sections, here=section, shown=shown, **section.values)
            return Response(html, media_type="text/html")

        return Route(f"/{section.name}", show)

    def first(_: Request) -> Response:
        return RedirectResponse(f"/{sections[0].name}", status_code=303)

    static = _static_files()

    def file(request: Request) -> Response:
        # A look in a table: no path of a request ever becomes one of the disk.
        found = static.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type=found[1])

    routes = [Route("/", first), Route("/static/{name}", file)]
    for section in sections:
        routes += [page(section), *section.routes]
    handlers = {**HANDLERS, HTTPException: _on_http, Exception: _on_fault}
    # The door is outside of everything, so that its headers come with what goes wrong, too.
    return Door(Starlette(routes=routes, exception_handlers=handlers), access)


def _static_files() -> dict[str, tuple[bytes, str]]:
    return {
        path.name: (path.read_bytes(), _TYPES["." + path.name.rpartition(".")[2]])
        for path in files("voxella.view").joinpath("static").iterdir()
        if "." + path.name.rpartition(".")[2] in _TYPES
    }


def _on_http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refusal(status, _SENTENCES.get(status, "This request cannot be answered."))


def _on_fault(_: Request, error: Exception) -> Response:
    # Its message may quote what was typed.
    return refusal(500, f"This is a fault of voxella's ({type(error).__name__}); the page goes on.")
