"""The live view in a terminal: levels, gains, delay and what went wrong."""

from __future__ import annotations

import itertools
import math
import textwrap
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.segment import Segment
from rich.style import Style

from rtden.app.keys import HELP_KEYS, KEYS, QUIT_KEYS, apply_key
from rtden.app.options import in_db, in_ms, in_ppm, pauses
from rtden.live.status import LiveStatus, counted, xruns_in_words
from rtden.types import Array

if TYPE_CHECKING:
    from rtden.live import LiveEngine

Line = list[Segment]

DRAW_SECONDS = 0.1
SMOOTHING_LOOKS = 10  # figures are means of ten looks: faster ones are unreadable
LOWEST_DB, WARM_DB, HOT_DB = -60.0, -18.0, -6.0
SIDE_COLUMNS = PICTURE_COLUMNS = 30  # width of the figures; least width of the picture
LEAST_COLUMNS_WITH_PEAK = 60
AXIS_COLUMNS, LONGEST = 7, 400  # width of the axis; columns kept
LOWEST_GAIN_DB = -30.0
SHADES = " ░░▒▒▓▓█"
_COLOURS = ("#0b0724", "#2d1160", "#5b187f", "#8c2981", "#c03a76", "#f1605d", "#fd9a6a", "#fcfdbf")
_STYLES = [Style(color=colour, bgcolor=colour) for colour in _COLOURS]
_LABELS_KHZ = (10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5)
_PLAIN, _DIM, _BOLD = Style(), Style(dim=True), Style(bold=True)
_GOOD, _WARM, _HOT = Style(color="green"), Style(color="yellow"), Style(color="red", bold=True)
_ALARM = Style(color="bright_white", bgcolor="red", bold=True)
_NOTICE = Style(reverse=True, bold=True)
_ASCII = str.maketrans("━─┃░▒▓█", "#.|..+#")
_EXPLAINED = (
    *((key, effect) for key, _, effect in KEYS),
    ("pauses", "how much quieter the background is"),
    ("latency now", "measured delay, microphone to output"),
    ("buffer", "sound that waits for the output, its blocks included"),
    ("buffer now", "the part of it beyond the devices' blocks"),
    ("clock drift", "how much faster the input's clock is"),
    ("xruns", "blocks late or lost at a device, and drop-outs"),
)


def watch(
    engine: LiveEngine,
    console: Console,
    keys: Iterator[str],
    *,
    title: str = "",
    duration: float = math.inf,
) -> None:
    """Draw a started engine on the whole screen until it ends, or a key or `duration` ends it."""
    view = LiveView(engine, title)
    ends_at, draws_at = time.monotonic() + duration, -math.inf
    with console.screen(hide_cursor=True):
        for key in keys:
            if not engine.running or time.monotonic() >= ends_at or key in QUIT_KEYS:
                return
            apply_key(key, engine)
            if key in HELP_KEYS:
                view.shows_help, draws_at = not view.shows_help, -math.inf
            if time.monotonic() >= draws_at:
                draws_at = time.monotonic() + 0.8 * DRAW_SECONDS  # keys wait about that long
                view.look()
                # The screen's own update would measure and cut each line again, at twice the cost.
                console.print(Control.home(), view, sep="", end="", crop=False)


class LiveView:
    """The whole screen, of rich's segments: its tables cost five times as much."""

    def __init__(self, engine: LiveEngine, title: str = "") -> None:
        self.shows_help = False
        self._engine, self._title = engine, title
        self._picture = GainPicture(engine.band_centres_hz, DRAW_SECONDS)
        self._looks: deque[LiveStatus] = deque(maxlen=SMOOTHING_LOOKS)

    def look(self) -> None:
        """Take the engine's state; each look is one column of the picture."""
        self._looks.append(self._engine.status())
        self._picture.feed(self._engine.band_gains)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        for number, line in enumerate(self._lines(width, height)[:height]):
            if number:
                yield Segment.line()
            for text, style, _ in Segment.adjust_line_length(line, width):
                plain = text.translate(_ASCII).encode("ascii", "replace").decode()
                yield Segment(plain if options.ascii_only else text, style)

    def _lines(self, width: int, height: int) -> list[Line]:
        status = self._looks[-1]
        head = [self._top_line(status, width), self._state(status)]
        head += [self._meter(name, width) for name in ("input", "output")]
        warnings = [
            [Segment(part, _HOT)]
            for warning in status.warnings
            for part in textwrap.wrap(f"! {warning}", width)
        ]
        foot = [*warnings[: max(0, height - len(head) - 1)], _keys(width)]
        rows = max(0, height - len(head) - len(foot))
        body = _explanations(width) if self.shows_help else self._body(width, rows)
        body += [[] for _ in range(rows - len(body))]
        return [*head[: height - 1], *body[:rows], *foot]

    def _body(self, width: int, rows: int) -> list[Line]:
        """Return the figures, beside the picture of gains if both fit."""
        figures, left = self._figures(min(width, SIDE_COLUMNS)), width - SIDE_COLUMNS - 2
        if left >= AXIS_COLUMNS + PICTURE_COLUMNS and rows >= 6:
            picture = self._picture.lines(rows - 2, left)
            figures += [[] for _ in range(rows - len(figures))]
            sides = zip(picture, figures[:rows], strict=True)
            return [[*Segment.adjust_line_length(x, left), Segment("  "), *y] for x, y in sides]
        # Without room for all, leave out the parts of the planned latency.
        needed = [line for line in figures if not line[0].text.startswith(" ")]
        return figures if rows >= len(figures) else needed

    def _top_line(self, status: LiveStatus, width: int) -> Line:
        seconds = int(status.seconds)
        clock = f" {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        room = max(0, width - len(clock) - 7)
        title = Segment.adjust_line_length([Segment(self._title)], room)
        return [Segment("rtden  ", _BOLD), *title, Segment(clock, _DIM)]

    def _state(self, status: LiveStatus) -> Line:
        if status.state != "running":
            return [Segment(f" {status.state} ", _ALARM)]
        if self._engine.muted:
            return [Segment(" MUTED ", _NOTICE), Segment("  press m to be heard")]
        if self._engine.bypassed:
            return [Segment(" BYPASS ", _NOTICE), Segment("  unprocessed; b denoises again")]
        return [Segment("denoising", _GOOD), Segment(f", strength {self._engine.strength:.1f}")]

    def _meter(self, name: str, width: int) -> Line:
        level_db = getattr(self._looks[-1], f"{name}_db")
        peak_db = max(getattr(look, f"{name}_peak_db") for look in self._looks)
        columns = max(10, width - AXIS_COLUMNS - (26 if width >= LEAST_COLUMNS_WITH_PEAK else 10))
        shares = (min(1.0, max(0.0, 1.0 - of_db / LOWEST_DB)) for of_db in (level_db, peak_db))
        full, peak = (round(columns * share) for share in shares)
        bar, rest = "━" * full, "─" * (columns - full)
        if peak > full:
            rest = f"{rest[: peak - full - 1]}┃{rest[peak - full :]}"
        style = _GOOD if level_db < WARM_DB else _WARM if level_db < HOT_DB else _HOT
        line = [Segment(f"{name:<{AXIS_COLUMNS}}"), Segment(bar, style), Segment(rest, _DIM)]
        levels_db = [getattr(look, f"{name}_db") for look in self._looks]
        energy = float(np.mean([10.0 ** (each_db / 10.0) for each_db in levels_db]))
        mean_db = 10.0 * math.log10(energy) if energy > 0.0 else -math.inf
        line.append(Segment(f" {in_db(mean_db):>9}"))
        if width >= LEAST_COLUMNS_WITH_PEAK:
            line.append(Segment(f"  peak {in_db(peak_db):>9}", _HOT if peak_db > -0.5 else _DIM))
        return line

    def _figures(self, width: int) -> list[Line]:
        status, latency = self._looks[-1], self._engine.latency
        load = float(np.mean([look.load for look in self._looks]))
        heat = _HOT if load > 0.8 else _WARM if load > 0.5 else _PLAIN
        words = xruns_in_words(status)
        entries = (
            ("pauses", pauses(status.noise_removed_db), _BOLD),
            ("latency now", in_ms(status.latency_ms), _BOLD),
            ("latency planned", in_ms(latency.total_ms), _PLAIN),
            ("  input", in_ms(latency.source_ms), _DIM),
            ("  resampling", in_ms(latency.resampling_ms), _DIM),
            ("  denoiser", in_ms(latency.denoiser_ms), _DIM),
            ("  buffer", in_ms(latency.buffer_ms), _DIM),
            ("  output", in_ms(latency.sink_ms), _DIM),
            ("buffer now", in_ms(status.buffer_ms), _PLAIN),
            ("load of one core", f"{100 * load:.1f} %", heat),
            ("clock drift", in_ppm(status.drift_ppm), _PLAIN),
            *([("xruns", words, _PLAIN)] if words == "none" else []),
        )
        lines: list[Line] = [
            [
                Segment(name, style if style is _DIM else _PLAIN),
                Segment(f"{value:>{max(0, width - len(name))}}", style),
            ]
            for name, value, style in entries
        ]
        xruns = "" if words == "none" else f"{counted(status.xruns, 'xrun')}: {words}"
        return [*lines, *([Segment(part, _WARM)] for part in textwrap.wrap(xruns, width))]


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
        ago, least = f"{columns * self._column_seconds:.1f} s ago", f"{LOWEST_GAIN_DB:.0f} dB "
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
        # With more groups than bands, reduceat repeats bands.
        sums = np.add.reduceat(energy, edges[:-1], axis=0)
        means = sums / np.maximum(1, np.diff(edges))[:, None]
        gains_db = 10.0 * np.log10(np.maximum(means, 1e-9))
        highest = len(SHADES) - 1
        levels = np.clip(np.round((1.0 - gains_db / LOWEST_GAIN_DB) * highest), 0, highest)
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


def _keys(width: int) -> Line:
    """Return the last line: as many keys as fit, the most important first."""
    line: Line = []
    for key, name, _ in KEYS:
        width -= len(key) + len(name) + 5
        if width >= -2:  # the last needs no gap
            line += [Segment(f" {key} ", _NOTICE), Segment(f" {name} ")]
    return line


def _explanations(width: int) -> list[Line]:
    lines: list[Line] = []
    for name, text in _EXPLAINED:
        for number, part in enumerate(textwrap.wrap(text, max(10, width - 13))):
            lines.append([Segment(f"{'' if number else name:<13}", _BOLD), Segment(part)])
    return lines
