"""Keys from real pseudo-terminals, the view in one, and what drawing it costs."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ended
from waiting import until

from rtden.app.keys import open_keys

SUPPORT = str(Path(__file__).parents[1] / "support")


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
    with open_keys(terminal.descriptor, 0.05) as keys:
        assert terminal.settings() != before
        assert next(keys) == ""
        terminal.press("b+\x1b[A\x1b[B\x1bOAm\x1b[15~é")
        assert [next(keys) for _ in range(5)] == ["b", "+", "m", "é", ""]  # no arrows
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
    with pytest.raises(ZeroDivisionError), open_keys(terminal.descriptor):
        _fail_unless(terminal.settings() != before)
    assert terminal.settings() == before


def test_a_terminal_that_is_closed_ends_the_keys_and_nothing_else() -> None:
    typist, descriptor = pty.openpty()
    with open_keys(descriptor) as keys:
        os.close(typist)
        began = time.monotonic()
        assert [next(keys) for _ in range(5)] == [""] * 5
        assert time.monotonic() - began > 0.35  # it waits, and does not spin
    os.close(descriptor)


def test_without_a_terminal_there_are_no_keys() -> None:
    reading, writing = os.pipe()
    with open_keys(reading) as keys:
        began = time.monotonic()
        assert next(keys) == ""
        assert time.monotonic() - began >= 0.09
    os.close(reading)
    os.close(writing)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from rich.console import Console
from live_view import FakeEngine
from rtden.app.keys import open_keys
from rtden.app.view import watch
engine = FakeEngine()
try:
    with open_keys() as keys:
        watch(engine, Console(), keys, title="here to there")
    print("ended", engine.strength, engine.bypassed)
except KeyboardInterrupt:
    print("interrupted", engine.strength, engine.bypassed)
"""


TAKE_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
IN_BACKGROUND = """
import subprocess, sys
code = (
    "from rtden.app.keys import open_keys\\n"
    "with open_keys() as keys: print('key', repr(next(keys)))"
)
own_group = __import__("os").setpgrp
subprocess.run([sys.executable, "-c", code], preexec_fn=own_group, check=True, timeout=60)
"""


class Program:
    """A program in a process of its own, whose controlling terminal is a pseudo-terminal."""

    def __init__(self, code: str = PROGRAM, **environment: str) -> None:
        self.typist, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.descriptor)
        self.said = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL + code, SUPPORT],
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
        def read() -> bool:
            if select.select([self.typist], [], [], 0.1)[0]:
                self.said += os.read(self.typist, 1 << 16).decode("utf-8", errors="replace")
            return words in self.said

        until(lambda: words in self.said or read(), lambda: self.said)

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
    os.write(program.typist, b"b-\x1b[B-")
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
        program.wait_for("key ''")  # a program that touched it would have been stopped
        assert termios.tcgetattr(program.descriptor) == program.before
    finally:
        program.end()


MEASURE = """
import io, itertools, sys, time
import numpy as np
sys.path.insert(0, sys.argv[1])
from rich.console import Console
from live_view import FakeEngine
from rtden import FrameDenoiser
from rtden.app.view import watch
console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True,
                  color_system="truecolor", legacy_windows=False)
rng = np.random.default_rng(0)

class Restless(FakeEngine):
    def __getattribute__(self, name):
        if name == "band_gains":
            return rng.random(128, "float32").repeat(2)[:128]
        return super().__getattribute__(name)

engine = Restless()

def keys():
    for _ in range(20):
        time.sleep(0.1)
        yield ""

watch(engine, console, itertools.islice(keys(), 5))  # what is done once
denoiser, frame = FrameDenoiser(48000), rng.standard_normal(960).astype(np.float32)

def denoise():
    for _ in range(100):  # two seconds, too
        denoiser.process(frame)

def cpu_seconds(work):
    began = time.process_time()
    work()
    return time.process_time() - began

denoise()
pairs = [(cpu_seconds(lambda: watch(engine, console, keys())), cpu_seconds(denoise))
         for _ in range(3)]
drawn, denoised = map(min, zip(*pairs))  # what others do on a shared machine only adds
print(drawn / denoised)
"""


def test_drawing_costs_little() -> None:
    run = ended([sys.executable, "-c", MEASURE, SUPPORT], check=True)
    assert float(run.stdout) < 1.3  # of what denoising the same sound takes
