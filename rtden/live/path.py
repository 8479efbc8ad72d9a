"""The sound path of a live stream: from the source's samples to the sink's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from rtden.denoiser import Denoiser
from rtden.live.endpoints import Sink, Source
from rtden.model import Model, load_spec
from rtden.resample import Drift, Interpolator
from rtden.settings import Settings, check_limit_db
from rtden.stream import StreamDenoiser
from rtden.types import Array

IDLE_SECONDS = 5.0
"""Digital silence after which nothing is computed: longer than the network remembers."""


class Controls:
    """What may be changed while sound runs, from any thread; it holds from the next step on.

    Attributes
    ----------
    bypassed : bool
        Whether the sound passes unchanged, as late as otherwise.
    muted : bool
        Whether the output is silent.
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


class _DirectStream:
    """Denoisers between two resamplers, from one rate to another."""

    def __init__(
        self,
        source_hz: int,
        sink_hz: int,
        channels: int,
        model: str | Path | Model | None,
        settings: Settings | None,
    ) -> None:
        self.denoisers = [Denoiser(model, settings) for _ in range(channels)]
        model_hz = self.denoisers[0].rate_hz
        self._before = Interpolator(source_hz, model_hz, channels=channels)
        self._after = Interpolator(model_hz, sink_hz, channels=channels)
        self._ratio, self.fed_samples, self.returned_samples = sink_hz / source_hz, 0, 0
        self.resampling_seconds = self._before.delay_seconds + self._after.delay_seconds

    @property
    def missing_samples(self) -> int:
        return self._before.missing_samples(self.denoisers[0].frames.missing_samples)

    @property
    def inside_samples(self) -> float:
        """Samples at the sink's rate that were fed and not returned."""
        return self.fed_samples * self._ratio - self.returned_samples

    def reset(self) -> None:
        self._before.reset()
        self._after.reset()
        for denoiser in self.denoisers:
            denoiser.reset()
        self.fed_samples = self.returned_samples = 0

    def feed(self, block: Array) -> Array:
        self.fed_samples += len(block)
        out = self._after.feed(self._denoised(self._before.feed(block)))
        self.returned_samples += len(out)
        return out

    def flush(self) -> Array:
        early = self._denoised(
            self._before.feed(np.zeros((0, len(self.denoisers)), np.float32), last=True)
        )
        late = np.stack([one.flush() for one in self.denoisers], axis=1)
        rest = round(self.inside_samples)
        out = self._after.feed(np.concatenate([early, late]), last=True)[:rest]
        self.reset()
        return out

    def _denoised(self, low: Array) -> Array:
        return np.stack([one.feed(low[:, n]) for n, one in enumerate(self.denoisers)], axis=1)


class SoundPath:
    """Brings sound to the sink's rate and clock, and denoises it.

    Parameters
    ----------
    source, sink : Source, Sink
        As they are now.
    controls : Controls
    channels : int
        What is denoised and returned: one channel, the mean of the input's, or its first ones.
    model, settings, full_band :
        As for :class:`rtden.StreamDenoiser`.

    Attributes
    ----------
    idle : bool
        Whether the input has been digital silence for so long that nothing is computed.
    ppm : float
        How much faster to play.
    bridge_seconds : float
        Delay of the way to the denoiser's rate, and to the sink's clock.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        controls: Controls,
        *,
        channels: int,
        model: str | Path | Model | None = None,
        settings: Settings | None = None,
        full_band: bool = True,
    ) -> None:
        source_hz, sink_hz, source_channels = source.rate_hz, sink.rate_hz, source.ring.channels
        self.source_hz, self.sink_hz, self.channels = source_hz, sink_hz, channels
        self._mean = np.full((source_channels, 1), 1.0 / source_channels, np.float32)
        direct = _is_direct(source_hz, sink_hz, load_spec(model).rate_hz)
        self._stream: StreamDenoiser | _DirectStream
        if direct:
            self._stream = _DirectStream(source_hz, sink_hz, channels, model, settings)
        else:
            options: dict[str, Any] = {
                "rate_hz": sink_hz,
                "channels": channels,
                "full_band": full_band,
            }
            self._stream = StreamDenoiser(model, settings, low_delay=True, **options)
        # The clocks are matched at the higher rate, where the filter for it takes nothing away.
        self._drift_last = direct and sink_hz > source_hz
        self._drift = Drift(channels=channels)
        self._rate_change = Interpolator(
            source_hz, source_hz if direct else sink_hz, channels=channels
        )
        drift_hz = source_hz if direct and not self._drift_last else sink_hz
        self.bridge_seconds = self._drift.delay_samples / drift_hz
        self.bridge_seconds += self._rate_change.delay_seconds
        # The first steps are slow: not while sound waits.
        self._stream.feed(np.zeros((source_hz // 10, channels), np.float32))
        self._stream.reset()
        self.denoisers, self._controls = self._stream.denoisers, controls
        self.step_seconds = self.denoisers[0].step_samples / self.denoisers[0].rate_hz
        self.ppm = 0.0
        self.idle, self._silent_samples, self._owed_samples = False, 0, 0.0

    @property
    def path_seconds(self) -> float:
        """Delay of the denoiser and of the resamplers around it."""
        return self.denoisers[0].latency.seconds + self._stream.resampling_seconds

    @property
    def resampling_seconds(self) -> float:
        """Delay of all that changes rates."""
        return self.bridge_seconds + self._stream.resampling_seconds

    @property
    def inside_samples(self) -> int:
        """Samples at the sink's rate that are in the denoiser."""
        if isinstance(self._stream, _DirectStream):
            return round(self._stream.inside_samples)
        return self._stream.fed_samples - self._stream.returned_samples

    @property
    def missing_samples(self) -> int:
        """Input samples without which no further step can be completed."""
        if self.idle:
            return round(self.step_seconds * self.source_hz)
        if self._drift_last:
            return self._stream.missing_samples
        missing = self._drift.missing_samples(self._stream.missing_samples)
        return self._rate_change.missing_samples(missing)

    def mix(self, captured: Array) -> Array:
        """Return captured samples with the channels to denoise; shapes (samples, channels)."""
        if captured.shape[1] == 1:
            copied: Array = captured.copy()
            return copied
        mixed: Array = np.array(captured[:, : self.channels], order="C")
        if self.channels == 1:
            mixed = captured @ self._mean
        return mixed

    def feed(self, mixed: Array, *, silent: bool) -> Array:
        """Return the samples that are ready; shapes (samples, channels).

        `silent` says that all samples are zero.
        """
        self._silent_samples = self._silent_samples + len(mixed) if silent else 0
        self.idle = self.idle and silent
        if self._silent_samples > IDLE_SECONDS * self.source_hz:
            return self._rest(len(mixed))
        self._apply()
        self._drift.ppm = self.ppm
        if self._drift_last:
            return self._drift.feed(self._stream.feed(mixed))
        return self._stream.feed(self._drift.feed(self._rate_change.feed(mixed)))

    def flush(self) -> Array:
        """Return what is owed at the end of the input."""
        if self._drift_last:
            return np.concatenate([self._drift.feed(self._stream.flush()), self._drift.flush()])
        rest = self._rate_change.feed(np.zeros((0, self.channels), np.float32), last=True)
        cleaned = [
            self._stream.feed(part) for part in (self._drift.feed(rest), self._drift.flush())
        ]
        return np.concatenate([*cleaned, self._stream.flush()])

    def _apply(self) -> None:
        """Bring the denoisers in line with the controls."""
        controls = self._controls
        strength = 0.0 if controls.bypassed else controls.strength
        for denoiser in self.denoisers:
            if denoiser.strength != strength:
                denoiser.strength = strength
            if denoiser.limit_db != controls.limit_db:
                denoiser.limit_db = controls.limit_db

    def _rest(self, samples: int) -> Array:
        """Return silence for silence. All that the stages hold is silence, too: they skip it."""
        if not self.idle:
            self.idle, self._owed_samples = True, 0.0
        self._owed_samples += samples * self.sink_hz / self.source_hz / (1.0 + self.ppm * 1e-6)
        ready = int(self._owed_samples)
        self._owed_samples -= ready
        return np.zeros((ready, self.channels), np.float32)
