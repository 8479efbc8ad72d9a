"""One side of the live engine, device or file: a ring, and what fills or empties it.

Sound that breaks off fades out, sound that starts or jumps fades in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from rtden.ring import Ring, bytes_of
from rtden.types import Array

RING_SECONDS = 2.0
RESTING_BLOCK_SECONDS = 0.02  # searched at once by a resting source: less than the network's delay
FADE_SECONDS = 0.004
SPARE_SECONDS = 0.001  # that a player must still hold at its next call, after lending


def fade_in(block: Array, last: Array, rate_hz: int) -> None:
    """Smooth the step from the last sample, (channels,), to a block, (samples, channels)."""
    if len(block):
        fade = _fade(rate_hz)[: len(block)]
        block[: len(fade)] += fade * (last - block[0])


def _fade(rate_hz: int) -> Array:
    samples = max(1, round(FADE_SECONDS * rate_hz))
    angles = np.linspace(0.0, np.pi / 2, samples, endpoint=False, dtype=np.float32)
    return np.square(np.cos(angles))[:, None]


class SmoothReader:
    """Reads a ring block by block for a player.

    It runs in the player's callback: it neither allocates arrays nor takes a lock. Where the ring
    runs dry, the last sample's value decays to zero; then it is silent, and no sample is missing.
    Where sound begins again, or jumps because some was dropped, the step decays within 4 ms.
    """

    def __init__(self, ring: Ring, rate_hz: int) -> None:
        self._ring = ring
        self._fade = _fade(rate_hz)[:, 0]
        self._scratch = np.zeros(len(self._fade), np.float32)
        self._last, self._step = np.zeros((2, ring.channels), np.float32)
        self._last_bytes = self._last.data.cast("B")
        self._faded = len(self._fade)  # how far into the fade the last block went
        self._lost_samples = 0
        self.dry = True
        self.silence = memoryview(bytes(ring.capacity_samples * ring.sample_bytes))
        # The least left in the ring after a block, less lent samples, since this was last set.
        self.least_left_samples: float = math.inf

    def read_into(self, data: memoryview, lent_samples: int = 0) -> None:
        """Fill a block of bytes, short of some samples that the player lends."""
        ring = self._ring
        if self.dry and self._faded == len(self._fade) and not ring.fill_samples:
            data[:] = self.silence[: len(data)]
            return
        missing = ring.missing_samples
        got = ring.read_into(data)
        dry = ring.missing_samples > missing
        starts = got > 0 and (self.dry or ring.lost_samples != self._lost_samples)
        if dry or starts or self._faded < len(self._fade):
            shape = (len(data) // ring.sample_bytes, ring.channels)
            self._smooth(np.ndarray(shape, np.float32, data), got, starts=starts)
        self.dry = dry
        if data:
            self._last_bytes[:] = data[-ring.sample_bytes :]
        left = ring.written_samples - ring.read_samples - lent_samples
        self.least_left_samples = min(self.least_left_samples, left)

    def _smooth(self, block: Array, got: int, *, starts: bool) -> None:
        """Fade in sound that starts or jumps, and fade out what breaks off after `got` samples."""
        block[got:] = 0.0
        if starts:
            self._lost_samples = self._ring.lost_samples
            np.subtract(self._last, block[0], out=self._step)
            self._faded = 0
        self._decay(block)  # perhaps of the block before: a fade may be longer than a block
        if got < len(block) and (got or not self.dry):  # it breaks off
            np.copyto(self._step, block[got - 1] if got else self._last)
            block[got:] = 0.0
            self._faded = 0
            self._decay(block[got:])

    def _decay(self, block: Array) -> None:
        """Add the next part of the fade to a block."""
        start = self._faded
        samples = min(len(block), len(self._fade) - start)
        if not samples:
            return
        self._faded = start + samples
        fade, scratch = self._fade[start : self._faded], self._scratch[:samples]
        for channel in range(len(self._step)):  # one at a time: numpy would make buffers
            column = block[:samples, channel]
            np.multiply(fade, self._step[channel], out=scratch)
            np.add(column, scratch, out=column)


class Endpoint:
    """A source or a sink of the engine; device and file endpoints extend it.

    `may_return` marks a device, which may go away and come back. `called_at` is the time of the
    last block; NaN before the first. `latency_seconds` is the delay between the ring and the air.

    A source calls `notify` at its end, when it becomes `exhausted`, and as soon as `wake_at`
    samples are written, counted since the beginning. In digital silence it may be `resting`: the
    first other sample ends that and notifies at once.

    A sink lends up to `lendable_samples`: it plays on from a buffer of its own, and takes them when
    they have come. `lent_samples` are lent now. `dropped_at_start` are the samples that its ring
    dropped while the sink started.

    With a sound server, there are the stable names of the device (`server_name`), of the sink that
    a source is the monitor of, and of the sink that plays now; `muted`; and a `warning` for the
    user. The last row of attributes belongs to the :class:`rtden.live.reconnect.Reconnector`.
    """

    may_return = exhausted = muted = resting = False
    monitor_of = server_name = playing_on = warning = ""
    latency_seconds = 0.0
    block_samples = flagged_blocks = wake_at = lendable_samples = lent_samples = 0
    called_at = math.nan
    lost, disconnects, seen_at, retry_at, retry_seconds = False, 0, 0.0, 0.0, 0.0
    notify: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, name: str, rate_hz: int, channels: int) -> None:
        self.name, self.rate_hz, self.channels = name, rate_hz, channels
        self.make_ring()

    def make_ring(self) -> None:
        """Make an empty ring."""
        self.ring = Ring(round(RING_SECONDS * self.rate_hz), self.channels)
        self.reader = SmoothReader(self.ring, self.rate_hz)
        self.dropped_at_start = 0

    def wanted_samples(self) -> int:
        """Return how many samples a source should collect before it writes them."""
        if self.resting:
            return round(RESTING_BLOCK_SECONDS * self.rate_hz)
        return self.wake_at - self.ring.written_samples

    def captured(self, block: Any) -> None:
        """Take a block from a device's callback, as for :class:`rtden.ring.Ring`."""
        ring = self.ring
        ring.write(block)
        self.called_at = perf_counter()
        if self.resting:
            data = bytes_of(block)
            if data.cast("f") != self.reader.silence[: len(data)].cast("f"):  # -0.0 is silent, too
                self.resting, self.wake_at = False, 0
        if ring.written_samples >= self.wake_at:
            self.notify()

    def given_samples(self, wanted: int, held: int, played: int) -> int:
        """Return how many of the `wanted` samples a player gets now.

        `held` are the samples that it still holds, `played` those since the last call. If the
        worker is late and `held` lasts until the next call, the player waits for the rest.
        """
        lent = 0
        if not self.reader.dry:
            usual = min(played, self.block_samples or played) + round(SPARE_SECONDS * self.rate_hz)
            self.lendable_samples = max(0, held + wanted - usual)
            late = wanted - self.ring.fill_samples
            lent = late if 0 < late <= self.lendable_samples else 0
        self.lent_samples = lent
        return wanted - lent

    def play(self, block: Any) -> None:
        """Fill a block for a device's callback; silence until there is sound."""
        self.reader.read_into(bytes_of(block), self.lent_samples)
        self.called_at = perf_counter()

    @property
    def running(self) -> bool:
        """Whether it is at work; raises what ended it, if something did."""
        raise NotImplementedError

    def open(self) -> None:
        """Find a stopped device and open it again; its rate, channels and ring may then differ."""

    def look_anew(self) -> None:
        """Let :meth:`open` find new devices of PortAudio's; all of them must be stopped."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End at once."""
