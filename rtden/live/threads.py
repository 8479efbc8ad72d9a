"""The two threads of the live engine: the worker, and the one that watches the devices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from rtden.live.realtime import ask_for_realtime
from rtden.live.reconnect import CHECK_SECONDS
from rtden.live.worker import Worker

LOOK_SECONDS = 0.1
"""Without sound the worker looks so often whether it is to end or a device is lost."""
DRAIN_SECONDS = 0.01


class Threads:
    """Runs a worker, woken once a step by the source's callback, and watches its devices.

    Attributes
    ----------
    error : BaseException or None
        What ended a thread.
    """

    def __init__(self, worker: Worker, *, realtime: bool) -> None:
        self._worker, self._realtime = worker, realtime
        self._stopping = threading.Event()
        # A lock as the bell: the callback rings it without making anything.
        self._bell = threading.Lock()  # held while the worker waits
        self._bell.acquire()
        worker.source.notify = self._captured
        self.error: BaseException | None = None
        self.worker, self.watcher = (
            threading.Thread(target=self._guard, args=(run,), name=f"rtden {name}", daemon=True)
            for name, run in (("worker", self._run), ("devices", self._watch))
        )

    def end(self) -> None:
        """Have both threads end soon."""
        self._stopping.set()
        self._ring()

    def join(self) -> None:
        """Wait until both have ended."""
        for thread in (self.worker, self.watcher):
            if thread.is_alive():
                thread.join()

    def _captured(self) -> None:
        """Wake the worker if it can complete a step or is to end; runs in the source's callback."""
        worker = self._worker
        if worker.rings[0].written_samples >= worker.wake_at or worker.source.exhausted:
            self._ring()

    def _ring(self) -> None:
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._bell.release()

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # for the thread that asks
            self.error = error

    def _watch(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            self._worker.devices.check()

    def _run(self) -> None:
        if self._realtime:
            ask_for_realtime()
        worker = self._worker
        while not self._stopping.is_set():
            # Asked first: what it wrote before that must still be processed.
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
        """Wait until the sink has played everything."""
        sink = self._worker.sink
        while sink.ring.fill_samples and sink.running:
            if self._stopping.wait(DRAIN_SECONDS):
                return
        self._stopping.wait(sink.latency_seconds)
