"""Gains over frequency and time as characters of a terminal."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np
from rich.segment import Segment
from rich.style import Style

from rtden.types import Array

Line = list[Segment]

AXIS_COLUMNS, LONGEST = 7, 400  # columns for the axis, and that are kept
LOWEST_DB = -30.0
SHADES = " ░░▒▒▓▓█"
_COLOURS = ("#0b0724", "#2d1160", "#5b187f", "#8c2981", "#c03a76", "#f1605d", "#fd9a6a", "#fcfdbf")
_STYLES = [Style(color=colour, bgcolor=colour) for colour in _COLOURS]
_LABELS_KHZ = (10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5)
_DIM, _BOLD = Style(dim=True), Style(bold=True)


class GainPicture:
    """The last gains of all bands: time runs to the right, frequency upwards.

    A character shows a group of bands by its colour or, in a terminal without, by its shade.
    """

    def __init__(self, centres_hz: Sequence[float], column_seconds: float) -> None:
        self._centres_khz = np.asarray(centres_hz) / 1000.0
        self._column_seconds = column_seconds
        self._gains: deque[Array] = deque(maxlen=LONGEST)

    def feed(self, gains: Array) -> None:
        """Append a column: the gain of each band, linear."""
        self._gains.append(np.asarray(gains, np.float32))

    def lines(self, rows: int, width: int) -> list[Line]:
        """Return a caption, `rows` rows and a legend, each of up to `width` columns."""
        columns, labels = min(LONGEST, width - AXIS_COLUMNS), self._labels(rows)
        lines: list[Line] = [[Segment("gain by frequency (kHz)"[:width], _BOLD)]]
        for row, levels in enumerate(self._levels(rows, columns)):
            line = [Segment(f"{labels.get(row, ''):>{AXIS_COLUMNS - 1}} ", _DIM)]
            for level, alike in itertools.groupby(levels):
                line.append(Segment(SHADES[level] * len(list(alike)), _STYLES[level]))
            lines.append(line)
        ago, least = f"{columns * self._column_seconds:.1f} s ago", f"{LOWEST_DB:.0f} dB "
        room = columns - len(f"{ago}{least}{SHADES} 0 dB")
        legend = [Segment(f"{' ' * AXIS_COLUMNS}{ago}"[: AXIS_COLUMNS + columns], _DIM)]
        if room > 0:
            cells = [Segment(shade, _STYLES[level]) for level, shade in enumerate(SHADES)]
            legend += [Segment(" " * room + least, _DIM), *cells, Segment(" 0 dB", _DIM)]
        return [*lines, legend]

    def _levels(self, groups: int, columns: int) -> list[list[int]]:
        """Return the level, 0 to 7, of each group of bands (highest first) and column."""
        recent = list(self._gains)[-columns:]
        energy = np.square(np.stack(recent, axis=1))
        edges = np.linspace(0, len(energy), groups + 1).astype(int)
        # Of more groups than bands, reduceat gives a band to each of its groups.
        sums = np.add.reduceat(energy, edges[:-1], axis=0)
        means = sums / np.maximum(1, np.diff(edges))[:, None]
        gains_db = 10.0 * np.log10(np.maximum(means, 1e-9))
        highest = len(SHADES) - 1
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
