"""Gains over frequency and time as characters of a terminal."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from rtden.types import Array

Line = list[Segment]

AXIS_COLUMNS = 7
LONGEST = 400
"""Columns that are kept."""
LOWEST_DB = -30.0
_COLOURS = ("#0b0724", "#2d1160", "#5b187f", "#8c2981", "#c03a76", "#f1605d", "#fd9a6a", "#fcfdbf")
_COLOURS_16 = (
    *("black", "black", "blue", "blue"),
    *("magenta", "magenta", "bright_yellow", "bright_white"),
)
_SHADES, _SHADES_ASCII = "  ░░▒▒▓█", "  ..++##"
_LEVELS = len(_COLOURS)
_LABELS_KHZ = (10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5)
_DIM, _BOLD = Style(dim=True), Style(bold=True)


class GainPicture:
    """The last gains of all bands: time runs to the right, frequency upwards.

    In colour a character shows two groups of bands, one above the other; else a shade shows one.

    Parameters
    ----------
    centres_hz : sequence of float, optional
        Centre frequency of each band, for the scale.
    column_seconds : float
        Time between two calls of `feed`.
    """

    def __init__(self, centres_hz: Sequence[float] | None, column_seconds: float) -> None:
        self._centres_khz = None if centres_hz is None else np.asarray(centres_hz) / 1000.0
        self._column_seconds = column_seconds
        self._gains: deque[Array] = deque(maxlen=LONGEST)
        self._cells: dict[tuple[int, int, int, str], Segment] = {}

    def feed(self, gains: Array) -> None:
        """Append a column: the gain of each band, linear."""
        self._gains.append(np.asarray(gains, np.float32))

    def lines(self, rows: int, width: int, console: Console, *, ascii_only: bool) -> list[Line]:
        """Return a caption, `rows` rows and a legend, each of `width` columns."""
        columns = min(LONGEST, width - AXIS_COLUMNS)
        in_colour = console.color_system is not None and not console.no_color and not ascii_only
        colours = _COLOURS_16 if console.color_system in {"standard", "windows"} else _COLOURS
        shades = _SHADES_ASCII if ascii_only else _SHADES
        picture = self._levels(2 * rows if in_colour else rows, columns)
        labels = self._labels(rows)
        lines: list[Line] = [[Segment("gain by frequency (kHz)".ljust(width)[:width], _BOLD)]]
        for row in range(rows):
            line = [Segment(f"{labels.get(row, ''):>{AXIS_COLUMNS - 1}} ", _DIM)]
            if in_colour:
                pairs = zip(picture[2 * row], picture[2 * row + 1], strict=True)
                for (upper, lower), alike in itertools.groupby(pairs):
                    line.append(self._cell(upper, lower, len(list(alike)), colours))
            else:
                line.append(Segment("".join(shades[level] for level in picture[row])))
            lines.append(line)
        scale = [
            self._cell(level, level, 2, colours) if in_colour else Segment(shades[level] * 2)
            for level in range(_LEVELS)
        ]
        return [*lines, self._legend(columns, scale)]

    def _legend(self, columns: int, scale: Line) -> Line:
        span = f"{columns * self._column_seconds:.1f} s ago"
        legend = [Segment(f" {LOWEST_DB:.0f} dB "), *scale, Segment(" 0 dB")]
        room = columns - len(span) - sum(len(part.text) for part in legend)
        axis = Segment(" " * AXIS_COLUMNS)
        if room < 0:
            return [axis, Segment(span.ljust(columns)[:columns], _DIM)]
        return [axis, Segment(span, _DIM), Segment(" " * room), *legend]

    def _levels(self, groups: int, columns: int) -> list[list[int]]:
        """Return the level, 0 to 7, of each group of bands (highest first) and column."""
        recent = list(self._gains)[-columns:]
        energy = np.square(np.stack(recent, axis=1))
        edges = np.linspace(0, len(energy), groups + 1).astype(int)
        # Of more groups than bands, reduceat gives a band to each of its groups.
        sums = np.add.reduceat(energy, edges[:-1], axis=0)
        means = sums / np.maximum(1, np.diff(edges))[:, None]
        gains_db = 10.0 * np.log10(np.maximum(means, 1e-9))
        shown = np.zeros((groups, columns), np.int64)
        levels = np.round((1.0 - gains_db / LOWEST_DB) * (_LEVELS - 1))
        shown[:, columns - len(recent) :] = np.clip(levels, 0, _LEVELS - 1)
        picture: list[list[int]] = shown[::-1].tolist()
        return picture

    def _labels(self, rows: int) -> dict[int, str]:
        if self._centres_khz is None:
            return {0: "high", rows - 1: "low"}
        bands = len(self._centres_khz)
        khz = np.interp(np.linspace(bands - 1, 0, rows), np.arange(bands), self._centres_khz)
        labels: dict[int, str] = {}
        for label_khz in _LABELS_KHZ:
            row = int(np.argmin(np.abs(khz - label_khz)))
            if row - 1 not in labels and row not in labels:
                labels[row] = f"{label_khz:g}"
        return labels

    def _cell(self, upper: int, lower: int, length: int, colours: Sequence[str]) -> Segment:
        """Return `length` characters of two levels, cached: making them is most of the work."""
        key = (upper, lower, length, colours[0])
        cell = self._cells.get(key)
        if cell is None:
            # One colour less if both levels are equal: the line to a far machine may be slow.
            style = Style(color=None if upper == lower else colours[upper], bgcolor=colours[lower])
            cell = self._cells[key] = Segment((" " if upper == lower else "▀") * length, style)
        return cell
