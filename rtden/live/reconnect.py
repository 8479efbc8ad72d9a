"""Devices that go away and come back: unplugged, suspended, or a sound server that starts anew."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rtden.errors import DeviceError
from rtden.live.endpoint import Endpoint

CHECK_SECONDS = 0.25
STALLED_SECONDS = 2.5  # without a call, after which a device counts as lost, as after a suspend
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 8.0


class Reconnector:
    """Watches the two sides of a live engine and reopens lost ones by name, with growing pauses.

    To see a device that has come back, PortAudio must be loaded anew, for which all streams must be
    closed: only where opening alone did not help. The side that still ran is then opened again.
    """

    def __init__(
        self, source: Endpoint, sink: Endpoint, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock, self.source, self.sink = clock, source, sink
        self.begin()

    @property
    def state(self) -> str:
        """A sentence: "running", or the lost devices and the time to the next try."""
        sides = {"input": self.source, "output": self.sink}
        lost = {word: side for word, side in sides.items() if side.lost}
        if not lost:
            return "running"
        wait = max(0.0, min(side.retry_at for side in lost.values()) - self._clock())
        names = " and ".join(f"{word} {side.name}" for word, side in lost.items())
        return f"{names} lost, trying again in {wait:.0f} s"

    def begin(self) -> None:
        """Count the time without blocks from now on."""
        self.source.seen_at = self.sink.seen_at = self._clock()

    def check(self) -> None:
        """Look whether both sides are alive, and whether it is time to try one again.

        One thread calls it a few times a second. Raises what ended a side that cannot return.
        """
        now = self._clock()
        for side in (self.source, self.sink):
            if not side.lost and not self._alive(side, now):
                self._lose(side)
        for side in (self.source, self.sink):
            if side.lost and now >= side.retry_at:
                self._retry(side)

    def _alive(self, side: Endpoint, now: float) -> bool:
        if not side.may_return:
            return True  # the engine itself sees to recordings
        side.seen_at = max(side.seen_at, side.called_at)  # NaN is not larger
        return side.running and now - side.seen_at < STALLED_SECONDS

    def _lose(self, side: Endpoint) -> None:
        # A device that was opened again and never called, as a suspended one, is still lost.
        if not (side.retry_seconds and math.isnan(side.called_at)):
            side.retry_seconds = 0.0
            side.disconnects += 1
        side.lost = True
        side.stop()
        self._wait(side)

    def _wait(self, side: Endpoint) -> None:
        seconds = max(FIRST_RETRY_SECONDS, 2.0 * side.retry_seconds)
        side.retry_seconds = min(seconds, LONGEST_RETRY_SECONDS)
        side.retry_at = self._clock() + side.retry_seconds

    def _retry(self, side: Endpoint) -> None:
        if self._open(side):
            return
        if not side.server_name:  # a sound server's list is always new
            other = self.sink if side is self.source else self.source
            others = other.may_return and not other.lost
            if others:
                other.stop()
            side.look_anew()
            if others and not self._open(other):
                self._lose(other)
            if self._open(side):
                return
        self._wait(side)

    def _open(self, side: Endpoint) -> bool:
        try:
            side.open()
            side.start()
        except DeviceError:
            side.stop()
            return False
        # The start of an output fills its first block itself: that is no call.
        side.lost, side.seen_at, side.called_at = False, self._clock(), math.nan
        return True
