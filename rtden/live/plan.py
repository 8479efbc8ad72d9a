"""Settings of a live stream: what a wished latency needs, and what a machine can carry."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtden.denoiser import Denoiser, settings_for_latency
from rtden.errors import SettingsError
from rtden.live.delay import LONGEST_BUFFER_SECONDS
from rtden.live.endpoint import Endpoint
from rtden.live.path import resampling_seconds
from rtden.model import Model, load_spec
from rtden.noise import babble
from rtden.settings import HOPS_PER_STEP, Settings, check_settings, number

DEFAULT_BUFFER_MS = 15.0  # sound for the sink beyond its blocks: the worker may be as late as that
LIVE_LATENCY_MS = 30.0
LEAST_BUFFER_MS = 5.0
BLOCK_SECONDS = 0.01  # assumed length of a device's block until the first one has come
AUTO = "auto"
SELF_TEST_SECONDS = 0.5  # that :func:`self_test` takes, the loading of the model aside
HIGHEST_LOAD = 0.4  # of one core: the rest is for resampling, the system, a warm, slow processor
FEWEST_STEPS = 3


def live_settings(
    settings: Settings | None = None, *, model: str | Path | Model | None = None
) -> Settings:
    """Return settings for a live stream: `LIVE_LATENCY_MS` of algorithmic latency.

    Explicit `overlap_samples` are kept, and settings with several hops per step, which take longer.
    """
    settings = check_settings(settings)
    if settings.hops_per_step > 1 or settings.overlap_samples is not None:
        return settings
    return settings_for_latency(LIVE_LATENCY_MS, model=model, settings=settings)[0]


def settings_for_total_latency(
    total_ms: float,
    source: Endpoint,
    sink: Endpoint,
    *,
    model: str | Path | Model | None = None,
    settings: Settings | None = None,
    buffer_ms: float | None = None,
) -> tuple[Settings, float]:
    """Return settings and buffer in ms for a total delay close to `total_ms`, from below.

    Devices and resamplers take their part first, then the buffer `buffer_ms` or 15 ms. The rest is
    the denoiser's; the part that it cannot use goes to the buffer. Raises SettingsError if
    `total_ms` is not positive, or more than the longest buffer makes of it.
    """
    if not number(total_ms) > 0:
        raise SettingsError(f"a latency must be more than 0 ms, not {total_ms!r}.")
    model_hz = load_spec(model).rate_hz
    fixed_seconds = resampling_seconds(source.rate_hz, sink.rate_hz, model_hz) + sum(
        side.latency_seconds + (side.block_samples / side.rate_hz or BLOCK_SECONDS)
        for side in (source, sink)
    )
    room_ms = total_ms - 1000.0 * fixed_seconds
    least_ms = DEFAULT_BUFFER_MS if buffer_ms is None else buffer_ms
    wish_ms = max(1.0, room_ms - least_ms)
    chosen, latency = settings_for_latency(wish_ms, model=model, settings=settings)
    if buffer_ms is not None:
        return chosen, buffer_ms
    rest_ms = max(LEAST_BUFFER_MS, room_ms - 1000.0 * latency.seconds)
    most_ms = 1000.0 * (fixed_seconds + latency.seconds + LONGEST_BUFFER_SECONDS)
    if total_ms > most_ms:
        raise SettingsError(
            f"a latency between these places is {int(most_ms)} ms at most, not {total_ms:g} ms; "
            "give less."
        )
    return chosen, rest_ms


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
        if carried <= HIGHEST_LOAD:
            break
    part = carried / HIGHEST_LOAD if hops_per_step == 1 else 1.0
    return Preset(hops_per_step, float(round(least_ms + part * (most_ms - least_ms))))


def load(model: str | Path | None, hops_per_step: int, *, seconds: float) -> float:
    """Return processing time over real time, by the median of the steps that `seconds` allow."""
    denoiser = Denoiser(model, Settings(hops_per_step=hops_per_step))
    signal, step = babble(denoiser.rate_hz, denoiser.rate_hz), denoiser.step_samples
    denoiser.feed(signal[: step + denoiser.spec.n_fft])  # the first call of everything costs more
    times: list[float] = []
    ends_at = time.perf_counter() + seconds
    while time.perf_counter() < ends_at or len(times) < FEWEST_STEPS:
        at = step * (len(times) % (len(signal) // step))
        began = time.perf_counter()
        denoiser.feed(signal[at : at + step])
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * denoiser.rate_hz / step
