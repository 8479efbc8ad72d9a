"""Presets: which settings of a live stream a machine can carry."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtden.denoiser import Denoiser
from rtden.errors import SettingsError
from rtden.model import find_model, load_spec
from rtden.noise import babble
from rtden.settings import HOPS_PER_STEP, Settings

AUTO = "auto"
SELF_TEST_SECONDS = 0.5
"""Time that :func:`self_test` takes, the loading of the model aside."""
HIGHEST_LOAD = 0.4
"""Highest load of one core: the rest is for resampling, the system, and a warm, slow processor."""
FEWEST_STEPS = 3


class Preset(NamedTuple):
    """What to run on a kind of machine: new columns per step, and sound kept ready."""

    hops_per_step: int
    buffer_ms: float


# bench/pi/README.md has the estimates behind these. One network serves all: `seed`, the smaller
# one, does seven times its work at a far worse quality, for it takes whole windows.
PRESETS = {
    "zero2": Preset(hops_per_step=4, buffer_ms=60.0),
    "pi4": Preset(hops_per_step=1, buffer_ms=30.0),
    "pi5": Preset(hops_per_step=1, buffer_ms=20.0),
    "desktop": Preset(hops_per_step=1, buffer_ms=15.0),
}
NAMES = (*PRESETS, AUTO)


def find_preset(name: str, model: str | Path | None = None) -> Preset:
    """Return a preset by its name; "auto" is found by :func:`self_test`.

    Raises SettingsError if there is no such preset, ModelError if the model cannot be used.
    """
    check_name(name)
    return self_test(model) if name == AUTO else PRESETS[name]


def check_name(name: str) -> None:
    """Raise SettingsError unless there is a preset of this name."""
    if name not in NAMES:
        raise SettingsError(f"there is no preset '{name}'; choose one of {', '.join(NAMES)}.")


def self_test(model: str | Path | None = None, *, seconds: float = SELF_TEST_SECONDS) -> Preset:
    """Return the preset of least delay whose load here is at most `HIGHEST_LOAD`, or the lightest.

    The measurement takes `seconds` in all. Slower machines are also less even, so the buffer grows
    with the load, from the desktop's to the weakest machine's.
    """
    least_ms, most_ms = PRESETS["desktop"].buffer_ms, PRESETS["zero2"].buffer_ms
    for hops_per_step in HOPS_PER_STEP:
        carried = load(model, hops_per_step, seconds=seconds / len(HOPS_PER_STEP))
        if carried <= HIGHEST_LOAD and hops_per_step == 1:
            more_ms = carried / HIGHEST_LOAD * (most_ms - least_ms)
            return Preset(1, float(round(least_ms + more_ms)))
        if carried <= HIGHEST_LOAD:
            break
    return Preset(hops_per_step, most_ms)


def load(model: str | Path | None, hops_per_step: int, *, seconds: float) -> float:
    """Return processing time over real time, by the median of :func:`time_steps`."""
    spec = load_spec(find_model(model))
    step_seconds = float(np.median(time_steps(model, hops_per_step, seconds=seconds)))
    return step_seconds * spec.rate_hz / (hops_per_step * spec.hop)


def time_steps(model: str | Path | None, hops_per_step: int, *, seconds: float) -> list[float]:
    """Return the times of the steps that `seconds` allow, in seconds; three at the least."""
    denoiser = Denoiser(model, Settings(hops_per_step=hops_per_step))
    signal = babble(denoiser.rate_hz, denoiser.rate_hz)
    step = denoiser.step_samples
    denoiser.feed(signal[: step + denoiser.spec.n_fft])  # the first call of everything costs more
    times: list[float] = []
    ends_at = time.perf_counter() + seconds
    while time.perf_counter() < ends_at or len(times) < FEWEST_STEPS:
        at = step * (len(times) % (len(signal) // step))
        began = time.perf_counter()
        denoiser.feed(signal[at : at + step])
        times.append(time.perf_counter() - began)
    return times
