"""The costs of denoisers as text: tables in Markdown, lined up for reading as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LIVE_HEADER = ("as live", "CPU per second", "times {first}'s", "memory")
STREAM_HEADER = (
    *("alone", "rate", "frame", "CPU per second", "times {first}'s", "delay", "start", "memory"),
    "model (KiB)",
)
FILE_HEADER = ("", "rate", "CPU per second", "times real time", "times {first}'s")


def cost_text(found: dict[str, Any]) -> str:
    """Return the costs as text."""
    conditions = (
        f"{found['processor']}; one thread each; {found['seconds']:g} s of noisy speech, "
        f"{found['rounds']} rounds in turns, medians; in brackets the quartiles of the ratio, "
        "round by round. CPU: time on all cores."
    )
    live = (
        "As live: 48 kHz in and out in blocks of 10 ms, each with its own resampling, and with the "
        "conversions to its format. Without threads and devices, which are the same for all."
    )
    alone = (
        "Alone: at its own rate, resampled beforehand, frames in its own format. Delay: of the "
        "algorithm, a frame's length included. Start: of a fresh process, until sound has come out "
        f"(median of {found['starts']}). Memory: the peak of that process. Nothing: Python, numpy "
        "and the same loop, around a copy."
    )
    files = "Whole files, on one core; rtden from file to file, the others from memory to memory."
    return "\n\n".join(
        [
            conditions,
            live,
            _table(LIVE_HEADER, found["live"], _live_row),
            alone,
            _table(STREAM_HEADER, found["streams"], _stream_row),
            files,
            _table(FILE_HEADER, found["files"], _file_row),
            *found["notes"],
        ]
    )


def _live_row(name: str, cost: dict[str, Any]) -> tuple[str, ...]:
    return (name, _cpu(cost), _times(cost), f"{cost['peak_mb']:.0f} MiB")


def _stream_row(name: str, cost: dict[str, Any]) -> tuple[str, ...]:
    learned = "–"
    if cost["model_kb"]:
        learned = f"{cost['model_kb']:.0f}" + (" in its library" if name == "RNNoise" else "")
    return (
        name,
        f"{cost['rate_hz'] / 1000:g} kHz",
        f"{cost['frame_ms']:.1f} ms" if cost["frame_ms"] else "whole",
        _cpu(cost),
        _times(cost),
        f"{cost['delay_ms']:.1f} ms" if cost["delay_ms"] is not None else "offline",
        f"{cost['start_seconds_median']:.2f} s",
        f"{cost['peak_mb']:.0f} MiB",
        learned,
    )


def _file_row(name: str, cost: dict[str, Any]) -> tuple[str, ...]:
    factor = cost["cpu_per_second"]["median"]
    return (
        name,
        f"{cost['rate_hz'] / 1000:g} kHz",
        _cpu(cost),
        f"{1 / factor:.0f} x",
        _times(cost),
    )


def _cpu(cost: dict[str, Any]) -> str:
    return f"{1000.0 * cost['cpu_per_second']['median']:.1f} ms"


def _times(cost: dict[str, Any]) -> str:
    """Return how many times the first row's cost this one is, with its spread."""
    times = cost["times_the_first"]
    if times["least"] == times["most"] == 1.0:
        return "1"
    return f"{times['median']:.3g} ({times['low']:.3g}–{times['high']:.3g})"


def _table(header: tuple[str, ...], costs: dict[str, Any], row: Any) -> str:
    first = next(iter(costs))
    cells = [row(name, cost) for name, cost in costs.items()]
    return markdown(tuple(name.format(first=first) for name in header), cells)


def markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown whose columns are also lined up for reading as they are."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join([first.ljust(widths[0]), *cells])} |")
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])
