"""A second estimate of a recording's masks, by the same network from the recording's end.

The network runs over the sound reversed in time. It was not trained for that and estimates worse,
but its errors differ: a mixture of the two estimates is better than either. The recording is
processed in spans, each with a few seconds of the sound behind it, so that memory stays bounded.
"""

from __future__ import annotations

import math

import numpy as np

from rtden.autoencoder import Autoencoder
from rtden.denoiser import RECORDING_STEPS, Denoiser
from rtden.model import Model
from rtden.stream import StreamDenoiser
from rtden.types import Array

SPAN_FRAMES = 768
"""Frames whose masks are estimated in one go: 9 s of the default model. More cost less, but more
memory."""
AHEAD_FRAMES = 320
"""Frames of what follows them that the network takes first: 3.7 s, the length of its memory."""


class _Recorded:
    """A network that keeps its masks."""

    def __init__(self, model: Model) -> None:
        self._network = Autoencoder(model, columns=(RECORDING_STEPS,))
        self.spec, self.runtime = self._network.spec, self._network.runtime
        self.stateful = self._network.stateful
        self.memory_columns = self._network.memory_columns
        self.masks: list[Array] = []

    def infer(self, columns: Array) -> Array:
        mask = self._network.infer(columns)
        self.masks.append(mask.copy())
        return mask

    def reset(self) -> None:
        self._network.reset()
        self.masks.clear()


class BackwardMasks:
    """Estimates the masks of a stream's frames from what follows, ahead of the stream.

    It takes the stream's input and returns what the stream may be fed: its frames' masks are then
    in the gains of the stream's denoisers. The stream is a new one, of a stateful network.
    """

    def __init__(self, stream: StreamDenoiser) -> None:
        self._stream, spec = stream, stream.model.spec
        self._ratio = spec.rate_hz / stream.rate_hz
        self._hop, self._older_samples = spec.hop, spec.n_fft - spec.hop
        self._networks = [_Recorded(stream.model) for _ in range(stream.channels)]
        self._denoisers = [
            Denoiser(network=each, batch_steps=RECORDING_STEPS) for each in self._networks
        ]
        for denoiser in self._denoisers:  # every frame counts
            denoiser.silence.needed_samples = math.inf
        self._resampler = stream.resampler(stream.rate_hz, spec.rate_hz)
        none = np.empty((0, stream.channels), np.float32)
        # The input that the stream has not got, and the same at the model's rate, behind the older
        # samples of the next frame. In front of a stream lies silence.
        self._high = [none]
        self._low = [np.zeros((self._older_samples, stream.channels), np.float32)]
        self._low_samples = self._next_frame = self._passed = 0

    def feed(self, block: Array) -> Array:
        """Take in samples, shape (samples, channels); return those that the stream may be fed."""
        self._high.append(block)
        self._hold(self._resampler.feed(block))
        while self._low_samples >= (self._next_frame + SPAN_FRAMES + AHEAD_FRAMES) * self._hop:
            self._estimate(SPAN_FRAMES, (SPAN_FRAMES + AHEAD_FRAMES) * self._hop)
        # A frame is complete with its last sample.
        known = (self._next_frame * self._hop - 1) / self._ratio
        return self._release(math.floor(known) - self._passed)

    def flush(self, tail: Array) -> Array:
        """End the input, followed by the lead-in `tail`; return the remaining samples."""
        self._hold(self._resampler.feed(tail, last=True))
        self._hold(np.zeros((-self._low_samples % self._hop, self._stream.channels), np.float32))
        frames = self._low_samples // self._hop - self._next_frame
        self._estimate(frames, frames * self._hop)
        return self._release(None)

    def _hold(self, low: Array) -> None:
        self._low.append(low)
        self._low_samples += len(low)

    def _release(self, samples: int | None) -> Array:
        waiting = np.concatenate(self._high)
        ready = waiting[: max(0, samples)] if samples is not None else waiting
        self._high = [waiting[len(ready) :]]
        self._passed += len(ready)
        return ready

    def _estimate(self, frames: int, ahead_samples: int) -> None:
        """Estimate the masks of the next frames, from this many samples from their beginning on."""
        low = np.concatenate(self._low)
        known = low[: self._older_samples + ahead_samples]
        for channel, (denoiser, network) in enumerate(
            zip(self._denoisers, self._networks, strict=True)
        ):
            denoiser.reset()
            denoiser.feed(known[::-1, channel])
            # The last frame of the reversed sound covers the samples of the first one.
            masks = np.concatenate(network.masks, axis=1).T[::-1][:frames]
            self._stream.denoisers[channel].gains.expect(masks)
        self._low = [low[frames * self._hop :]]
        self._next_frame += frames
