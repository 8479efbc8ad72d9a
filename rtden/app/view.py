"""The live view in a terminal, and the keys that go with it.

`watch` draws on the Console that it is given, ten times a second, for as long as the engine runs; `Keyboard` reads keys
without Enter. `status_json` is the same state as a line for other programs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import select
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.segment import Segment
from rich.style import Style

from rtden.types import Array

DRAW_SECONDS = 0.1
SMOOTHING_LOOKS = 10
"""Figures are means of so many looks: a number that changes ten times a second cannot be read."""
LOWEST_DB = -60.0
WARM_DB, HOT_DB = -18.0, -6.0
PEAK_HOLD_SECONDS, PEAK_FALL_DB_PER_SECOND = 1.5, 20.0
LOWEST_GAIN_DB = -30.0
MOST_COLUMNS = 200
SIDE_COLUMNS = 27
AXIS_COLUMNS = 7
FRAME_ROWS = 8
"""Rows around the gains: title, state, two meters, their scale, a caption, a legend, the keys."""
TEXT_ROWS = 2
QUIT_KEYS = ("q", "Q", "\x03")
HELP = (("b", "bypass"), ("+ -", "strength"), ("m", "mute"), ("q", "quit"))

_GAIN_COLOURS = (
    "#0b0724",
    "#2d1160",
    "#5b187f",
    "#8c2981",
    "#c03a76",
    "#f1605d",
    "#fd9a6a",
    "#fcfdbf",
)
_GAIN_COLOURS_16 = (
    "black",
    "black",
    "blue",
    "blue",
    "magenta",
    "magenta",
    "bright_yellow",
    "bright_white",
)
_SHADES = "  ░░▒▒▓█"
_SHADES_ASCII = "  ..++##"
_PLAIN, _DIM, _BOLD = Style(), Style(dim=True), Style(bold=True)
_GOOD, _WARM, _HOT = Style(color="green"), Style(color="yellow"), Style(color="red", bold=True)
_ALARM, _NOTICE = (
    Style(color="bright_white", bgcolor="red", bold=True),
    Style(reverse=True, bold=True),
)

Line = list[Segment]


class Status(Protocol):
    """What the view shows of an engine's status; as :class:`rtden.live.engine.LiveStatus`."""

    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def input_db(self) -> float: ...  # noqa: D102
    @property
    def output_db(self) -> float: ...  # noqa: D102
    @property
    def input_peak_db(self) -> float: ...  # noqa: D102
    @property
    def output_peak_db(self) -> float: ...  # noqa: D102
    @property
    def noise_removed_db(self) -> float: ...  # noqa: D102
    @property
    def load(self) -> float: ...  # noqa: D102
    @property
    def mean_load(self) -> float: ...  # noqa: D102
    @property
    def xruns(self) -> int: ...  # noqa: D102
    @property
    def flagged_blocks(self) -> int: ...  # noqa: D102
    @property
    def dropouts(self) -> int: ...  # noqa: D102
    @property
    def disconnects(self) -> int: ...  # noqa: D102
    @property
    def lost_ms(self) -> float: ...  # noqa: D102
    @property
    def drift_ppm(self) -> float: ...  # noqa: D102
    @property
    def buffer_ms(self) -> float: ...  # noqa: D102
    @property
    def latency_ms(self) -> float: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102


class Latency(Protocol):
    """Where the planned delay comes from; as :class:`rtden.live.engine.LatencyParts`."""

    @property
    def total_ms(self) -> float: ...  # noqa: D102
    @property
    def source_ms(self) -> float: ...  # noqa: D102
    @property
    def resampling_ms(self) -> float: ...  # noqa: D102
    @property
    def denoiser_ms(self) -> float: ...  # noqa: D102
    @property
    def buffer_ms(self) -> float: ...  # noqa: D102
    @property
    def sink_ms(self) -> float: ...  # noqa: D102


class Engine(Protocol):
    """What the view needs of an engine."""

    strength: float
    """0 to 1."""
    bypassed: bool
    muted: bool

    def status(self) -> Status:
        """Return what has happened since the last look."""

    @property
    def latency(self) -> Latency:
        """The delay as planned."""

    @property
    def band_gains(self) -> Array:
        """The newest gain of each mel band, linear; a copy."""

    @property
    def running(self) -> bool:
        """Whether there is more to come; raises what ended it."""


def watch(
    engine: Engine,
    console: Console,
    keys: Iterator[str],
    *,
    title: str = "",
    duration: float = math.inf,
    centres_hz: Sequence[float] | None = None,
) -> None:
    """Draw an engine on a terminal's alternate screen and obey the keys, until it ends, the keys end, or one says so.

    Parameters
    ----------
    engine : Engine
        Started.
    keys : iterator of str
        As :meth:`Keyboard.keys`: it sets the pace, for it waits; "" where no key came.
    title : str
        From where to where.
    duration : float
        Seconds after which to end.
    centres_hz : sequence of float, optional
        Centre frequency of each band, for the scale.

    Raises
    ------
    RtdenError
        What ended the engine.
    """
    view = LiveView(title, centres_hz)
    ends_at = time.monotonic() + duration
    draws_at = -math.inf
    with console.screen(hide_cursor=True):
        for key in keys:
            if not engine.running or time.monotonic() >= ends_at or key in QUIT_KEYS:
                return
            obey(key, engine)
            if time.monotonic() >= draws_at:
                draws_at = (
                    time.monotonic() + 0.8 * DRAW_SECONDS
                )  # the keys wait a little less or more than a whole one
                view.look(engine)
                # Not the screen's own update: that would measure and cut each line once more, for half of the time.
                console.print(Control.home(), view, sep="", end="", crop=False)


def obey(key: str, engine: Engine) -> None:
    """Do what a key says; unknown ones say nothing."""
    if key in {"b", "B"}:
        engine.bypassed = not engine.bypassed
    elif key in {"m", "M"}:
        engine.muted = not engine.muted
    elif key in {"+", "=", "up"}:  # "=" is "+" without shift
        engine.strength = min(1.0, round(engine.strength + 0.1, 1))
    elif key in {"-", "_", "down"}:
        engine.strength = max(0.0, round(engine.strength - 0.1, 1))


def xruns_in_words(status: Status) -> str:
    """Return what went wrong so far, or "none"."""
    said = []
    if status.flagged_blocks:
        said.append(
            f"{status.flagged_blocks} {'block' if status.flagged_blocks == 1 else 'blocks'} late or lost at a device"
        )
    if status.dropouts:
        said.append(
            f"{status.dropouts} {'dropout' if status.dropouts == 1 else 'dropouts'}, {status.lost_ms:.0f} ms left out"
        )
    return "; ".join(said) or "none"


def status_json(status: Status, latency: Latency) -> str:
    """Return a status and the planned delay as one line of JSON; what is not known, or a level of silence, is null."""
    names = (
        "seconds",
        "input_db",
        "output_db",
        "input_peak_db",
        "output_peak_db",
        "noise_removed_db",
        "load",
        "mean_load",
        "xruns",
        "flagged_blocks",
    )
    later = ("dropouts", "disconnects", "lost_ms", "drift_ppm", "buffer_ms", "latency_ms", "state")
    parts = ("total_ms", "source_ms", "resampling_ms", "denoiser_ms", "buffer_ms", "sink_ms")
    figures = {name: _plain(getattr(status, name)) for name in names + later}
    return json.dumps(
        {**figures, "planned_latency": {name: _plain(getattr(latency, name)) for name in parts}}
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int)):
        return value
    return round(float(value), 4) if math.isfinite(value) else None


class LiveView:
    """What is on the screen: a renderable that fills the whole of it, in the colours that the console has.

    Drawn as segments, not as rich's tables: that costs a fifth.
    """

    def __init__(self, title: str = "", centres_hz: Sequence[float] | None = None) -> None:
        self.title = title
        self._centres_hz = None if centres_hz is None else np.asarray(centres_hz, np.float64)
        self._looks: deque[Status] = deque(maxlen=SMOOTHING_LOOKS)
        self._gains: deque[Array] = deque(maxlen=MOST_COLUMNS)
        self._peaks = _PeakHold(), _PeakHold()
        self._latency: Latency | None = None
        self._strength, self._bypassed, self._muted = 1.0, False, False
        self._cells: dict[tuple[int, int, int, str], Segment] = {}

    def look(self, engine: Engine) -> None:
        """Take in what an engine does now; each look is one column of the gains."""
        status = engine.status()
        self._looks.append(status)
        self._gains.append(np.asarray(engine.band_gains, np.float32))
        for peak, value_db in zip(
            self._peaks, (status.input_peak_db, status.output_peak_db), strict=True
        ):
            peak.feed(value_db, status.seconds)
        self._latency = engine.latency
        self._strength, self._bypassed, self._muted = engine.strength, engine.bypassed, engine.muted

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        for number, line in enumerate(
            self._lines(width, height, console, ascii_only=options.ascii_only)[:height]
        ):
            if number:
                yield Segment.line()
            short = width - sum([len(segment.text) for segment in line])
            if number < TEXT_ROWS or short < 0:  # names may be in any script
                yield from Segment.adjust_line_length(line, width)
            else:
                yield from line
                yield Segment(" " * short)

    def _lines(self, width: int, height: int, console: Console, *, ascii_only: bool) -> list[Line]:
        if not self._looks or self._latency is None:
            return []
        status = self._looks[-1]
        body_rows = max(0, height - FRAME_ROWS)
        rows = (
            next((size for size in (32, 16, 8, 4) if size <= body_rows), 0)
            if width >= SIDE_COLUMNS + AXIS_COLUMNS + 20
            else 0
        )
        side = self._figures(status, self._latency)
        if not rows:
            body = side[:body_rows]
        else:
            columns = min(MOST_COLUMNS, width - SIDE_COLUMNS - AXIS_COLUMNS - 3)
            left = self._gain_view(rows, columns, console, ascii_only=ascii_only)
            gap = Segment("   ")
            # The figures begin beside the caption: on a small screen every row counts.
            body = [
                [*row, gap, *(side[number] if number < len(side) else [])]
                for number, row in enumerate(left)
            ]
        scale = self._scale(width)
        levels = (
            self._meter(
                "input",
                self._mean_db("input_db"),
                status.input_db,
                self._peaks[0].held_db,
                width,
                ascii_only=ascii_only,
            ),
            self._meter(
                "output",
                self._mean_db("output_db"),
                status.output_db,
                self._peaks[1].held_db,
                width,
                ascii_only=ascii_only,
            ),
        )
        lines = [self._title(status, width), self._state(status), *levels, scale, *body]
        lines += [[] for _ in range(height - 1 - len(lines))]
        return [*lines[: height - 1], self._help()]

    def _title(self, status: Status, width: int) -> Line:
        seconds = int(status.seconds)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        title = self.title[: max(0, width - len(clock) - 9)]
        return [
            Segment("rtden  ", _BOLD),
            Segment(title.ljust(width - len(clock) - 7)),
            Segment(clock, _DIM),
        ]

    def _state(self, status: Status) -> Line:
        if status.state != "running":
            return [Segment(f" {status.state} ", _ALARM)]
        if self._muted:
            return [Segment(" MUTED ", _NOTICE), Segment("  nothing is heard; m ends it")]
        if self._bypassed:
            return [
                Segment(" BYPASS ", _NOTICE),
                Segment("  the sound as it comes in, in time; b ends it"),
            ]
        return [Segment("denoising", _GOOD), Segment(f", strength {self._strength:.1f}")]

    @staticmethod
    def _meter_columns(width: int) -> int:
        return max(10, width - AXIS_COLUMNS - 26)

    def _meter(
        self,
        name: str,
        mean_db: float,
        now_db: float,
        peak_db: float,
        width: int,
        *,
        ascii_only: bool,
    ) -> Line:
        columns = self._meter_columns(width)
        full, half = divmod(round(2 * columns * _share(now_db)), 2)
        peak = min(columns - 1, int(columns * _share(peak_db))) if peak_db > LOWEST_DB else -1
        bar = "#" * full if ascii_only else "━" * full + "╸" * half
        track = "." if ascii_only else "─"
        if peak >= len(bar):
            text = (
                bar
                + track * (peak - len(bar))
                + ("|" if ascii_only else "┃")
                + track * (columns - peak - 1)
            )
        else:
            text = bar + track * (columns - len(bar))
        # Cut where the colour changes: at the levels that become warm and hot, at the bar's end, and around the peak.
        warm, hot = (round(columns * _share(limit)) for limit in (WARM_DB, HOT_DB))
        edges = sorted(
            {
                0,
                columns,
                *(edge for edge in (warm, hot, len(bar), peak, peak + 1) if 0 < edge < columns),
            }
        )
        line = [Segment(f"{name:<{AXIS_COLUMNS}}")]
        for start, stop in itertools.pairwise(edges):
            lit = start < len(bar) or start == peak
            line.append(
                Segment(
                    text[start:stop],
                    (_GOOD if start < warm else _WARM if start < hot else _HOT) if lit else _DIM,
                )
            )
        return [
            *line,
            Segment(f" {_db(mean_db):>9}"),
            Segment(f"  peak {_db(peak_db):>9}", _HOT if peak_db > -0.5 else _DIM),
        ]

    def _scale(self, width: int) -> Line:
        columns = self._meter_columns(width)
        text = [" "] * (columns + 8)
        for level_db in range(round(LOWEST_DB), 1, 20 if columns < 30 else 10):
            label = str(level_db)
            at = round((columns - 1) * _share(level_db)) - (
                len(label) - 1 if level_db > LOWEST_DB else 0
            )
            text[at : at + len(label)] = label
        return [Segment(" " * AXIS_COLUMNS), Segment("".join(text[:columns]) + "  dBFS", _DIM)]

    def _figures(self, status: Status, latency: Latency) -> list[Line]:
        """Return the column of figures."""
        load = float(np.mean([look.load for look in self._looks]))
        entries: list[tuple[str, str, Style]] = [
            ("noise removed", _db(status.noise_removed_db), _BOLD),
            ("strength", f"{self._strength:.1f}   ", _PLAIN),
            (
                "load of one core",
                f"{100 * load:.1f} % ",
                _HOT if load > 0.8 else _WARM if load > 0.5 else _PLAIN,
            ),
            ("", "", _PLAIN),
            ("latency now", _ms(status.latency_ms), _BOLD),
            ("planned", _ms(latency.total_ms), _PLAIN),
            ("  input", _ms(latency.source_ms), _DIM),
            ("  resampling", _ms(latency.resampling_ms), _DIM),
            ("  denoiser", _ms(latency.denoiser_ms), _DIM),
            ("  buffer", _ms(latency.buffer_ms), _DIM),
            ("  output", _ms(latency.sink_ms), _DIM),
            ("buffer now", _ms(status.buffer_ms), _PLAIN),
            (
                "clock drift",
                f"{status.drift_ppm:+.0f} ppm" if math.isfinite(status.drift_ppm) else "-",
                _PLAIN,
            ),
            ("", "", _PLAIN),
        ]
        lines = [
            [
                Segment(name, style if style is _DIM else _PLAIN),
                Segment(f"{value:>{SIDE_COLUMNS - len(name)}}", style),
            ]
            for name, value, style in entries
        ]
        words = xruns_in_words(status)
        if words == "none":
            return [*lines, [Segment("xruns"), Segment(f"{words:>{SIDE_COLUMNS - 5}}")]]
        return [
            *lines,
            *(
                [Segment(part, _WARM)]
                for part in _wrapped(f"{status.xruns} xruns: {words}", SIDE_COLUMNS)
            ),
        ]

    def _gain_view(
        self, rows: int, columns: int, console: Console, *, ascii_only: bool
    ) -> list[Line]:
        """Return the gains of the last columns over frequency, with a caption above and a legend below.

        In colour a character shows two groups of bands, one above the other; without it shades show one.
        """
        in_colour = console.color_system is not None and not console.no_color and not ascii_only
        colours = (
            _GAIN_COLOURS_16 if console.color_system in {"standard", "windows"} else _GAIN_COLOURS
        )
        shades = _SHADES_ASCII if ascii_only else _SHADES
        levels = len(_GAIN_COLOURS)
        groups = 2 * rows if in_colour else rows
        picture = self._picture(groups, columns, levels)
        caption = "what passes, by frequency (kHz)"
        lines: list[Line] = [
            [Segment(caption.ljust(AXIS_COLUMNS + columns)[: AXIS_COLUMNS + columns], _BOLD)]
        ]
        labels = self._labels(rows)
        for row in range(rows):
            line = [Segment(f"{labels.get(row, ''):>{AXIS_COLUMNS - 1}} ", _DIM)]
            if in_colour:
                # One segment for all neighbours that are alike.
                pairs = itertools.groupby(zip(picture[2 * row], picture[2 * row + 1], strict=True))
                line += [
                    self._cell(upper, lower, len(list(alike)), colours)
                    for (upper, lower), alike in pairs
                ]
            else:
                line.append(Segment("".join(shades[level] for level in picture[row])))
            lines.append(line)
        steps = [
            self._cell(level, level, 2, colours) if in_colour else Segment(shades[level] * 2)
            for level in range(levels)
        ]
        seconds = columns * DRAW_SECONDS
        span = f"{seconds:.1f} s ago"
        legend = [Segment(" -30 dB "), *steps, Segment(" 0 dB")]
        room = columns - len(span) - sum(len(step.text) for step in legend)
        if room >= 0:
            lines.append(
                [Segment(" " * AXIS_COLUMNS), Segment(span, _DIM), Segment(" " * room), *legend]
            )
        else:
            lines.append(
                [Segment(" " * AXIS_COLUMNS), Segment(span.ljust(columns)[:columns], _DIM)]
            )
        return lines

    def _picture(self, groups: int, columns: int, levels: int) -> list[list[int]]:
        """Return the level, 0 to levels - 1, of each group, the highest first, and column, the newest last."""
        recent = list(self._gains)[-columns:]
        energy = np.square(np.stack(recent, axis=1))
        edges = np.linspace(0, len(energy), groups + 1).astype(int)
        means = np.add.reduceat(energy, edges[:-1], axis=0) / np.diff(edges)[:, None]
        gains_db = 10.0 * np.log10(np.maximum(means, 1e-9))
        shown = np.zeros((groups, columns), np.int64)
        shown[:, columns - len(recent) :] = np.clip(
            np.round((1.0 - gains_db / LOWEST_GAIN_DB) * (levels - 1)), 0, levels - 1
        )
        picture: list[list[int]] = shown[::-1].tolist()
        return picture

    def _labels(self, rows: int) -> dict[int, str]:
        if self._centres_hz is None:
            return {0: "high", rows - 1: "low"}
        at = np.linspace(0, len(self._centres_hz) - 1, rows)[::-1]
        khz = np.interp(at, np.arange(len(self._centres_hz)), self._centres_hz) / 1000.0
        labels = {}
        for wanted in (10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5):
            row = int(np.argmin(np.abs(khz - wanted)))
            if row - 1 not in labels and row not in labels:
                labels[row] = f"{wanted:g}"
        return labels

    def _cell(self, upper: int, lower: int, length: int, colours: Sequence[str]) -> Segment:
        """Return so many characters of two levels; they are kept, for making them is most of the work."""
        key = (upper, lower, length, colours[0])
        cell = self._cells.get(key)
        if cell is None:
            # A colour less where one will do: there is a change every few characters, and a line to a far machine may be slow.
            style = Style(color=None if upper == lower else colours[upper], bgcolor=colours[lower])
            cell = self._cells[key] = Segment((" " if upper == lower else "▀") * length, style)
        return cell

    def _mean_db(self, name: str) -> float:
        energy = float(np.mean([10.0 ** (getattr(look, name) / 10.0) for look in self._looks]))
        return 10.0 * math.log10(energy) if energy > 0.0 else -math.inf

    @staticmethod
    def _help() -> Line:
        return [
            segment
            for key, does in HELP
            for segment in (Segment(f" {key} ", _NOTICE), Segment(f" {does}   "))
        ]


class _PeakHold:
    """The highest level, held for a while, then falling."""

    def __init__(self) -> None:
        self.held_db = -math.inf
        self._held_at = self._looked_at = 0.0

    def feed(self, level_db: float, seconds: float) -> None:
        if seconds - self._held_at > PEAK_HOLD_SECONDS:
            self.held_db -= PEAK_FALL_DB_PER_SECOND * (seconds - self._looked_at)
        self._looked_at = seconds
        if level_db >= self.held_db:
            self.held_db, self._held_at = level_db, seconds


def _share(level_db: float) -> float:
    """Return where on a meter a level lies, 0 to 1."""
    return 0.0 if not level_db > LOWEST_DB else min(1.0, 1.0 - level_db / LOWEST_DB)


def _db(level_db: float) -> str:
    return (
        f"{level_db:.1f} dB"
        if math.isfinite(level_db)
        else "- dB"
        if math.isnan(level_db)
        else "silent"
    )


def _ms(value_ms: float) -> str:
    return f"{value_ms:.0f} ms" if math.isfinite(value_ms) else "- ms"


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


_KEY = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z]|.?)|[^\x1b]", re.DOTALL)
_BEGUN = re.compile(r"\x1b(?:\[[0-9;]*|O)?\Z")
_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}


class Keyboard:
    """Keys from a terminal, without Enter; a context manager that puts the terminal's settings back, whatever happens.

    Nothing is read, and nothing changed, where there is no terminal or the program runs in its background.

    Parameters
    ----------
    descriptor : int, optional
        The terminal's file descriptor; that of standard input where it is left out.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._reader: _PosixKeys | _WindowsKeys | None = None

    def __enter__(self) -> Keyboard:
        descriptor = self._descriptor
        if descriptor is None and sys.stdin is not None:
            with contextlib.suppress(
                OSError, ValueError
            ):  # standard input may be closed, or nothing real
                descriptor = sys.stdin.fileno()
        if descriptor is not None and os.isatty(descriptor):
            if sys.platform == "win32":
                self._reader = _WindowsKeys()
            elif not _in_background(descriptor):
                self._reader = _PosixKeys(descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.restore()
            self._reader = None

    @property
    def reads(self) -> bool:
        """Whether there is a terminal to read from."""
        return self._reader is not None

    def keys(self, wait_seconds: float = DRAW_SECONDS) -> Iterator[str]:
        """Yield each key as it is pressed ("up" and "down" for the arrows), and "" whenever none was for `wait_seconds`."""
        while True:
            if self._reader is None:
                time.sleep(wait_seconds)
                yield ""
            else:
                yield from self._reader.read(wait_seconds) or [""]


def _in_background(descriptor: int) -> bool:
    """Return whether the shell has put the program into the terminal's background: it would be stopped for touching it."""
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # a terminal that no shell manages
        return False


class _PosixKeys:
    def __init__(self, descriptor: int) -> None:
        import termios  # POSIX only
        import tty

        self._descriptor, self._begun, self._ended = descriptor, "", False
        self._termios: ModuleType = termios
        self._settings = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor)  # not raw: Ctrl-C and Ctrl-Z keep their meaning
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        with contextlib.suppress(self._termios.error):  # the terminal's window may have been closed
            self._termios.tcsetattr(self._descriptor, self._termios.TCSADRAIN, self._settings)

    def read(self, wait_seconds: float) -> list[str]:
        if self._ended:
            time.sleep(wait_seconds)
            return []
        if not select.select([self._descriptor], [], [], wait_seconds)[0]:
            self._begun = ""  # Escape alone, and no sequence
            return []
        try:
            got = os.read(self._descriptor, 256)
        except OSError:
            got = b""
        self._ended = not got  # the terminal is gone
        text = self._begun + got.decode("utf-8", errors="replace")
        begun = _BEGUN.search(text)
        self._begun = begun[0] if begun else ""
        found = _KEY.findall(text.removesuffix(self._begun))
        return [
            key
            for key in (
                _ARROWS.get(key[2:], "") if key.startswith("\x1b") else key for key in found
            )
            if key
        ]


class _WindowsKeys:
    """Keys of a Windows console; it needs no settings."""

    def restore(self) -> None:
        pass

    def read(self, wait_seconds: float) -> list[str]:
        import msvcrt  # Windows only

        console: Any = msvcrt
        ends_at = time.monotonic() + wait_seconds
        while not console.kbhit():
            if time.monotonic() >= ends_at:
                return []
            time.sleep(0.01)
        key: str = console.getwch()
        if key in {"\x00", "\xe0"}:  # the first of the two codes of an arrow
            return [name] if (name := {"H": "up", "P": "down"}.get(console.getwch(), "")) else []
        return [key]
