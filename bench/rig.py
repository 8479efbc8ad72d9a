"""Simulated sound devices around the real live engine: drift, late blocks, lost devices.

Time is simulated, so that hours pass in minutes. The engine, its rings, resamplers, denoiser,
controls and reconnection are the real ones. Only the two threads and the two devices are replaced,
by calls in the order in which they would have happened.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rtden import Settings
from rtden.errors import DeviceError
from rtden.live.endpoint import Endpoint
from rtden.live.engine import LiveEngine
from rtden.live.reconnect import CHECK_SECONDS
from rtden.model import Model
from rtden.types import Array

TONE_HZ = 2.0
"""A tone so slow that its phase gives the delay, up to half a second."""
HEARD_SECONDS = 1.0


class SimulatedDevice(Endpoint):
    """One side: a device with a clock of its own."""

    may_return = True
    running = False

    def __init__(
        self,
        name: str,
        rate_hz: int,
        block_samples: int,
        now: Callable[[], float],
        *,
        ppm: float = 0.0,
    ) -> None:
        super().__init__(name, rate_hz, 1)
        self.block_samples, self.ppm, self._now = block_samples, ppm, now
        self.gone_until = 0.0

    @property
    def block_seconds(self) -> float:
        """Time between two blocks, by the clock of the world."""
        return self.block_samples / self.rate_hz / (1.0 + self.ppm * 1e-6)

    def open(self) -> None:
        """Come back, if the time for it has come."""
        if self._now() < self.gone_until:
            raise DeviceError(f"{self.name} is not there.")

    def start(self) -> None:
        """Begin to call."""
        self.running, self.called_at = True, math.nan

    def stop(self) -> None:
        """Call no more."""
        self.running = False

    def go_away(self, seconds: float) -> None:
        """Be gone for some seconds."""
        self.running, self.gone_until = False, self._now() + seconds


class Rig:
    """A simulated source and sink around an engine.

    Parameters
    ----------
    source_hz, sink_hz : int
    source_ppm, sink_ppm : float
        How much faster than the world's each device's clock runs.
    block_seconds : float
        Of either device.
    phase_seconds : float
        From a block of the source to the sink's next one.
    settings, model, buffer_ms :
        As for :class:`rtden.live.engine.LiveEngine`.
    """

    def __init__(
        self,
        *,
        source_hz: int = 8000,
        sink_hz: int = 8000,
        source_ppm: float = 0.0,
        sink_ppm: float = 0.0,
        block_seconds: float = 0.01,
        phase_seconds: float = 0.001,
        settings: Settings | None = None,
        model: str | Path | Model | None = None,
        buffer_ms: float | None = None,
    ) -> None:
        self.now = 0.0
        self.source, self.sink = (
            SimulatedDevice(name, hz, round(block_seconds * hz), lambda: self.now, ppm=ppm)
            for name, hz, ppm in (
                ("microphone", source_hz, source_ppm),
                ("loudspeakers", sink_hz, sink_ppm),
            )
        )
        # What the sink takes at once it plays during the next block.
        self.sink.latency_seconds = self.sink.block_seconds
        self.engine = LiveEngine(
            self.source,
            self.sink,
            settings=settings or Settings(limit_db=0.0),
            model=model,
            buffer_ms=buffer_ms,
            clock=lambda: self.now,
        )
        self.worker_sleeps_until = 0.0
        self.late_until = {self.source: 0.0, self.sink: 0.0}
        self.captured_blocks = 0
        self.level = 0.5
        self._heard_samples = round(HEARD_SECONDS * sink_hz)
        most = -(-self._heard_samples // self.sink.block_samples)
        self._heard: deque[tuple[float, float, Array]] = deque(maxlen=most)
        self._block = np.zeros((self.sink.block_samples, 1), np.float32)
        self.loudest_step = 0.0
        self._last = np.zeros(1, np.float32)
        self._events: list[tuple[float, int, Callable[[], float]]] = []
        for device in (self.source, self.sink):
            device.start()
        events = ((0.0, self._capture), (phase_seconds, self._play), (0.002, self._check))
        for number, (at, event) in enumerate(events):
            heapq.heappush(self._events, (at, number, event))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        ends_at = self.now + seconds
        while self._events[0][0] < ends_at:
            self.now, number, event = heapq.heappop(self._events)
            again = event()
            heapq.heappush(self._events, (self.now + again, number, event))
            if self.now >= self.worker_sleeps_until:
                while self.engine.worker.work():
                    pass
        self.now = ends_at

    def delay_seconds(self) -> float:
        """Return the delay at the loudspeakers, by the phase of the tone over the last second."""
        at = [now + np.arange(len(heard)) / len(heard) * long for now, long, heard in self._heard]
        turn = np.exp(-2j * np.pi * TONE_HZ * self._last_second(at))
        phase = float(np.angle(np.sum(turn * self._last_second(self._heard_blocks())) * 1j))
        return (-phase / (2.0 * np.pi * TONE_HZ)) % (1.0 / TONE_HZ)

    def heard_rms(self) -> float:
        """Return the level of the last second played, full scale one."""
        return float(np.sqrt(np.mean(self._last_second(self._heard_blocks()) ** 2)))

    def _heard_blocks(self) -> list[np.ndarray]:
        return [heard for *_, heard in self._heard]

    def _last_second(self, blocks: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(blocks)[-self._heard_samples :]

    def _capture(self) -> float:
        source = self.source
        # A late block contains the sound until then; if several are due, all come at once.
        begins = self.captured_blocks * source.block_seconds
        self.captured_blocks += 1
        if source.running:
            samples = source.block_samples
            at = begins + np.arange(samples) / samples * source.block_seconds
            tone = self.level * np.sin(2.0 * np.pi * TONE_HZ * at)
            source.captured(tone.astype(np.float32))
            source.called_at = self.now
        due = (self.captured_blocks + 1) * source.block_seconds
        return max(1e-6, max(due, self.late_until[source]) - self.now)

    def _play(self) -> float:
        sink = self.sink
        if sink.running and self.now >= self.late_until[sink]:
            block = self._block
            sink.play(block)
            sink.called_at = self.now
            heard = block[:, 0].copy()
            self._heard.append((self.now, sink.block_seconds, heard))
            joined = np.concatenate((self._last, heard))
            self.loudest_step = max(
                self.loudest_step, float(np.abs(joined[1:] - joined[:-1]).max())
            )
            self._last = heard[-1:]
        return sink.block_seconds

    def _check(self) -> float:
        self.engine.worker.devices.check()
        self.engine.worker.meters.update()
        return CHECK_SECONDS
