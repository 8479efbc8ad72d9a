"""Settings of a live stream: which windows and which buffer give the wished latency."""

from __future__ import annotations

from pathlib import Path

from rtden.denoiser import settings_for_latency
from rtden.errors import SettingsError
from rtden.live.clock import LONGEST_BUFFER_SECONDS
from rtden.live.endpoint import Endpoint
from rtden.live.path import resampling_seconds
from rtden.model import Model, load_spec
from rtden.settings import Settings

DEFAULT_BUFFER_MS = 15.0
"""Sound kept ready for the sink beyond its blocks: the worker may be as late as that."""
LIVE_LATENCY_MS = 30.0
LEAST_BUFFER_MS = 5.0
BLOCK_SECONDS = 0.01
"""Assumed length of a device's block until the first one has come."""


def live_settings(
    settings: Settings | None = None, *, model: str | Path | Model | None = None
) -> Settings:
    """Return settings for a live stream: `LIVE_LATENCY_MS` of algorithmic latency.

    Explicit `overlap_samples` are kept, and settings with several hops per step, which take longer.
    """
    settings = settings or Settings()
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

    Devices and resamplers take their part first. Of the rest the buffer gets `buffer_ms` or 15 ms,
    and the denoiser what remains; what it cannot use goes to the buffer. Raises SettingsError if
    `total_ms` is not positive.
    """
    if not total_ms > 0:
        raise SettingsError(f"a latency must be more than 0 ms, not {total_ms:g}.")
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
    return chosen, min(1000.0 * LONGEST_BUFFER_SECONDS, rest_ms)
