"""What a page says and shows, read back from its HTML."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Elements", "strips"]


class Elements(HTMLParser):
    """Every start tag of a page with its attributes, and the text without tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def strips(page: str, pair: int) -> dict[str, tuple[dict[str, int], NDArray[np.uint8]]]:
    """The sprites of a pair by plane: their numbers and pixels."""
    found = {}
    for image in Elements(page).of("img"):
        if image.get("class") == "sprite" and image["data-pair"] == str(pair):
            data = base64.b64decode(str(image["src"]).partition(",")[2])
            pixels = np.asarray(Image.open(io.BytesIO(data)))
            keys = ("real", "width", "height", "across", "down", "count", "of")
            numbers = {key: int(str(image[f"data-{key}"])) for key in keys}
            found[str(image["data-plane"])] = (numbers, pixels)
    return found
