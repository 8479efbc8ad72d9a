"""The live engine: a source and a sink, each with its ring, and one worker between them.

The callbacks of the two devices only move samples; the worker resamples, denoises and writes. Delay is bounded at both
ends: what waits longer than the output buffer could bridge is skipped unprocessed, and after a drop-out the delay starts
from its planned value again. So it never grows; what is lost is counted.
"""

from __future__ import annotations

import gc
import math
import os
import queue
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from rtden.devices import DeviceSink, DeviceSource, find_device
from rtden.errors import DeviceError, SettingsError
from rtden.files import SUFFIXES, write_recording
from rtden.mel import Array
from rtden.metrics import NoiseMeter
from rtden.paced import FileSink, FileSource
from rtden.resample import StreamDenoiser, live_delay_seconds
from rtden.ring import Ring
from rtden.settings import Settings
from rtden.supervision import ask_for_realtime

POLL_SECONDS = 0.002
DEFAULT_BUFFER_MS = 15.0
"""Sound that waits for the sink beyond what its blocks need: what the worker may be late by without a drop-out."""
EXCESS_SECONDS = 0.05
"""By how much the delay may exceed its plan (two clocks drift apart) before the oldest sound is dropped."""


class Endpoint(Protocol):
    """One side of the engine: a device, or a file in its place."""

    name: str
    rate_hz: int
    channels: int
    block_samples: int
    flagged_blocks: int
    ring: Ring

    @property
    def latency_seconds(self) -> float:
        """Delay between the ring and the air."""

    @property
    def running(self) -> bool:
        """Whether it is at work; raises what ended it, if something did."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class Source(Endpoint, Protocol):
    """Where sound comes from."""

    exhausted: bool


@dataclass(frozen=True)
class LatencyParts:
    """Where the total delay comes from, in milliseconds."""

    source_ms: float
    resampling_ms: float
    denoiser_ms: float
    buffer_ms: float
    sink_ms: float

    @property
    def total_ms(self) -> float:
        """From the air at the microphone to the air at the loudspeakers."""
        return self.source_ms + self.resampling_ms + self.denoiser_ms + self.buffer_ms + self.sink_ms


@dataclass(frozen=True)
class LiveStatus:
    """What has happened, since the start or, where it says so, since the last look."""

    seconds: float
    input_db: float
    """Level since the last look."""
    output_db: float
    """Level since the last look."""
    noise_removed_db: float
    """By how much the level of the background fell; NaN in the first moments."""
    load: float
    """Processing time over real time, since the last look."""
    mean_load: float
    flagged_blocks: int
    """Blocks that the sound system itself reported as over- or underrun."""
    dropouts: int
    """Times that the sink ran dry or the worker fell behind."""
    lost_ms: float
    """Sound that was recorded and never played."""

    @property
    def xruns(self) -> int:
        """All irregularities."""
        return self.flagged_blocks + self.dropouts


def is_recording(name: str) -> bool:
    """Return whether a name given for a device means a recording: it has the suffix of one, or is a file."""
    return Path(name).suffix.lower() in SUFFIXES or os.path.isfile(name)


def open_source(name: str) -> Source:
    """Open what a user calls the input: a recording, or a device as :func:`rtden.devices.find_device` finds it.

    Raises
    ------
    AudioFileError, DeviceError
        If it cannot be opened.
    """
    return FileSource(Path(name)) if is_recording(name) else DeviceSource(find_device(name, "input"))


def open_sink(name: str, *, rate_hz: int, force: bool = False) -> Endpoint:
    """Open what a user calls the output; `rate_hz` is that of a recording to be written.

    Raises
    ------
    AudioFileError, DeviceError
        If it cannot be opened.
    """
    return FileSink(Path(name), rate_hz, force=force) if is_recording(name) else DeviceSink(find_device(name, "output"))


class _LevelMeter:
    """Level of a signal between two looks."""

    def __init__(self) -> None:
        self._energy, self._samples = 0.0, 0

    def feed(self, block: Array) -> None:
        self._energy += float(np.dot(block, block))
        self._samples += len(block)

    def look_db(self) -> float:
        energy, samples = self._energy, self._samples
        self._energy, self._samples = 0.0, 0
        return 10.0 * math.log10(energy / samples) if energy else -math.inf


class _Recorder:
    """Writes the noisy and the cleaned sound to files from a thread of its own: a slow disk must not stop the worker."""

    def __init__(self, folder: Path, source_hz: int, sink_hz: int, *, force: bool) -> None:
        self._open = ExitStack()
        self._queue: queue.SimpleQueue[tuple[int, Array] | None] = queue.SimpleQueue()
        try:
            self._writers = [
                self._open.enter_context(write_recording(folder / name, rate_hz, 1, force=force))
                for name, rate_hz in (("noisy.wav", source_hz), ("cleaned.wav", sink_hz))
            ]
        except BaseException:
            self._open.close()
            raise
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rtden recorder", daemon=True)
        self._thread.start()

    def noisy(self, block: Array) -> None:
        self._queue.put((0, block))

    def cleaned(self, block: Array) -> None:
        self._queue.put((1, block))

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._open.close()

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._writers[item[0]](item[1])
        except BaseException as error:  # handed to the thread that asks for the status
            self.error = error


class LiveEngine:
    """Denoise from a source to a sink until the source ends or :meth:`stop` is called.

    Parameters
    ----------
    source, sink : Endpoint
        Not yet started.
    model, settings :
        As for :class:`rtden.Denoiser`.
    buffer_ms : float
        Sound kept ready for the sink beyond its blocks.
    record : Path, optional
        Folder for noisy.wav and cleaned.wav, aligned with each other.
    force : bool
        Overwrite these.
    realtime : bool
        Ask the system for real-time priority for the worker.

    Raises
    ------
    RtdenError
        If the model, the rates or the folder cannot be used.
    """

    def __init__(
        self,
        source: Source,
        sink: Endpoint,
        *,
        model: str | Path | None = None,
        settings: Settings | None = None,
        buffer_ms: float = DEFAULT_BUFFER_MS,
        record: Path | None = None,
        force: bool = False,
        realtime: bool = False,
    ) -> None:
        if not 0.0 <= buffer_ms <= 1000.0:
            raise SettingsError(f"buffer_ms must lie between 0 and 1000, not {buffer_ms:g}.")
        self.source, self.sink, self._buffer_seconds = source, sink, buffer_ms / 1000.0
        self._stream = StreamDenoiser(model, settings, source_hz=source.rate_hz, target_hz=sink.rate_hz, low_delay=True)
        self._recorder = None if record is None else _Recorder(record, source.rate_hz, sink.rate_hz, force=force)
        self._resampling_seconds = live_delay_seconds(source.rate_hz, self._stream.rate_hz) + live_delay_seconds(self._stream.rate_hz, sink.rate_hz)
        self._step_seconds = self._stream.denoisers[0].step_samples / self._stream.rate_hz
        self._chunk = np.empty((source.rate_hz // 10, source.channels), np.float32)
        self._levels = _LevelMeter(), _LevelMeter()
        self._noise = NoiseMeter(source.rate_hz, sink.rate_hz)
        self._busy_seconds = self._looked_busy_seconds = 0.0
        self._looked_at = self._started_at = time.perf_counter()
        self._dropouts, self._missing_seen = 0, 0
        self._realtime = realtime
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._worker = threading.Thread(target=self._run, name="rtden worker", daemon=True)

    def start(self) -> None:
        """Start the sink, the worker and the source."""
        gc.collect()
        gc.freeze()  # what lives until the end need not be searched by every collection
        self.sink.start()
        self._started_at = self._looked_at = time.perf_counter()
        self._worker.start()
        self.source.start()

    def stop(self) -> None:
        """Stop at once; files keep what they hold."""
        self._stopping.set()
        if self._worker.is_alive():
            self._worker.join()
        with ExitStack() as stack:  # each is stopped, whatever befalls another
            stack.callback(gc.unfreeze)
            if self._recorder is not None:
                stack.callback(self._recorder.stop)
            stack.callback(self.sink.stop)
            stack.callback(self.source.stop)

    @property
    def running(self) -> bool:
        """Whether there is more to come; raises what ended the worker or a side, if something did."""
        for error in (self._error, self._recorder and self._recorder.error):
            if error:
                raise error
        if not self._worker.is_alive():
            return False
        for side, endpoint in (("input", self.source), ("output", self.sink)):
            if not endpoint.running and not (endpoint is self.source and self.source.exhausted):
                raise DeviceError(f"the {side} device {endpoint.name} has stopped: connect it again, or choose another with 'rtden devices'.")
        return True

    @property
    def latency(self) -> LatencyParts:
        """The delay as planned, once both sides run."""
        return LatencyParts(
            source_ms=1000.0 * self.source.latency_seconds,
            resampling_ms=1000.0 * self._resampling_seconds,
            denoiser_ms=1000.0 * self._stream.denoisers[0].latency.seconds,
            buffer_ms=1000.0 * self._planned_samples / self.sink.rate_hz,
            sink_ms=1000.0 * self.sink.latency_seconds,
        )

    def status(self) -> LiveStatus:
        """Return what has happened; a look also begins the span of the next one."""
        now = time.perf_counter()
        span, self._looked_at = max(now - self._looked_at, 1e-9), now
        busy = self._busy_seconds
        load, self._looked_busy_seconds = (busy - self._looked_busy_seconds) / span, busy
        before, after = self._levels
        lost_seconds = self.source.ring.lost_samples / self.source.rate_hz + self.sink.ring.lost_samples / self.sink.rate_hz
        return LiveStatus(
            seconds=now - self._started_at,
            input_db=before.look_db(),
            output_db=after.look_db(),
            noise_removed_db=self._noise.removed_db,
            load=load,
            mean_load=busy / max(now - self._started_at, 1e-9),
            flagged_blocks=self.source.flagged_blocks + self.sink.flagged_blocks,
            dropouts=self._dropouts,
            lost_ms=1000.0 * lost_seconds,
        )

    @property
    def _planned_samples(self) -> int:
        """Samples to be kept ready for the sink: its block, the source's (they come in no common rhythm), and the buffer."""
        source_block_seconds = self.source.block_samples / self.source.rate_hz
        return self.sink.block_samples + round((source_block_seconds + self._buffer_seconds) * self.sink.rate_hz)

    def _run(self) -> None:
        try:
            if self._realtime:
                ask_for_realtime()
            ring = self.source.ring
            while not self._stopping.is_set():
                exhausted = self.source.exhausted  # asked first: what it wrote before that must still be processed
                if ring.fill_samples == 0:
                    if exhausted:
                        self._pass_on(self._stream.flush())
                        self._drain()
                        return
                    time.sleep(POLL_SECONDS)
                    continue
                began = time.perf_counter()
                self._skip_backlog(ring)
                self._process(self._chunk[: min(ring.fill_samples, len(self._chunk))])
                self._busy_seconds += time.perf_counter() - began
        except BaseException as error:  # handed to the thread that asks for `running`
            self._error = error

    def _skip_backlog(self, ring: Ring) -> None:
        """Skip what can no longer be played in time."""
        bridged = round((self._planned_samples / self.sink.rate_hz + self._step_seconds) * self.source.rate_hz)
        backlog = ring.fill_samples
        if backlog > bridged + self.source.block_samples and not self.source.exhausted:
            ring.skip(backlog - self.source.block_samples)
            self._dropouts += 1

    def _process(self, chunk: Array) -> None:
        got = self.source.ring.read_into(chunk)
        mono = chunk[:got].mean(axis=1, keepdims=True)
        self._levels[0].feed(mono[:, 0])
        self._noise.before(mono[:, 0])
        if self._recorder is not None:
            self._recorder.noisy(mono)
        self._pass_on(self._stream.feed(mono))

    def _pass_on(self, cleaned: Array) -> None:
        if len(cleaned) == 0:
            return
        cleaned = np.clip(cleaned, -1.0, 1.0)
        self._deliver(cleaned)
        self._levels[1].feed(cleaned[:, 0])
        self._noise.after(cleaned[:, 0])
        if self._recorder is not None:
            self._recorder.cleaned(cleaned)

    def _deliver(self, block: Array) -> None:
        """Hand a block to the sink, at the planned delay."""
        ring, planned = self.sink.ring, self._planned_samples
        if not ring.written_samples:
            ring.write(np.zeros(planned, np.float32))
        elif ring.missing_samples > self._missing_seen:
            self._dropouts += 1
            ring.write(np.zeros(max(0, planned - ring.fill_samples), np.float32))
        elif ring.fill_samples > planned + EXCESS_SECONDS * self.sink.rate_hz:
            self._dropouts += 1
            ring.drop_oldest(planned)
        self._missing_seen = ring.missing_samples
        ring.write(block)

    def _drain(self) -> None:
        """Wait until the sink has played everything."""
        while self.sink.ring.fill_samples and self.sink.running and not self._stopping.is_set():
            time.sleep(POLL_SECONDS)
        self._stopping.wait(self.sink.latency_seconds)
