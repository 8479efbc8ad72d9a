"""The live view, drawn on consoles that record, and keys from real pseudo-terminals."""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rtden.app.view import HELP, Keyboard, LiveView, obey, status_json, watch, xruns_in_words
from rtden.errors import DeviceError
from rtden.mel import band_edges_hz

pytestmark = pytest.mark.real_time

CENTRES_HZ = band_edges_hz(128, 0.0, 11025.0)[1:-1]


@dataclass(frozen=True)
class FakeStatus:
    seconds: float = 83.4
    input_db: float = -25.7
    output_db: float = -28.1
    input_peak_db: float = -9.3
    output_peak_db: float = -12.2
    noise_removed_db: float = 42.8
    load: float = 0.058
    mean_load: float = 0.07
    xruns: int = 0
    flagged_blocks: int = 0
    dropouts: int = 0
    disconnects: int = 0
    lost_ms: float = 0.0
    drift_ppm: float = 12.4
    buffer_ms: float = 31.0
    latency_ms: float = 124.6
    state: str = "running"


@dataclass(frozen=True)
class FakeLatency:
    source_ms: float = 20.0
    resampling_ms: float = 16.0
    denoiser_ms: float = 46.4
    buffer_ms: float = 25.0
    sink_ms: float = 19.0

    @property
    def total_ms(self) -> float:
        return (
            self.source_ms + self.resampling_ms + self.denoiser_ms + self.buffer_ms + self.sink_ms
        )


@dataclass
class FakeEngine:
    """Says what it is told to say; the gains are one below band 64 and nothing above."""

    said: FakeStatus = field(default_factory=FakeStatus)
    strength: float = 1.0
    bypassed: bool = False
    muted: bool = False
    looks: int = 0
    ends_after: int = 1 << 30
    error: Exception | None = None

    def status(self) -> FakeStatus:
        self.looks += 1
        return replace(self.said, seconds=self.said.seconds + 0.1 * self.looks)

    @property
    def latency(self) -> FakeLatency:
        return FakeLatency()

    @property
    def band_gains(self) -> np.ndarray:
        return (np.arange(128) < 64).astype(np.float32)

    @property
    def running(self) -> bool:
        if self.error is not None and self.looks >= self.ends_after:
            raise self.error
        return self.looks < self.ends_after


def drawn(
    engine: FakeEngine,
    *,
    width: int = 80,
    height: int = 24,
    color_system: str | None = None,
    looks: int = 30,
    encoding: str = "utf-8",
) -> list[str]:
    """Return the lines of the screen."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=file,
        record=True,
        width=width,
        height=height,
        force_terminal=True,
        color_system=color_system,  # type: ignore[arg-type]
        no_color=color_system is None,
        legacy_windows=False,
    )
    view = LiveView("usb mic to rtden", CENTRES_HZ)
    for _ in range(looks):
        view.look(engine)
    console.print(view, end="", height=height)
    file.flush()  # what the encoding lacks would raise here
    lines = console.export_text(clear=False).split("\n")
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    return lines


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
@pytest.mark.parametrize("color_system", [None, "standard", "256", "truecolor"])
def test_everything_is_on_the_screen(width: int, height: int, color_system: str | None) -> None:
    lines = drawn(FakeEngine(), width=width, height=height, color_system=color_system)
    assert lines[0].startswith("rtden  usb mic to rtden")
    assert lines[0].endswith("0:01:26")
    assert lines[1].startswith("denoising, strength 1.0")
    assert lines[2].startswith("input  ━")
    assert lines[2].endswith("-25.7 dB  peak   -9.3 dB")
    assert lines[3].startswith("output ━")
    assert lines[3].endswith("-28.1 dB  peak  -12.2 dB")
    text = "\n".join(" ".join(line.split()) for line in lines)
    for words in (
        "noise removed 42.8 dB",
        "load of one core 5.8 %",
        "latency now 125 ms",
        "planned 126 ms",
        "input 20 ms",
        "resampling 16 ms",
    ):
        assert words in text
    for words in (
        "denoiser 46 ms",
        "buffer 25 ms",
        "output 19 ms",
        "buffer now 31 ms",
        "clock drift +12 ppm",
        "xruns none",
        "s ago -30 dB",
    ):
        assert words in text
    assert lines[-1].split() == [
        word for key, does in HELP for word in (*key.split(), *does.split())
    ]


def test_without_colour_shades_show_what_passes() -> None:
    lines = drawn(FakeEngine(), looks=20)
    rows = [line[7:50] for line in lines[6:22]]
    assert all(row.strip() == "" for row in rows[:8])  # high bands are removed
    assert all(row == " " * 23 + "█" * 20 for row in rows[8:])  # low ones pass, since twenty looks


def test_in_colour_what_passes_is_bright() -> None:
    console = Console(
        file=io.StringIO(),
        width=80,
        height=24,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    view = LiveView("", CENTRES_HZ)
    for _ in range(60):
        view.look(FakeEngine())
    rows = console.render_lines(view, console.options.update(height=24), pad=False)[6:22]
    assert [str(row[1].style) for row in rows] == ["on #0b0724"] * 8 + ["on #fcfdbf"] * 8
    assert all(row[1].text == " " * 43 for row in rows)


def test_in_colour_a_character_shows_two_groups_one_above_the_other() -> None:
    class Striped(FakeEngine):
        @property
        def band_gains(self) -> np.ndarray:
            return (np.arange(128) // 4 % 2).astype(
                np.float32
            )  # four bands of 128 are a group where there are 16 rows

    console = Console(
        file=io.StringIO(),
        width=80,
        height=24,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    view = LiveView("", CENTRES_HZ)
    for _ in range(60):
        view.look(Striped())
    rows = console.render_lines(view, console.options.update(height=24), pad=False)[6:22]
    assert {str(row[1].style) for row in rows} == {"#fcfdbf on #0b0724"}
    assert all(row[1].text == "▀" * 43 for row in rows)


def test_a_terminal_that_knows_ascii_only() -> None:
    lines = drawn(FakeEngine(), encoding="ascii")
    assert lines[2].startswith("input  ###")
    assert "█" not in "".join(lines)


@pytest.mark.parametrize(("width", "height"), [(40, 10), (20, 5), (60, 12), (10, 2), (300, 80)])
def test_any_size_of_terminal_is_filled(width: int, height: int) -> None:
    lines = drawn(FakeEngine(), width=width, height=height)
    assert lines[0].startswith("rtden")
    assert "b" in lines[-1]


def test_the_meter_follows_the_level_and_the_peak_is_held() -> None:
    engine = FakeEngine(FakeStatus(input_db=-30.0, input_peak_db=-6.0))
    console = Console(
        file=io.StringIO(),
        record=True,
        width=107,
        height=24,
        force_terminal=True,
        no_color=True,
        legacy_windows=False,
    )
    view = LiveView()

    def meter() -> str:
        view.look(engine)
        console.print(view, end="", height=24)
        return console.export_text().split("\n")[2][7:81]

    columns = len(meter())
    assert meter().count("━") == columns // 2
    engine.said = FakeStatus(input_db=-30.0, input_peak_db=-20.0)
    assert meter().index("┃") == int(0.9 * columns)
    positions = [meter().index("┃") for _ in range(40)]
    assert positions[8] == int(0.9 * columns)  # held for a second and more
    assert positions == sorted(positions, reverse=True)
    assert positions[-1] == int(columns * 2 / 3)  # -20 dB


def test_silence_and_what_is_not_known_yet_are_said_so() -> None:
    unknown = FakeStatus(
        input_db=-math.inf,
        output_db=-math.inf,
        input_peak_db=-math.inf,
        output_peak_db=-math.inf,
        noise_removed_db=math.nan,
        drift_ppm=math.nan,
    )
    lines = drawn(FakeEngine(unknown))
    assert lines[2].endswith("   silent  peak    silent")
    assert "━" not in lines[2]
    assert "┃" not in lines[2]
    text = " ".join(" ".join(lines).split())
    assert "noise removed - dB" in text
    assert "clock drift -" in text


def test_states_are_said_in_words() -> None:
    assert (
        "input lost: waiting for usb mic to come back"
        in drawn(FakeEngine(FakeStatus(state="input lost: waiting for usb mic to come back")))[1]
    )
    assert drawn(FakeEngine(bypassed=True))[1].startswith(" BYPASS ")
    assert drawn(FakeEngine(muted=True, bypassed=True))[1].startswith(" MUTED ")
    assert "strength 0.3" in drawn(FakeEngine(strength=0.3))[1]


def test_xruns_are_said_in_words() -> None:
    assert xruns_in_words(FakeStatus()) == "none"
    assert (
        xruns_in_words(FakeStatus(xruns=1, flagged_blocks=1)) == "1 block late or lost at a device"
    )
    troubled = FakeStatus(xruns=5, flagged_blocks=3, dropouts=2, lost_ms=84.2)
    assert (
        xruns_in_words(troubled) == "3 blocks late or lost at a device; 2 dropouts, 84 ms left out"
    )
    text = " ".join(line[53:].strip() for line in drawn(FakeEngine(troubled)))
    assert f"5 xruns: {xruns_in_words(troubled)}" in text


def test_status_as_json() -> None:
    line = status_json(FakeStatus(noise_removed_db=math.nan, input_db=-math.inf), FakeLatency())
    assert "\n" not in line
    said = json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert set(said) == {*FakeStatus.__dataclass_fields__, "planned_latency"}
    assert said["noise_removed_db"] is None
    assert said["input_db"] is None
    assert said["output_db"] == -28.1
    assert said["state"] == "running"
    assert said["planned_latency"] == {
        "total_ms": 126.4,
        "source_ms": 20.0,
        "resampling_ms": 16.0,
        "denoiser_ms": 46.4,
        "buffer_ms": 25.0,
        "sink_ms": 19.0,
    }


def test_keys_change_the_engine() -> None:
    engine = FakeEngine()
    for key, wanted in (
        ("b", (1.0, True, False)),
        ("m", (1.0, True, True)),
        ("-", (0.9, True, True)),
        ("down", (0.8, True, True)),
        ("b", (0.8, False, True)),
    ):
        obey(key, engine)
        assert (engine.strength, engine.bypassed, engine.muted) == wanted
    for key, strength in (
        ("up", 0.9),
        ("=", 1.0),
        ("+", 1.0),
        ("x", 1.0),
        ("left", 1.0),
        ("", 1.0),
    ):
        obey(key, engine)
        assert engine.strength == strength
    for _ in range(12):
        obey("-", engine)
    assert engine.strength == 0.0


def screen(height: int = 24) -> Console:
    return Console(
        file=io.StringIO(),
        width=80,
        height=height,
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_watch_draws_on_the_alternate_screen_and_leaves_it() -> None:
    console, engine = screen(), FakeEngine()
    watch(engine, console, iter(["", "b", "q", "m"]), title="here to there")
    assert engine.bypassed
    assert not engine.muted  # what comes after "q" is not read
    said = printed(console)
    assert said.startswith("\x1b[?1049h")
    assert "here to there" in said
    assert "\x1b[?1049l" in said
    assert said.endswith("\x1b[?25h")  # the cursor is back


def test_watch_ends_with_the_engine_with_its_error_and_with_the_time() -> None:
    def waits() -> Iterator[str]:
        while True:
            time.sleep(0.1)
            yield ""

    engine = FakeEngine(ends_after=3)
    watch(engine, screen(), waits())
    assert engine.looks == 3
    console = screen()
    with pytest.raises(DeviceError, match="gone"):
        watch(FakeEngine(ends_after=2, error=DeviceError("gone")), console, waits())
    assert "\x1b[?1049l" in printed(console)
    began, engine = time.monotonic(), FakeEngine()
    watch(engine, screen(), waits(), duration=1.0)
    assert 0.9 < time.monotonic() - began < 2.0
    assert 6 <= engine.looks <= 11


def test_a_key_held_down_does_not_draw_more_often() -> None:
    engine = FakeEngine()
    watch(engine, screen(), iter(["+"] * 200))
    assert engine.looks < 10


class Terminal:
    """A pseudo-terminal; `descriptor` is the program's side."""

    def __init__(self) -> None:
        self.typist, self.descriptor = pty.openpty()

    def press(self, keys: str) -> None:
        os.write(self.typist, keys.encode())

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.descriptor)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    for descriptor in (opened.typist, opened.descriptor):
        os.close(descriptor)


def test_keys_come_without_enter_and_the_settings_come_back(terminal: Terminal) -> None:
    before = terminal.settings()
    with Keyboard(terminal.descriptor) as keyboard:
        assert keyboard.reads
        assert terminal.settings() != before
        keys = keyboard.keys(0.05)
        assert next(keys) == ""
        terminal.press("b+\x1b[A\x1b[B\x1bOAm\x1b[15~é")
        assert [next(keys) for _ in range(8)] == ["b", "+", "up", "down", "up", "m", "é", ""]
        terminal.press("\x1b[")  # a sequence in two pieces
        assert next(keys) == ""
        terminal.press("A")
        assert next(keys) == "up"
        terminal.press("\x1b")
        assert [next(keys), next(keys)] == ["", ""]
        terminal.press("q")  # after Escape alone
        assert next(keys) == "q"
        terminal.press("\x1bq-")  # Alt-q is not q
        assert next(keys) == "-"
    assert terminal.settings() == before


def _fail_unless(changed: bool) -> None:
    assert changed
    raise ZeroDivisionError


def test_the_settings_come_back_after_an_exception(terminal: Terminal) -> None:
    before = terminal.settings()
    with pytest.raises(ZeroDivisionError), Keyboard(terminal.descriptor):
        _fail_unless(terminal.settings() != before)
    assert terminal.settings() == before


def test_a_terminal_that_is_closed_ends_the_keys_and_nothing_else() -> None:
    typist, descriptor = pty.openpty()
    with Keyboard(descriptor) as keyboard:
        os.close(typist)
        keys, began = keyboard.keys(0.1), time.monotonic()
        assert [next(keys) for _ in range(5)] == [""] * 5
        assert time.monotonic() - began > 0.35  # it waits, and does not spin
    os.close(descriptor)


def test_without_a_terminal_there_are_no_keys() -> None:
    reading, writing = os.pipe()
    with Keyboard(reading) as keyboard:
        assert not keyboard.reads
        began = time.monotonic()
        assert next(keyboard.keys(0.1)) == ""
        assert time.monotonic() - began >= 0.09
    os.close(reading)
    os.close(writing)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from rich.console import Console
from test_view import CENTRES_HZ, FakeEngine
from rtden.app.view import Keyboard, watch
engine = FakeEngine()
try:
    with Keyboard() as keyboard:
        watch(engine, Console(), keyboard.keys(), title="here to there", centres_hz=CENTRES_HZ)
    print("ended", engine.strength, engine.bypassed)
except KeyboardInterrupt:
    print("interrupted", engine.strength, engine.bypassed)
"""


TAKE_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
IN_BACKGROUND = """
import subprocess, sys
code = "from rtden.app.view import Keyboard\\nwith Keyboard() as keyboard: print('reads', keyboard.reads)"
subprocess.run([sys.executable, "-c", code], preexec_fn=__import__("os").setpgrp, check=True, timeout=10)
"""


class Program:
    """A program in a process of its own, whose controlling terminal is a pseudo-terminal."""

    def __init__(self, code: str = PROGRAM, **environment: str) -> None:
        self.typist, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.descriptor)
        self.said = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL + code, str(Path(__file__).parents[1])],
            stdin=self.descriptor,
            stdout=self.descriptor,
            stderr=self.descriptor,
            start_new_session=True,
            env={
                **{
                    name: value
                    for name, value in os.environ.items()
                    if name not in {"NO_COLOR", "COLORTERM"}
                },
                "TERM": "xterm-256color",
                **environment,
            },
        )

    def wait_for(self, words: str) -> None:
        ends_at = time.monotonic() + 20
        while words not in self.said and time.monotonic() < ends_at:
            if select.select([self.typist], [], [], 0.1)[0]:
                self.said += os.read(self.typist, 1 << 16).decode("utf-8", errors="replace")
        assert words in self.said

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self.descriptor)
        os.close(self.typist)


@pytest.fixture
def program() -> Iterator[Program]:
    started = Program()
    yield started
    started.end()


def test_in_a_real_terminal_keys_arrive_and_the_screen_is_left(program: Program) -> None:
    program.wait_for("here to there")
    program.wait_for("quit")
    os.write(program.typist, b"b\x1b[B-")
    program.wait_for("BYPASS")
    os.write(program.typist, b"q")
    program.wait_for("ended 0.8 True")
    assert (
        program.said.index("\x1b[?1049h")
        < program.said.index("\x1b[?1049l")
        < program.said.index("ended")
    )
    assert termios.tcgetattr(program.descriptor) == program.before


def test_ctrl_c_in_a_real_terminal_restores_it(program: Program) -> None:
    program.wait_for("quit")
    assert termios.tcgetattr(program.descriptor) != program.before
    os.write(program.typist, b"\x03")
    program.wait_for("interrupted 1.0 False")
    assert "\x1b[?1049l" in program.said
    assert termios.tcgetattr(program.descriptor) == program.before


def test_no_color_is_respected_in_a_real_terminal() -> None:
    program = Program(NO_COLOR="1")
    try:
        program.wait_for("quit")
        os.write(program.typist, b"q")
        program.wait_for("ended")
        assert "\x1b[38" not in program.said
        assert "\x1b[48" not in program.said
        assert "━" in program.said
        assert "█" in program.said
    finally:
        program.end()


def test_in_the_background_of_a_terminal_it_is_not_touched() -> None:
    program = Program(IN_BACKGROUND)
    try:
        program.wait_for("reads False")  # a program that touched it would have been stopped
        assert termios.tcgetattr(program.descriptor) == program.before
    finally:
        program.end()


MEASURE = """
import io, itertools, sys, time
sys.path.insert(0, sys.argv[1])
from rich.console import Console
from test_view import CENTRES_HZ, FakeEngine
from rtden.app.view import watch
console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system="truecolor", legacy_windows=False)
engine = FakeEngine()
rng = __import__("numpy").random.default_rng(0)
type(engine).band_gains = property(lambda _: rng.random(128, "float32").repeat(2)[:128])

def keys():
    for _ in range(40):
        time.sleep(0.1)
        yield ""

watch(engine, console, keys(), centres_hz=CENTRES_HZ)  # what is done once
shares = []
for _ in range(3):
    began, cpu = time.monotonic(), time.process_time()
    watch(engine, console, keys(), centres_hz=CENTRES_HZ)
    shares.append((time.process_time() - cpu) / (time.monotonic() - began))
print(min(shares))  # what others do on a shared machine only adds
"""


def test_drawing_costs_little() -> None:
    said = subprocess.run(
        [sys.executable, "-c", MEASURE, str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert float(said) < 0.03  # of one core
