"""Devices that go away and come back: unplugged, suspended, or a sound server that starts anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rtden.errors import DeviceError
from rtden.live.endpoint import Endpoint

CHECK_SECONDS = 0.25
STALLED_SECONDS = 2.5
"""A device that has not called for so long is taken for lost, as after a suspend."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 8.0


@dataclass
class _Side:
    word: str
    endpoint: Endpoint
    seen_at: float
    lost_at: float | None = None
    retry_at: float = 0.0
    wait_seconds: float = FIRST_RETRY_SECONDS
    disconnects: int = 0


class Reconnector:
    """Watches the two sides of a live engine and reopens lost ones by name, with growing pauses.

    To see a device that has come back, PortAudio must be loaded anew, for which all streams must be
    closed: that is done only where opening alone did not help, and the side that still ran is
    opened again with it.
    """

    def __init__(
        self, source: Endpoint, sink: Endpoint, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self.source = _Side("input", source, seen_at=clock())
        self.sink = _Side("output", sink, seen_at=clock())

    @property
    def state(self) -> str:
        """A sentence: "running", or what is lost and when it will be tried again."""
        lost = [side for side in (self.source, self.sink) if side.lost_at is not None]
        if not lost:
            return "running"
        wait = max(0.0, min(side.retry_at for side in lost) - self._clock())
        names = " and ".join(f"{side.word} {side.endpoint.name}" for side in lost)
        return f"{names} lost, trying again in {wait:.0f} s"

    @property
    def disconnects(self) -> int:
        """How often a side was lost."""
        return self.source.disconnects + self.sink.disconnects

    def begin(self) -> None:
        """Count the time without blocks from now on."""
        self.source.seen_at = self.sink.seen_at = self._clock()

    def check(self) -> None:
        """Look whether both sides are alive, and whether it is time to try one again.

        One thread calls it a few times a second. Raises what ended a side that cannot return.
        """
        now = self._clock()
        for side in (self.source, self.sink):
            if side.lost_at is None and not self._alive(side, now):
                self._lose(side, now)
        for side in (self.source, self.sink):
            if side.lost_at is not None and now >= side.retry_at:
                self._retry(side, now)

    def _alive(self, side: _Side, now: float) -> bool:
        endpoint = side.endpoint
        if not endpoint.may_return:
            return True  # the engine itself sees to recordings
        side.seen_at = max(side.seen_at, endpoint.called_at)  # NaN is not larger
        return endpoint.running and now - side.seen_at < STALLED_SECONDS

    def _lose(self, side: _Side, now: float) -> None:
        side.lost_at, side.wait_seconds = now, FIRST_RETRY_SECONDS
        side.retry_at = now + FIRST_RETRY_SECONDS
        side.disconnects += 1
        side.endpoint.stop()

    def _retry(self, side: _Side, now: float) -> None:
        if self._open(side):
            return
        if not side.endpoint.server_name:  # a sound server's list is always new
            other = self.sink if side is self.source else self.source
            others = other.endpoint.may_return and other.lost_at is None
            if others:
                other.endpoint.stop()
            side.endpoint.look_anew()
            if others and not self._open(other):
                self._lose(other, now)
            if self._open(side):
                return
        side.wait_seconds = min(2.0 * side.wait_seconds, LONGEST_RETRY_SECONDS)
        side.retry_at = self._clock() + side.wait_seconds

    def _open(self, side: _Side) -> bool:
        try:
            side.endpoint.open()
            side.endpoint.start()
        except DeviceError:
            side.endpoint.stop()
            return False
        side.lost_at, side.seen_at = None, self._clock()
        return True
