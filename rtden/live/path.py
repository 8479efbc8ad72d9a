"""The sound path of a live stream: from the source's samples to the sink's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from rtden.live.endpoint import Endpoint
from rtden.model import Model, load_spec
from rtden.resample import Drift, Interpolator
from rtden.settings import Settings, check_limit_db
from rtden.stream import StreamDenoiser
from rtden.types import Array

IDLE_SECONDS = 5.0
"""Digital silence after which nothing is computed: longer than the network remembers."""


class Controls:
    """What may be changed while sound runs, from any thread; it holds from the next step on.

    `bypassed` sound passes unchanged, as late as otherwise; `muted` sound is silent.
    """

    def __init__(self, strength: float = 1.0, limit_db: float = math.inf) -> None:
        self.bypassed = self.muted = False
        self.strength, self.limit_db = strength, limit_db

    @property
    def strength(self) -> float:
        """Wet share of the output, 0 to 1; what lies outside is limited."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = min(1.0, max(0.0, strength))

    @property
    def limit_db(self) -> float:
        """Largest reduction of any part of the spectrum, in dB."""
        return self._limit_db

    @limit_db.setter
    def limit_db(self, limit_db: float) -> None:
        check_limit_db(limit_db)
        self._limit_db = limit_db


def resampling_seconds(source_hz: int, sink_hz: int, model_hz: int) -> float:
    """Return the delay of the resamplers of a sound path, the one for the clocks apart."""
    pairs = [(source_hz, model_hz), (model_hz, sink_hz)]
    if not _is_direct(source_hz, sink_hz, model_hz):
        pairs = [(source_hz, sink_hz), (sink_hz, model_hz), (model_hz, sink_hz)]
    return sum(Interpolator(*pair).delay_seconds for pair in pairs)


def _is_direct(source_hz: int, sink_hz: int, model_hz: int) -> bool:
    """Return whether sound goes from the source's rate to the model's, then to the sink's.

    So it does where one of the two sides has nothing above the model's band.
    """
    return source_hz != sink_hz and min(source_hz, sink_hz) <= model_hz


class _DirectStream(StreamDenoiser):
    """A stream whose input has another rate than its output."""

    def __init__(self, source_hz: int, *arguments: Any, rate_hz: int, **options: Any) -> None:
        super().__init__(*arguments, rate_hz=rate_hz, low_delay=True, **options)
        self._before = Interpolator(source_hz, self.denoisers[0].rate_hz, channels=self.channels)
        self._ratio = rate_hz / source_hz

    @property
    def inside_samples(self) -> float:
        return self.fed_samples * self._ratio - self.returned_samples

    def flush(self) -> Array:
        self.fed_samples = self.returned_samples + round(self.inside_samples)
        return super().flush()


class SoundPath:
    """Brings sound to the sink's rate and clock, and denoises it.

    `channels` are denoised and returned: one, the mean of the input's, or its first ones. While the
    input has been digital silence for long, the path is `idle` and nothing is computed. `ppm` is
    how much faster to play. `path_seconds` are the delay of the denoiser and of the resamplers
    around it, `bridge_seconds` that of the way to its rate and to the sink's clock.
    """

    def __init__(
        self,
        source: Endpoint,
        sink: Endpoint,
        controls: Controls,
        *,
        channels: int,
        model: str | Path | Model | None = None,
        settings: Settings | None = None,
        full_band: bool = True,
    ) -> None:
        self.source_hz, self.sink_hz, self.channels = source.rate_hz, sink.rate_hz, channels
        source_channels = source.ring.channels
        self._mean = np.full((source_channels, 1), 1.0 / source_channels, np.float32)
        options: dict[str, Any] = {"rate_hz": self.sink_hz, "channels": channels}
        direct = _is_direct(self.source_hz, self.sink_hz, load_spec(model).rate_hz)
        self._stream: StreamDenoiser = (
            _DirectStream(self.source_hz, model, settings, full_band=False, **options)
            if direct
            else StreamDenoiser(model, settings, low_delay=True, full_band=full_band, **options)
        )
        # The clocks are matched at the higher rate, where the filter for it takes nothing away.
        self._drift_last = direct and self.sink_hz > self.source_hz
        self._drift = Drift(channels=channels)
        self._bridge_hz = bridge_hz = self.source_hz if direct else self.sink_hz
        self._rate_change = Interpolator(self.source_hz, bridge_hz, channels=channels)
        self.bridge_seconds = self._rate_change.delay_seconds + self._drift.delay_samples / (
            self.sink_hz if self._drift_last else bridge_hz
        )
        # The first steps are slow: not while sound waits.
        self._stream.feed(np.zeros((self.source_hz // 10, channels), np.float32))
        self._stream.reset()
        self.denoisers, self._controls = self._stream.denoisers, controls
        self._applied: tuple[float, float] | None = None
        self.step_seconds = self.denoisers[0].step_samples / self.denoisers[0].rate_hz
        around = self._stream.resampling_seconds
        self.path_seconds = self.denoisers[0].latency.seconds + around
        self.resampling_seconds = self.bridge_seconds + around
        self.ppm = 0.0
        self.idle, self._silent_samples, self._owed_samples = False, 0, 0.0

    @property
    def inside_samples(self) -> int:
        """Samples at the sink's rate that are in the denoiser."""
        stream = self._stream
        if isinstance(stream, _DirectStream):
            return round(stream.inside_samples)
        return stream.fed_samples - stream.returned_samples

    @property
    def missing_samples(self) -> int:
        """Input samples without which no further step can be completed."""
        if self.idle:
            return round(self.step_seconds * self.source_hz)
        if self._drift_last:
            return self._stream.missing_samples
        missing = self._drift.missing_samples(self._stream.missing_samples)
        same = self._bridge_hz == self.source_hz
        return missing if same else self._rate_change.missing_samples(missing)

    def mix(self, captured: Array) -> Array:
        """Return captured samples with the channels to denoise; shapes (samples, channels)."""
        mixed: Array
        if self.channels == 1 < captured.shape[1]:
            mixed = captured @ self._mean
        else:
            mixed = np.array(captured[:, : self.channels], order="C")
        return mixed

    def feed(self, mixed: Array, *, silent: bool) -> Array:
        """Return the samples that are ready; shapes (samples, channels).

        `silent` says that all samples are zero.
        """
        self._silent_samples = self._silent_samples + len(mixed) if silent else 0
        if self._silent_samples > IDLE_SECONDS * self.source_hz:
            return self._rest(len(mixed))
        self.idle = False
        self._apply()
        self._drift.ppm = self.ppm
        if self._drift_last:
            return self._drift.feed(self._stream.feed(mixed))
        if self._bridge_hz != self.source_hz:
            mixed = self._rate_change.feed(mixed)
        return self._stream.feed(self._drift.feed(mixed))

    def flush(self) -> Array:
        """Return what is owed at the end of the input."""
        stream, drift = self._stream, self._drift
        if self._drift_last:
            return np.concatenate([drift.feed(stream.flush()), drift.flush()])
        rest = self._rate_change.feed(np.zeros((0, self.channels), np.float32), last=True)
        cleaned = [stream.feed(part) for part in (drift.feed(rest), drift.flush())]
        return np.concatenate([*cleaned, stream.flush()])

    def _apply(self) -> None:
        """Bring the denoisers in line with the controls."""
        controls = self._controls
        wanted = 0.0 if controls.bypassed else controls.strength, controls.limit_db
        if wanted != self._applied:
            self._applied = wanted
            for denoiser in self.denoisers:
                denoiser.strength, denoiser.limit_db = wanted

    def _rest(self, samples: int) -> Array:
        """Return silence for silence. All that the stages hold is silence, too: they skip it."""
        if not self.idle:
            self.idle, self._owed_samples = True, 0.0
        self._owed_samples += samples * self.sink_hz / self.source_hz / (1.0 + self.ppm * 1e-6)
        ready = int(self._owed_samples)
        self._owed_samples -= ready
        return np.zeros((ready, self.channels), np.float32)
