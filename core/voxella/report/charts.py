"""Lines over steps and curves in the unit square, as numbers that a template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Chart", "Line", "Tick", "line_chart"]

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 460.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 12.0, 12.0, 34.0
# More points than this say nothing more on so few pixels; each is the mean of its share.
_POINTS = 240
# Beyond this ratio of the largest to the smallest value the axis is logarithmic.
_LOG_RATIO = 30.0
_TICKS = 5
# Lines of so few points show where these are.
_DOTS = 24


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """One drawn line.

    Attributes:
        name: In the legend.
        points: Of an SVG polyline.
        first: Its first value.
        last: Its last value.
        lowest: Its smallest value.
        highest: Its largest value.
        dots: Places of its points, where these are few.
        mark: Place of the point that was chosen, where one was.
    """

    name: str
    points: str
    first: float
    last: float
    lowest: float
    highest: float
    dots: list[tuple[float, float]]
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """A drawing of ``WIDTH`` by ``HEIGHT``.

    Attributes:
        title: Above it.
        x_label: Below the horizontal axis.
        lines: What is drawn.
        x_ticks: Along the bottom.
        y_ticks: Along the left.
        ordered: The lines are steps of one quantity, to be coloured as such.
        diagonal: Draw the line of chance.
        curve: Its ends say nothing: they are the same for all such curves.
        note: What to know before reading it; "" for nothing.
        alert: What is wrong with what it shows; "" for nothing.
    """

    title: str
    x_label: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    ordered: bool = False
    diagonal: bool = False
    curve: bool = False
    note: str = ""
    alert: str = ""

    width, height = WIDTH, HEIGHT
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    @property
    def told(self) -> str:
        """Return the drawing in words, for those who cannot see it."""
        if self.curve:
            return f"{self.title}, over {self.x_label}: {', '.join(x.name for x in self.lines)}"
        parts = [f"{line.name} from {line.first:.3g} to {line.last:.3g}" for line in self.lines]
        return f"{self.title}: {'; '.join(parts)}"


def line_chart(
    title: str,
    series: Mapping[str, Points],
    *,
    x_label: str = "step",
    ordered: bool = False,
    log: bool = False,
    unit_square: bool = False,
    diagonal: bool = False,
    marked: Mapping[str, float] | None = None,
    note: str = "",
) -> Chart | None:
    """Return a drawing of the series that have points, or None where none has.

    Args:
        title: Above it.
        series: Points by name, rising in x.
        x_label: Below it.
        ordered: See :class:`Chart`.
        log: A logarithmic axis where the values span much.
        unit_square: Both axes from 0 to 1.
        diagonal: Draw the line of chance.
        marked: By series the x of the point that was chosen; one without such a point has no mark.
        note: See :class:`Chart`.
    """
    drawn = {name: _finite(points) for name, points in series.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return None
    xs = [x for points in drawn.values() for x, _ in points]
    thin = {name: _thinned(points) for name, points in drawn.items()}
    ys = [y for points in thin.values() for _, y in points]
    x_axis = _Axis(0.0, 1.0) if unit_square else _Axis(min(xs), max(xs))
    y_axis = _Axis(0.0, 1.0) if unit_square else _Axis.around(ys, log=log)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return _x(x_axis.share(point[0])), _y(y_axis.share(point[1]))

    chosen = marked or {}
    lines = [
        _line(name, drawn[name], [place(point) for point in points], place, chosen.get(name))
        for name, points in thin.items()
    ]
    return Chart(
        title,
        x_label,
        lines,
        [Tick(_x(x_axis.share(v)), _short(v)) for v in x_axis.ticks()],
        [Tick(_y(y_axis.share(v)), _short(v)) for v in y_axis.ticks()],
        ordered,
        diagonal,
        unit_square,
        note,
    )


@dataclass(frozen=True)
class _Axis:
    """From ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool) -> _Axis:
        low, high = min(values), max(values)
        if log and low > 0 and high / low > _LOG_RATIO:
            return cls(low, high, log=True)
        if 0 <= low < 0.5 * high:
            low = 0.0
        margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        return cls(low - margin if low else 0.0, high + margin)

    def share(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / (math.log(self.high / self.low) or 1.0)
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(powers) <= 3 else (1,)
            found = [step * 10.0**power for power in powers for step in steps]
        else:
            step = _round_step((self.high - self.low) / _TICKS)
            first = math.ceil(self.low / step - 1e-9)
            found = [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        slack = 1e-9 * abs(self.high - self.low)
        inside = [value for value in found if self.low - slack <= value <= self.high + slack]
        return inside or [self.low, self.high]


def _round_step(rough: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thinned(points: Points) -> list[tuple[float, float]]:
    """Average neighbours until few enough are left."""
    size = -(-len(points) // _POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (math.fsum(x for x, _ in part) / len(part), math.fsum(y for _, y in part) / len(part))
        for part in parts
    ]


def _line(
    name: str,
    points: Points,
    places: list[tuple[float, float]],
    place: Callable[[tuple[float, float]], tuple[float, float]],
    chosen: float | None,
) -> Line:
    values = [y for _, y in points]
    # A line of one point is drawn as a dot if it has an end.
    ends = [*places, places[0]] if len(places) == 1 else places
    mark = next((place(point) for point in points if point[0] == chosen), None)
    return Line(
        name,
        " ".join(f"{x:.1f},{y:.1f}" for x, y in ends),
        values[0],
        values[-1],
        min(values),
        max(values),
        places if len(places) <= _DOTS else [],
        mark,
    )


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _short(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 10000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"
