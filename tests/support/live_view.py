"""An engine for the view: it reports what it is told to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rtden.live.status import LatencyParts, LiveStatus
from rtden.mel import band_edges_hz

CENTRES_HZ = tuple(band_edges_hz(128, 0.0, 11025.0)[1:-1].tolist())
STATUS = LiveStatus(
    seconds=83.4,
    input_db=-25.7,
    output_db=-28.1,
    input_peak_db=-9.3,
    output_peak_db=-12.2,
    noise_removed_db=42.8,
    load=0.058,
    mean_load=0.07,
    flagged_blocks=0,
    dropouts=0,
    disconnects=0,
    lost_ms=0.0,
    drift_ppm=12.4,
    buffer_ms=31.0,
    latency_ms=124.6,
    state="running",
)
LATENCY = LatencyParts(
    source_ms=20.0, resampling_ms=16.0, denoiser_ms=46.4, buffer_ms=25.0, sink_ms=19.0
)


@dataclass
class _Engine:
    """Returns the same status again and again; the gain is one below band 64 and zero above."""

    said: LiveStatus = STATUS
    strength: float = 1.0
    bypassed: bool = False
    muted: bool = False
    looks: int = 0
    ends_after: int = 1 << 30
    error: Exception | None = None
    latency: LatencyParts = LATENCY
    band_centres_hz: tuple[float, ...] = CENTRES_HZ
    band_gains: np.ndarray = field(default_factory=lambda: (np.arange(128) < 64).astype(np.float32))

    def status(self) -> LiveStatus:
        self.looks += 1
        return replace(self.said, seconds=self.said.seconds + 0.1 * self.looks)

    @property
    def running(self) -> bool:
        if self.error is not None and self.looks >= self.ends_after:
            raise self.error
        return self.looks < self.ends_after


FakeEngine: Any = _Engine
