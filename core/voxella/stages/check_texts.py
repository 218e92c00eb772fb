"""The checks of reports and labels, with the recipe's encoder where one can be had."""

from __future__ import annotations

from voxella.case import Manifest
from voxella.check.finding import Finding
from voxella.check.settings import CheckSettings
from voxella.check.texts import check_texts
from voxella.errors import UserError
from voxella.plugins.contracts import TextEncoder
from voxella.progress import say
from voxella.recipe.model import Recipe, Text

__all__ = ["text_findings"]

_LENGTH = "reports against the encoder's token limit"


def text_findings(
    manifest: Manifest, settings: CheckSettings, recipe: Recipe | None, *, quiet: bool = False
) -> tuple[list[Finding], list[str]]:
    """Check reports and labels.

    Args:
        manifest: The data set.
        settings: Names the classes.
        recipe: Names the text encoder and its limit; None: tokens are not counted.
        quiet: Show no progress.

    Returns:
        The findings, and a line for what was not checked and why.
    """
    text = None if recipe is None else recipe.text
    without = [f"{_LENGTH}: no recipe was given (--recipe)"]
    if recipe is not None:
        without = [f"{_LENGTH}: the recipe reads no reports"]
    if not any(case.report is not None for case in manifest):
        without = []
    elif text is not None:
        try:
            return _checked(manifest, settings, text, _encoder(text, quiet)), []
        except UserError as error:
            without = [f"{_LENGTH}: {error.problem.splitlines()[0]}"]
    return _checked(manifest, settings, text), without


def _encoder(text: Text, quiet: bool) -> TextEncoder:
    # It imports torch and, with some plugins, reads gigabytes.
    from voxella.stages.text_encoder import build_text_encoder

    say(f"check: loading the text encoder {text.encoder.name} to count tokens", quiet=quiet)
    return build_text_encoder(text, tokens_only=True)


def _checked(
    manifest: Manifest,
    settings: CheckSettings,
    text: Text | None = None,
    encoder: TextEncoder | None = None,
) -> list[Finding]:
    return check_texts(
        manifest.folder,
        manifest.cases,
        classes=settings.classes,
        encoder=encoder,
        max_tokens=None if text is None else text.max_tokens,
        truncation="right" if text is None else text.truncation,
        replace_markers=text is not None and text.replace_markers,
    )
