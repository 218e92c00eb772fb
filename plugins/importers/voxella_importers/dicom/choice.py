"""The series of a study that a rule means: exactly one volume, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from voxella_importers.dicom.scan import Series, Study
from voxella_importers.dicom.settings import SeriesRule
from voxella_importers.dicom.slice import Slice
from voxella_importers.dicom.stack import Refusal, Stack, stack

__all__ = ["Chosen", "choose", "name_series"]

_NAMED_AT_MOST = 6


@dataclass(frozen=True)
class Chosen:
    """One sequence of a study.

    Attributes:
        series: The series it comes from.
        stack: The volume.
        hole_in_numbers: InstanceNumbers have a hole or do not begin with 1: a slice may be missing
            at an end, where geometry cannot tell.
    """

    series: Series
    stack: Stack
    hole_in_numbers: bool


def choose(study: Study, sequence: str, rule: SeriesRule) -> Chosen:
    """Return the one volume of a study that a sequence's rule means.

    Raises:
        Refusal: No series or several fit; or the one that does is not one whole volume.
    """
    every = list(study.series.values())
    described = [one for one in every if sequence in one.fits]
    kinds = [(one, kind) for one in described if (kind := _kind(one, rule)) is not None]
    wrong = {id(one) for one, _ in kinds}
    fitting = [one for one in described if id(one) not in wrong]
    if not fitting:
        raise Refusal(_none_fits(every, kinds))
    volumes = [(one, one.slices) for one in fitting]
    if rule.b_value is not None:
        for one in fitting:
            # Of which b-value a damaged file is cannot be known.
            _refuse_defects(one)
        volumes = _of_b_value(volumes, rule.b_value)
    series, slices = _picked(volumes, rule)
    _refuse_defects(series)
    name = name_series(series)
    several = sorted({one.b_value for one in slices if one.b_value is not None})
    if len(several) > 1:
        expected = ", ".join(f"{value:g}" for value in several)
        raise Refusal(
            f"{name}: several b-values ({expected}); say which: rule's b_value, or highest"
        )
    try:
        volume = stack(slices)
    except Refusal as refusal:
        raise Refusal(f"{name}: {refusal}") from None
    _refuse_disordered(volume, series)
    return Chosen(series, volume, len(slices) == len(series.slices) and _hole(slices))


def name_series(series: Series) -> str:
    """Return what tells a series from the others of its study, without what could identify."""
    number = "without a number" if series.number is None else str(series.number)
    described = f", '{series.shown}'" if series.shown else ""
    plane = f"{series.plane}, " if series.plane else ""
    images = "1 image" if series.count == 1 else f"{series.count} images"
    return f"series {number} ({plane}{images}{described})"


def _kind(series: Series, rule: SeriesRule) -> str | None:
    """Return why a series whose description fits is not what the rule means, or None."""
    if series.kinds:
        return series.kinds.most_common(1)[0][0]
    if len(series.planes) > 1:
        return f"a localizer or of mixed orientation (slices in {len(series.planes)} planes)"
    if rule.plane is not None and series.plane not in (rule.plane, None):
        return f"{series.plane}, not {rule.plane}"
    return None


def _refuse_defects(series: Series) -> None:
    if series.defects:
        count = sum(series.defects.values())
        files = "a file is" if count == 1 else f"{count} files are"
        raise Refusal(f"{name_series(series)}: {files} {'; '.join(sorted(series.defects))}")


def _refuse_disordered(volume: Stack, series: Series) -> None:
    """Refuse frames that are not all of one file's, in order or reversed.

    SimpleITK reads a multi-frame file as a whole, and gives no geometry to frames that jump.
    """
    path = volume.slices[0].path
    frames = [one.frame for one in volume.slices]
    stored = [one.frame for one in series.slices if one.path == path]
    if frames[0] is not None and frames not in (stored, stored[::-1]):
        raise Refusal(
            f"{name_series(series)}: multi-frame, and its frames are not one volume in order; "
            "export it as single-frame DICOM, or convert it with dcm2niix and import it as a table"
        )


def _none_fits(every: Sequence[Series], kinds: Sequence[tuple[Series, str]]) -> str:
    """Say what there is instead, the series that the description fits before the others."""
    how = "no series fits its rule: " if kinds else "no series fits its rule by description: "
    told = [f"{name_series(one)} is {kind}" for one, kind in kinds]
    if not kinds:
        told = [
            f"{name_series(one)} is {one.kinds.most_common(1)[0][0]}"
            if one.kinds
            # What is there and of the right kind is only listed.
            else name_series(one)
            for one in every
        ]
    more = f"; and {len(told) - _NAMED_AT_MOST} more" if len(told) > _NAMED_AT_MOST else ""
    return how + "; ".join(told[:_NAMED_AT_MOST]) + more


def _of_b_value(
    volumes: Sequence[tuple[Series, list[Slice]]], wanted: float | str
) -> list[tuple[Series, list[Slice]]]:
    """Reduce series to the slices of one b-value, leaving out those that have none of it."""
    expected = sorted({s.b_value for _, slices in volumes for s in slices if s.b_value is not None})
    if not expected:
        names = ", ".join(name_series(one) for one, _ in volumes[:_NAMED_AT_MOST])
        raise Refusal(f"no b-value is recorded in {names}; give a rule without b_value")
    value = expected[-1] if isinstance(wanted, str) else wanted
    found = [(one, [s for s in slices if s.b_value == value]) for one, slices in volumes]
    found = [(one, slices) for one, slices in found if slices]
    if not found:
        there = ", ".join(f"{other:g}" for other in expected)
        raise Refusal(f"no b-value {value:g}; there are {there}")
    return found


def _picked(
    volumes: Sequence[tuple[Series, list[Slice]]], rule: SeriesRule
) -> tuple[Series, list[Slice]]:
    """Return the one series that is left, or the first or last by number."""
    if len(volumes) == 1:
        return volumes[0]
    if rule.pick == "only":
        names = ", ".join(name_series(one) for one, _ in volumes[:_NAMED_AT_MOST])
        more = ", ..." if len(volumes) > _NAMED_AT_MOST else ""
        raise Refusal(
            f"{len(volumes)} series fit its rule: {names}{more}; say which by a narrower rule, or "
            "by pick: first or last"
        )
    numbers = [one.number for one, _ in volumes]
    if None in numbers or len(set(numbers)) < len(numbers):
        raise Refusal(f"{len(volumes)} series fit its rule, and no SeriesNumber tells them apart")
    ordered = sorted(volumes, key=lambda pair: pair[0].number or 0)
    return ordered[0] if rule.pick == "first" else ordered[-1]


def _hole(slices: Sequence[Slice]) -> bool:
    numbers = sorted(one.number for one in slices if one.number is not None)
    return bool(numbers) and numbers != list(range(1, len(numbers) + 1))
