"""The checks of reports and labels, with the recipe's encoder where one can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from voxella.cache.cut_texts import CUT_TEXTS
from voxella.case import Manifest
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.check.reports.texts import check_texts
from voxella.check.settings import CheckSettings
from voxella.data.reports import read_reports
from voxella.errors import UserError
from voxella.files import remove
from voxella.plugins.contracts import TextEncoder
from voxella.progress import print_line
from voxella.recipe.model import Recipe, Text

__all__ = ["text_findings", "untrainable"]

_LENGTH = "reports against the encoder's token limit"


def text_findings(
    manifest: Manifest,
    settings: CheckSettings,
    text: Text | None,
    folder: Path,
    *,
    given: bool,
    quiet: bool = False,
) -> tuple[list[Finding], list[str]]:
    """Check reports and labels.

    Args:
        manifest: The data set.
        settings: Names the classes.
        text: Names the text encoder and its limit; None: tokens are not counted.
        folder: Where reports that are cut are listed.
        given: Whether a recipe says that; without one nothing is known of reports.
        quiet: Show no progress.

    Returns:
        The findings, and a line for what was not checked and why.
    """
    remove(folder / CUT_TEXTS)
    why = "the recipe reads no reports" if given else "no recipe was given (--recipe)"
    findings, without = _of_texts(manifest, settings, text, folder, why, quiet=quiet)
    if given and text is None and any(_unreadable(finding) for finding in findings):
        without = [*without, "whether reports can be read: the recipe reads none"]
        findings = [finding for finding in findings if not _unreadable(finding)]
    return findings, without


def _of_texts(
    manifest: Manifest,
    settings: CheckSettings,
    text: Text | None,
    folder: Path,
    why: str,
    *,
    quiet: bool,
) -> tuple[list[Finding], list[str]]:
    """Check every text; ``why`` says why tokens are not counted where there is no ``text``."""
    without = [f"{_LENGTH}: {why}"]
    if not any(case.texts for case in manifest):
        without = []
    elif text is not None:
        try:
            return _checked(manifest, settings, text, _encoder(text, quiet), folder), []
        except UserError as error:
            without = [f"{_LENGTH}: {error.problem.splitlines()[0]}"]
    return _checked(manifest, settings, text), without


def _unreadable(finding: Finding) -> bool:
    # What a recipe without text never reads stops nothing.
    return finding.severity == "error" and finding.code.startswith("report.")


def untrainable(manifest: Manifest, recipe: Recipe) -> Iterator[Finding]:
    """Name what a training of the recipe would refuse of all cases together, as it would."""
    # It imports torch.
    from voxella.check.conditions import check_training_conditions, condition_findings
    from voxella.check.training import (
        check_model,
        check_training_labels,
        check_training_reports,
        check_training_spacing,
    )
    from voxella.ldm.conditions import refuse_values

    name, conditions = recipe.name, recipe.conditions

    def reports() -> None:
        check_training_reports(recipe.text, manifest, texts, name=name, quiet=True)

    def labels() -> None:
        check_training_labels(recipe.loss, manifest, needs, name=name, quiet=True)

    def spacing() -> None:
        check_training_spacing(recipe.vectors, recipe.data.sequences[0], manifest, name=name)

    def values() -> None:
        check_training_conditions(conditions, manifest, name=name, quiet=True)

    with suppress(UserError):  # unreadable reports, a wrong recipe: told elsewhere
        texts = read_reports(manifest)
        if told := _refused(reports):
            yield text_finding("report.untrainable", told)
    with suppress(UserError):
        needs = check_model(recipe)
        if told := _refused(labels):
            yield text_finding("label.untrainable", told)
    if told := _refused(spacing):
        yield text_finding("condition.spacing", told)
    yield from condition_findings(conditions, manifest)
    with suppress(UserError):
        refuse_values(conditions, manifest)  # case by case above
        if told := _refused(values):
            yield text_finding("condition.untrainable", told)


def _refused(ask: Callable[[], None]) -> str | None:
    try:
        ask()
    except UserError as error:
        return error.problem
    return None


def _encoder(text: Text, quiet: bool) -> TextEncoder:
    # It imports torch and, with some plugins, reads gigabytes.
    from voxella.cache.text_encoder import build_text_encoder

    print_line(f"check: loading the text encoder {text.encoder.name} to count tokens", quiet=quiet)
    return build_text_encoder(text, tokens_only=True)


def _checked(
    manifest: Manifest,
    settings: CheckSettings,
    text: Text | None = None,
    encoder: TextEncoder | None = None,
    folder: Path | None = None,
) -> list[Finding]:
    return check_texts(
        manifest.folder,
        manifest.cases,
        classes=settings.classes,
        positive=settings.positive,
        encoder=encoder,
        max_tokens=None if text is None else text.max_tokens,
        truncation="right" if text is None else text.truncation,
        replace_markers=text is not None and text.replace_markers,
        folder=folder,
    )
