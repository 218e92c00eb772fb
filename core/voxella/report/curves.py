"""Section "Training": the losses of the log, step by step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from voxella.engine.log import LOSSES
from voxella.ldm.learning import BEATS_ZERO, OVER_ZERO, VALIDATED_OVER_ZERO
from voxella.report.charts import Chart, line_chart
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section

__all__ = ["Points", "curves_section", "read_log"]

_NOISE = ("least noise", "2nd quarter", "3rd quarter", "most noise")
_QUARTILES = {f"loss/timestep_quartile_{k}": name for k, name in enumerate(_NOISE, start=1)}
_OVER_ZERO = {OVER_ZERO.format(number=k): name for k, name in enumerate(_NOISE, start=1)}
_VALIDATED_OVER_ZERO = {
    VALIDATED_OVER_ZERO.format(number=k): name for k, name in enumerate(_NOISE, start=1)
}
_TRAINED, _VALIDATED = "loss/reconstruction", "validation/reconstruction"
# title -> scalar of the log -> name in the legend
_CHARTS: dict[str, dict[str, str]] = {
    "Training loss": {
        "loss/total": "total",
        _TRAINED: "reconstruction",
        "loss/class": "class",
    },
    "Reconstruction loss by noise level": _QUARTILES,
    "Loss over that of predicting zero, by noise level": _OVER_ZERO,
    "Class head, accuracy in training": {"class_head/accuracy": "accuracy"},
    "Learning rate": {"lr": "learning rate"},
    "Gradient norm before clipping": {"grad_norm": "gradient norm"},
    "Cases a second": {"cases_per_second": "cases a second"},
}
_LOGARITHMIC = {
    *("Training loss", "Reconstruction loss by noise level", "Gradient norm before clipping"),
}
_NOT_THE_SAME = (
    "Validation: {whose} on the cases of the split val, always at the same noise, all conditions "
    "kept. Training: the batches as they came. The two may lie apart; what matters is whether "
    "validation still falls, or rises again."
)
_ONE_IS_NOTHING = (
    "Loss over that of predicting zero: 1 is a network that has learnt nothing, at the same noise."
)
_BY_NOISE = (
    "Held-out cases, always at the same noise. One mean over all noise levels hides which of them "
    "still improve: small structures are learnt where there is less noise. At the line, 1, is a "
    "network that predicts zero."
)
_NOT_LEARNING = (
    "The model is not learning: at step {step:.0f} its loss was still not below that of a network "
    "that predicts zero, at any noise level."
)

Points = list[tuple[float, float]]


def curves_section(run: RunFolder) -> Section:
    """Return the section."""
    head = ("training", "Training", "curves.html")
    scalars = read_log(run.folders.run / "train" / "log.jsonl")
    if not scalars:
        return Section(*head, absent=Absent("Nothing was trained yet.", run.command("train")))
    averaged = run.recipe.train.ema_decay is not None
    validation = _validation(scalars, averaged=averaged)
    found = (validation, _validation_by_noise(scalars), *_charts(scalars))
    charts = [chart for chart in found if chart is not None]
    return Section(*head, data=charts)


def read_log(path: Path) -> dict[str, Points]:
    """Return a log's scalars as points over the step; empty without a log."""
    found: dict[str, Points] = defaultdict(list)
    for scalars in LOSSES.read(path):
        step = float(scalars.pop("step"))
        for name, value in scalars.items():
            found[name].append((step, float(value)))
    return found


def _validation(scalars: dict[str, Points], *, averaged: bool) -> Chart | None:
    """Draw training and validation loss together; None where nothing was validated."""
    if _VALIDATED not in scalars:
        return None
    of = "averaged weights" if averaged else "model"
    series = {"training": scalars.get(_TRAINED, []), f"validation, {of}": scalars[_VALIDATED]}
    note = _NOT_THE_SAME.format(whose=f"the {of}{' (EMA)' if averaged else ''}")
    return line_chart("Loss, training and validation", series, log=True, note=note)


def _validation_by_noise(scalars: dict[str, Points]) -> Chart | None:
    """Draw the validation loss over the zero predictor's for each band; None where there is none.

    The zero predictor is a line of its own, so that what lies above it is seen.
    """
    series = {name: scalars[key] for key, name in _VALIDATED_OVER_ZERO.items() if scalars.get(key)}
    if not series:
        return None
    steps = sorted({step for points in series.values() for step, _ in points})
    series["predicting zero"] = [(step, 1.0) for step in steps]
    title = "Validation loss over that of predicting zero, by noise level"
    return line_chart(title, series, ordered=True, note=_BY_NOISE)


def _charts(scalars: dict[str, Points]) -> list[Chart | None]:
    found = []
    for title, wanted in _CHARTS.items():
        series = {name: scalars[key] for key, name in wanted.items() if key in scalars}
        # Without a class loss the total is the reconstruction.
        if "class" not in series:
            series.pop("total", None)
        log = title in _LOGARITHMIC
        ordered = wanted in (_QUARTILES, _OVER_ZERO)
        note = _ONE_IS_NOTHING if wanted is _OVER_ZERO else ""
        chart = line_chart(title, series, ordered=ordered, log=log, note=note)
        if chart is not None and wanted is _OVER_ZERO:
            chart = replace(chart, alert=_alert(scalars))
        found.append(chart)
    return found


def _alert(scalars: dict[str, Points]) -> str:
    """Say that the model is not learning, where the last judgement of the log says so."""
    judged = scalars.get(BEATS_ZERO, [])
    return "" if not judged or judged[-1][1] else _NOT_LEARNING.format(step=judged[-1][0])
