"""The live engine: a source and a sink, each with its ring, and one worker thread between them.

The callbacks of the two devices only move samples, and the source's wakes the worker when a step of
the denoiser can be completed. A second thread watches the devices and opens lost ones again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from rtden.errors import DeviceError
from rtden.live.delay import DelayPolicy
from rtden.live.endpoint import Endpoint
from rtden.live.path import Controls, SoundPath
from rtden.live.plan import DEFAULT_BUFFER_MS
from rtden.live.realtime import ask_for_realtime
from rtden.live.reconnect import CHECK_SECONDS, Reconnector
from rtden.live.recorder import Recorder
from rtden.live.status import LatencyParts, LiveStatus, SampleCounts, StatusReader
from rtden.live.worker import Worker
from rtden.mel import band_centres_hz
from rtden.model import Model
from rtden.settings import Settings, check_settings, number, require
from rtden.types import Array

LONGEST_BUFFER_MS = 1000.0
LOOK_SECONDS = 0.25  # interval at which the worker, without sound, looks for a lost device
DRAIN_SECONDS = 0.01


class LiveEngine(Controls):
    """Denoises from a source to a sink until the source ends or :meth:`stop` is called.

    :func:`rtden.open_live` makes one and explains the parameters. In a `with` statement it starts
    and stops. Its methods and attributes may be used from any thread.

    Raises
    ------
    RtdenError
        If the model, the rates or the folder to record into cannot be used.
    """

    def __init__(
        self,
        source: Endpoint,
        sink: Endpoint,
        *,
        model: str | Path | Model | None = None,
        settings: Settings | None = None,
        buffer_ms: float | None = None,
        first_buffer_ms: float = DEFAULT_BUFFER_MS,
        stereo: bool = False,
        full_band: bool = True,
        record: Path | None = None,
        force: bool = False,
        realtime: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        first_ms = first_buffer_ms if buffer_ms is None else buffer_ms
        name = "first_buffer_ms" if buffer_ms is None else "buffer_ms"
        in_range = 0.0 <= number(first_ms) <= LONGEST_BUFFER_MS
        require(in_range, name, f"lie between 0 and {LONGEST_BUFFER_MS:g}", first_ms)
        settings = check_settings(settings)
        super().__init__(settings.strength, settings.limit_db)
        self.source, self.sink = source, sink
        channels = 2 if stereo and source.channels > 1 and sink.channels > 1 else 1
        options: dict[str, Any] = {"model": model, "settings": settings, "full_band": full_band}
        make_path = partial(SoundPath, source, sink, self, channels=channels, **options)
        delay = DelayPolicy(first_ms / 1000.0, pinned=buffer_ms is not None)
        devices = Reconnector(source, sink, clock=clock)
        self.worker = Worker(devices, delay, self, make_path, clock=clock)
        if record is not None:
            rates = source.rate_hz, sink.rate_hz
            self.worker.recorder = Recorder(record, *rates, channels=channels, force=force)
        self._reader = StatusReader(self.worker, clock)
        self._realtime, self._stopping = realtime, threading.Event()
        # Held while the worker waits: a callback wakes it without making an object.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(run,), name=f"rtden {name}", daemon=True)
            for name, run in (("worker", self._run), ("devices", self._watch))
        ]
        source.notify = self._wake
        self.resources = ExitStack()  # closed when the engine stops

    def __enter__(self) -> LiveEngine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the sink, the worker and the source; once."""
        worker, watcher = self._threads
        if worker.ident is not None:
            raise DeviceError("an engine starts once; make another one with open_live.")
        self.sink.start()
        self._reader.begin()
        worker.start()
        self.source.start()
        self.worker.devices.begin()
        watcher.start()

    def end(self) -> None:
        """Have :attr:`running` become false soon; :meth:`stop` must still be called."""
        self._stopping.set()
        self._wake()

    def stop(self) -> None:
        """Stop at once; files keep what they hold."""
        self.end()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        with self.resources as stack:  # each is stopped, even if another one fails
            if self.worker.recorder is not None:
                stack.callback(self.worker.recorder.stop)
            stack.callback(self.sink.stop)
            stack.callback(self.source.stop)

    @property
    def running(self) -> bool:
        """Whether there is more to come; raises what ended the worker or a side, an RtdenError."""
        recorder = self.worker.recorder
        if error := self._error or (recorder and recorder.error):
            raise error
        if not self._threads[0].is_alive():
            return False
        for word, side in (("input", self.source), ("output", self.sink)):
            if not (side.may_return or side.running or side.exhausted):
                raise DeviceError(f"the {word} {side.name} has stopped.")
        return True

    def status(self) -> LiveStatus:
        """Return what has happened; the next status begins where this one ends."""
        return self._reader.read()

    @property
    def counts(self) -> SampleCounts:
        """What became of every sample."""
        return self.worker.counts

    @property
    def latency(self) -> LatencyParts:
        """The planned delay, exact once both sides run."""
        return self._reader.planned

    @property
    def input_name(self) -> str:
        """Name of the source."""
        return self.source.name

    @property
    def output_name(self) -> str:
        """Name of the sink."""
        return self.sink.name

    @property
    def band_gains(self) -> Array:
        """The newest gains of the first channel, shape (n_mels,), linear."""
        return self.worker.path.denoisers[0].band_gains

    @property
    def band_centres_hz(self) -> list[float]:
        """Centre frequencies of :attr:`band_gains`."""
        return list(map(float, band_centres_hz(self.worker.path.denoisers[0].spec)))

    def _wake(self) -> None:
        """Have the worker look at once; runs in the source's callback."""
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._bell.release()

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # for the thread that asks
            self._error = error

    def _watch(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            self.worker.devices.check()
            self.worker.meters.update()

    def _run(self) -> None:
        if self._realtime:
            ask_for_realtime()
        worker = self.worker
        while not self._stopping.is_set():
            # Read first: samples written before the end must still be processed.
            exhausted = worker.source.exhausted
            if worker.work():
                continue
            if exhausted:
                worker.finish()
                self._drain()
                return
            self._bell.acquire(timeout=LOOK_SECONDS)
            worker.wakes += 1

    def _drain(self) -> None:
        sink = self.sink
        while sink.ring.fill_samples and sink.running:
            if self._stopping.wait(DRAIN_SECONDS):
                return
        self._stopping.wait(sink.latency_seconds)
