"""One side of the live engine, device or file: a ring, and what fills or empties it."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

from rtden.live.fade import SmoothReader
from rtden.ring import Ring
from rtden.types import Array

RING_SECONDS = 2.0
LOOK_SECONDS = 0.01
"""Sound that a resting source looks through at once."""


class Endpoint:
    """What the engine needs of a side; device and file endpoints extend it.

    `called_at` is when the ring was last filled or emptied; NaN before. A source calls `notify`
    when it has ended, and when `wake_at` samples are written, counted since the beginning. While it
    is `resting`, other sound than digital silence ends that and notifies at once. `latency_seconds`
    lie between the ring and the air. `may_return` marks a
    device, which may go away and come back, and `exhausted` a source that has ended. A sound server
    reports `muted`, the stable names of the device, of the sink whose monitor it is and of the sink
    that plays now, and a `warning` for the user. The last row of attributes is the
    :class:`rtden.live.reconnect.Reconnector`'s.
    """

    may_return = exhausted = muted = resting = False
    monitor_of = server_name = playing_on = warning = ""
    latency_seconds = 0.0
    block_samples = flagged_blocks = wake_at = 0
    called_at = math.nan
    lost, disconnects, seen_at, retry_at, retry_seconds = False, 0, 0.0, 0.0, 0.0
    notify: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, name: str, rate_hz: int, channels: int) -> None:
        self.name, self.rate_hz, self.channels = name, rate_hz, channels
        self.make_ring(channels)

    def make_ring(self, channels: int) -> None:
        """Make an empty ring; `channels` may be fewer than the device's."""
        self.ring = Ring(round(RING_SECONDS * self.rate_hz), channels)
        self.reader = SmoothReader(self.ring, self.channels, self.rate_hz)

    def wanted_samples(self) -> int:
        """Return how many more samples of a source are worth a call; fewer need not be written."""
        if self.resting:
            return round(LOOK_SECONDS * self.rate_hz)
        return self.wake_at - self.ring.written_samples

    def captured(self, block: Array) -> None:
        """Take a block from a device's callback, shape (samples, channels)."""
        ring = self.ring
        ring.write(block)
        self.called_at = perf_counter()
        if self.resting and block.any():
            self.resting, self.wake_at = False, 0
        if ring.written_samples >= self.wake_at:
            self.notify()

    def play(self, block: Array) -> None:
        """Fill a block for a device's callback; silence until there is sound."""
        if self.ring.written_samples:
            self.reader.read_into(block)
        else:
            block.fill(0.0)
        self.called_at = perf_counter()

    @property
    def running(self) -> bool:
        """Whether it is at work; raises what ended it, if something did."""
        raise NotImplementedError

    def open(self) -> None:
        """Find a stopped device and open it again; its rate, channels and ring may then differ."""

    def look_anew(self) -> None:
        """Let :meth:`open` find new devices; every device must be stopped."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End at once."""
