"""The sound path of a live stream: from the source's samples to the sink's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rtden.live.endpoint import Endpoint
from rtden.model import Model, load_spec
from rtden.resample import Drift, Interpolator
from rtden.settings import Settings, check_limit_db, check_strength
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
        """Wet share of the output, 0 to 1."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        check_strength(strength)
        self._strength = strength

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
    inner_hz = _inner_rate(source_hz, sink_hz, model_hz)
    pairs = (source_hz, inner_hz), (inner_hz, model_hz), (model_hz, inner_hz), (inner_hz, sink_hz)
    return sum(Interpolator(*pair).delay_seconds for pair in pairs)


def _inner_rate(source_hz: int, sink_hz: int, model_hz: int) -> int:
    """Return the rate at which the denoiser takes and returns sound.

    It is the model's if the sides' rates differ and one has no sound above the model's band: the
    sound is then resampled once on each side. Otherwise it is the sink's.
    """
    direct = source_hz != sink_hz and min(source_hz, sink_hz) <= model_hz
    return model_hz if direct else sink_hz


class SoundPath:
    """Brings sound to the sink's rate and clock, and denoises it.

    At most `channels` are denoised and returned, as many as both sides have: one, the mean of the
    input's, or its first ones. `ppm` is how much faster to play. `path_seconds` are the delay of
    denoiser and resamplers, and `drift_seconds` that of the filter for the clocks.
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
        self.source_hz, self.sink_hz = source.rate_hz, sink.rate_hz
        self.channels = channels = min(channels, source.channels, sink.channels)
        self._mean = np.full((source.channels, 1), 1.0 / source.channels, np.float32)
        rates = self.source_hz, self.sink_hz, load_spec(model).rate_hz
        inner_hz = _inner_rate(*rates)
        self._before = Interpolator(self.source_hz, inner_hz, channels=channels)
        self._stream = StreamDenoiser(
            model,
            settings,
            rate_hz=inner_hz,
            channels=channels,
            low_delay=True,
            full_band=full_band,
        )
        self._after = Interpolator(inner_hz, self.sink_hz, channels=channels)
        # The clocks are matched at the higher rate, at which that filter removes no sound.
        self._drift, self._drift_last = Drift(channels=channels), self.sink_hz > self.source_hz
        self.drift_seconds = self._drift.delay_samples / max(self.source_hz, self.sink_hz)
        # The first steps are slow: not while sound waits.
        self._stream.feed(np.zeros((self.source_hz // 10, channels), np.float32))
        self._stream.reset()
        self.denoisers, self._controls = self._stream.denoisers, controls
        self._applied: tuple[float, float] | None = None
        self.step_seconds = self.denoisers[0].step_samples / self.denoisers[0].rate_hz
        self.path_seconds = self.denoisers[0].latency.seconds + resampling_seconds(*rates)
        self.resampling_seconds = resampling_seconds(*rates) + self.drift_seconds
        self.ppm, self._fed_samples, self._returned_samples = 0.0, 0, 0
        self._silent_samples, self._owed_samples = 0, 0.0

    @property
    def idle(self) -> bool:
        """Whether the input has been digital silence for so long that nothing is computed."""
        return self._silent_samples > IDLE_SECONDS * self.source_hz

    @property
    def inside_samples(self) -> int:
        """Samples at the sink's rate that are in the denoiser and its resamplers."""
        return round(self._fed_samples * self.sink_hz / self.source_hz) - self._returned_samples

    @property
    def missing_samples(self) -> int:
        """Input samples without which no further step can be completed."""
        if self.idle:
            return round(self.step_seconds * self.source_hz)
        missing = self._before.missing_samples(self._stream.missing_samples)
        return missing if self._drift_last else self._drift.missing_samples(missing)

    def mix(self, captured: Array) -> Array:
        """Return captured samples with the channels to denoise; shapes (samples, channels)."""
        if self.channels == 1 < captured.shape[1]:
            return captured @ self._mean
        return np.array(captured[:, : self.channels], order="C")

    def feed(self, mixed: Array, *, silent: bool) -> Array:
        """Return the samples that are ready; shapes (samples, channels).

        `silent` says that all samples are zero.
        """
        self._silent_samples = self._silent_samples + len(mixed) if silent else 0
        if self.idle:  # the stages hold nothing but silence, and skip this block
            self._owed_samples += len(mixed) * self.sink_hz / self.source_hz
            ready, self._owed_samples = divmod(self._owed_samples, 1.0)
            return np.zeros((int(ready), self.channels), np.float32)
        controls = self._controls
        wanted = 0.0 if controls.bypassed else controls.strength, controls.limit_db
        if wanted != self._applied:
            self._stream.strength, self._stream.limit_db = self._applied = wanted
        self._drift.ppm = self.ppm
        if self._drift_last:
            return self._drift.feed(self._denoise(mixed))
        return self._denoise(self._drift.feed(mixed))

    def flush(self) -> Array:
        """Return the remaining samples at the end of the input."""
        self._silent_samples = 0
        drift, nothing = self._drift, np.zeros((0, self.channels), np.float32)
        if self._drift_last:
            return np.concatenate([drift.feed(self._denoise(nothing, last=True)), drift.flush()])
        return self._denoise(drift.flush(), last=True)

    def _denoise(self, block: Array, *, last: bool = False) -> Array:
        self._fed_samples += len(block)
        out = self._stream.feed(self._before.feed(block, last=last))
        if last:
            out = np.concatenate([out, self._stream.flush()])
        out = self._after.feed(out, last=last)
        self._returned_samples += len(out)
        return out
