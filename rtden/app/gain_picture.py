"""Gains over frequency and time as characters of a terminal."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np
from rich.segment import Segment
from rich.style import Style

from rtden.types import Array

Line = list[Segment]

AXIS_COLUMNS = 7
LONGEST = 400
"""Columns that are kept."""
LOWEST_DB = -30.0
_COLOURS = ("#0b0724", "#2d1160", "#5b187f", "#8c2981", "#c03a76", "#f1605d", "#fd9a6a", "#fcfdbf")
_SHADES = "  ░░▒▒▓█"
_LABELS_KHZ = (10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5)
_DIM, _BOLD = Style(dim=True), Style(bold=True)


class GainPicture:
    """The last gains of all bands: time runs to the right, frequency upwards.

    In colour a character shows two groups of bands, one above the other; else a shade shows one.
    `centres_hz` are the bands' centre frequencies, `column_seconds` the time between two columns.
    """

    def __init__(self, centres_hz: Sequence[float], column_seconds: float) -> None:
        self._centres_khz = np.asarray(centres_hz) / 1000.0
        self._column_seconds = column_seconds
        self._gains: deque[Array] = deque(maxlen=LONGEST)

    def feed(self, gains: Array) -> None:
        """Append a column: the gain of each band, linear."""
        self._gains.append(np.asarray(gains, np.float32))

    def lines(self, rows: int, width: int, *, colour: bool) -> list[Line]:
        """Return a caption, `rows` rows and a legend, each of `width` columns."""
        columns = min(LONGEST, width - AXIS_COLUMNS)
        levels, labels = self._levels(2 * rows if colour else rows, columns), self._labels(rows)
        lines: list[Line] = [[Segment("gain by frequency (kHz)".ljust(width)[:width], _BOLD)]]
        for row in range(rows):
            line = [Segment(f"{labels.get(row, ''):>{AXIS_COLUMNS - 1}} ", _DIM)]
            if colour:
                pairs = zip(levels[2 * row], levels[2 * row + 1], strict=True)
                for (upper, lower), alike in itertools.groupby(pairs):
                    line.append(_cells(upper, lower, len(list(alike))))
            else:
                line.append(Segment("".join(_SHADES[level] for level in levels[row])))
            lines.append(line)
        scale = [_cells(n, n, 2) if colour else Segment(2 * _SHADES[n]) for n in range(8)]
        legend = [Segment(f" {LOWEST_DB:.0f} dB "), *scale, Segment(" 0 dB")]
        span = f"{columns * self._column_seconds:.1f} s ago"
        room = columns - sum(len(part.text) for part in legend)
        legend, room = (legend, room) if room >= len(span) else ([], columns)
        shown = Segment(span.ljust(room)[:columns], _DIM)
        return [*lines, [Segment(" " * AXIS_COLUMNS), shown, *legend]]

    def _levels(self, groups: int, columns: int) -> list[list[int]]:
        """Return the level, 0 to 7, of each group of bands (highest first) and column."""
        recent = list(self._gains)[-columns:]
        energy = np.square(np.stack(recent, axis=1))
        edges = np.linspace(0, len(energy), groups + 1).astype(int)
        # Of more groups than bands, reduceat gives a band to each of its groups.
        sums = np.add.reduceat(energy, edges[:-1], axis=0)
        means = sums / np.maximum(1, np.diff(edges))[:, None]
        gains_db = 10.0 * np.log10(np.maximum(means, 1e-9))
        highest = len(_COLOURS) - 1
        levels = np.clip(np.round((1.0 - gains_db / LOWEST_DB) * highest), 0, highest)
        shown = np.pad(levels.astype(int), ((0, 0), (columns - len(recent), 0)))
        picture: list[list[int]] = shown[::-1].tolist()
        return picture

    def _labels(self, rows: int) -> dict[int, str]:
        bands = len(self._centres_khz)
        khz = np.interp(np.linspace(bands - 1, 0, rows), np.arange(bands), self._centres_khz)
        labels: dict[int, str] = {}
        for label_khz in _LABELS_KHZ:
            row = int(np.argmin(np.abs(khz - label_khz)))
            if row - 1 not in labels and row not in labels:
                labels[row] = f"{label_khz:g}"
        return labels


@functools.cache  # making segments is most of the work
def _cells(upper: int, lower: int, length: int) -> Segment:
    """Return `length` characters, each of two levels."""
    # One colour less if both levels are equal: the line to a far machine may be slow.
    colour = None if upper == lower else _COLOURS[upper]
    style = Style(color=colour, bgcolor=_COLOURS[lower])
    return Segment((" " if upper == lower else "▀") * length, style)
