"""Fair comparisons of time: in one run, in turns, each denoiser in a process of its own.

The order rotates. What disturbs a machine for a while then disturbs all alike,
and ratios are taken pair by pair within a round.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soxr
from drivers import LONGEST_DELAY_SECONDS, Driver, delay_samples
from worker import ONE_THREAD

from rtden.errors import RtdenError
from rtden.files.audio_file import Progress, read_aligned
from rtden.types import Array

RECORDING = Path(__file__).parents[1] / "tests" / "data" / "noisy.flac"
FIRST_SECONDS = 0.5
"""What a fresh process gets to begin with."""

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """How repeated measurements lie: quartiles, extremes, the median absolute deviation."""

    median: float
    low: float
    high: float
    least: float
    most: float
    mad: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return that of some values."""
        least, low, median, high, most = (
            float(p) for p in np.percentile(values, (0, 25, 50, 75, 100))
        )
        mad = float(np.median(np.abs(np.array(values) - median)))
        return cls(median, low, high, least, most, mad)


@dataclass(frozen=True)
class Cost:
    """What a denoiser cost.

    `frame_samples` is 0 if it takes the whole recording at once. A round has `audio_seconds` of
    sound and took `seconds` by the clock and `processor_seconds` on all cores. `start_seconds` go
    from the start of a fresh process until the first sound has come out. `delay_ms` goes from a
    sample's arrival until it can be played, beside the time to compute; None for whole files.
    """

    rate_hz: int
    frame_samples: int
    audio_seconds: float
    seconds: list[float]
    processor_seconds: list[float]
    start_seconds: list[float]
    peak_mb: float
    delay_ms: float | None

    @property
    def cpu_per_second(self) -> list[float]:
        """CPU time on all cores over audio time, of each round."""
        return [seconds / self.audio_seconds for seconds in self.processor_seconds]

    @property
    def cores(self) -> float:
        """How many cores were at work on the average."""
        return sum(self.processor_seconds) / sum(self.seconds)


class Worker:
    """A denoiser in a process of its own, ready for its first frame.

    Raises RtdenError if it cannot be started or ends early.
    """

    def __init__(self, name: str, make: Callable[[], Driver], first: Array) -> None:
        self._name = name
        began = time.perf_counter()
        script = Path(__file__).with_name("worker.py")
        self._process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
        )
        self.ask("start", (make, first))
        self.start_seconds = time.perf_counter() - began

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: str, content: Any = None) -> Any:
        """Return the process's answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((question, content), self._process.stdin)
            self._process.stdin.flush()
            kind, answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            self.close()
            early = f"the process of {self._name} ended early (code {self._process.returncode})"
            raise RtdenError(f"{early}; run it alone to see why.") from None
        if kind == "error":
            self.close()
            ours = isinstance(answer, RtdenError)
            raise answer if ours else RtdenError(f"{self._name} does not run: {answer}.")
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):  # of a process that is gone already
            self._process.communicate()


def interleaved(
    turns: Mapping[str, Callable[[], T]], rounds: int, progress: Progress | None = None
) -> dict[str, list[T]]:
    """Call functions in turns, each round beginning with another one; return their results."""
    names = list(turns)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(turns[name]())
        if progress is not None:
            progress(number + 1, rounds)
    return found


def ratios(above: list[float], below: list[float]) -> Spread:
    """Return how the ratios of two measurements, round by round, lie."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def noisy_speech(seconds: float) -> tuple[Array, int]:
    """Return the bundled noisy recording, repeated for so long, and its rate."""
    (samples,), rate_hz = read_aligned(RECORDING)
    return np.resize(samples, round(seconds * rate_hz)), rate_hz


def processor_name() -> str:
    """Return the processor's name, or its architecture where the system tells no more."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if told := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return told[1]
    return platform.machine()


def measure_costs(
    drivers: Mapping[str, Callable[[], Driver]],
    noisy: Array,
    rate_hz: int,
    *,
    rounds: int,
    starts: int = 1,
    progress: Progress | None = None,
) -> dict[str, Cost]:
    """Run denoisers over the same sound, in turns, each in a process of its own.

    Each of `drivers` makes a driver in its process; `noisy` is resampled for it beforehand. It
    processes all of that `rounds` times, beside a first time to warm up, and is started `starts`
    times. Raises RtdenError if one does not run.
    """
    first = noisy[: round(FIRST_SECONDS * rate_hz)]

    def start(name: str) -> float:
        with Worker(name, drivers[name], first) as worker:
            return worker.start_seconds

    start_seconds = interleaved({name: functools.partial(start, name) for name in drivers}, starts)
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(name, make, first)) for name, make in drivers.items()
        }
        rates_hz = {name: int(worker.ask("rate")) for name, worker in workers.items()}
        sound = {own_hz: soxr.resample(noisy, rate_hz, own_hz) for own_hz in set(rates_hz.values())}
        own = {name: sound[own_hz] for name, own_hz in rates_hz.items()}
        warm = {name: worker.ask("load", own[name]) for name, worker in workers.items()}
        turns = {name: functools.partial(worker.ask, "run") for name, worker in workers.items()}
        found = interleaved(turns, rounds, progress)
        peaks_mb = {name: float(worker.ask("peak")) for name, worker in workers.items()}
    return {
        name: _cost(own[name], rates_hz[name], warm[name], found[name], start_seconds[name], peak)
        for name, peak in peaks_mb.items()
    }


def _cost(
    samples: Array,
    rate_hz: int,
    warm: dict[str, Any],
    times: list[tuple[float, float]],
    start_seconds: list[float],
    peak_mb: float,
) -> Cost:
    frame, delay_ms = warm["frame_samples"], None
    whole = len(samples) // frame * frame if frame else len(samples)
    if frame:
        given = warm["given_samples"]
        delay = total_delay_samples(samples, warm["out"], frame, given, rate_hz)
        delay_ms = 1000.0 * delay / rate_hz
    return Cost(
        rate_hz=rate_hz,
        frame_samples=frame,
        audio_seconds=whole / rate_hz,
        seconds=[seconds for seconds, _ in times],
        processor_seconds=[seconds for _, seconds in times],
        start_seconds=start_seconds,
        peak_mb=peak_mb,
        delay_ms=delay_ms,
    )


def total_delay_samples(
    samples: Array, out: Array, frame_samples: int, given_samples: list[int], rate_hz: int
) -> int:
    """Return the delay with which a stream can be played without ever running dry.

    It is the lag of the sound in the output, found by correlation, and the output that had not come
    yet when it was due; `given_samples` came out after each frame. Computing takes no time.
    """
    lag = delay_samples(out, samples, round(LONGEST_DELAY_SECONDS * rate_hz))
    given_before = itertools.accumulate(given_samples[:-1], initial=0)
    return lag + max(
        frame_samples * (number + 1) - given for number, given in enumerate(given_before)
    )
