"""Files in place of sound devices: the same rings, filled and emptied in real time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from rtden.files.audio_file import (
    check_target,
    format_of,
    open_recording,
    read_blocks,
    write_recording,
)
from rtden.live.fade import SmoothReader
from rtden.ring import Ring

BLOCK_SECONDS = 0.01
RING_SECONDS = 2.0


class PacedEndpoint:
    """A thread that handles a block each time the clock says that a device would."""

    latency_seconds = 0.0
    may_return = exhausted = False
    notify: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, name: str, rate_hz: int, channels: int) -> None:
        self.name, self.rate_hz, self.channels = name, rate_hz, channels
        self.called_at = math.nan
        self.block_samples = round(BLOCK_SECONDS * rate_hz)
        self.flagged_blocks = 0
        self.ring = Ring(round(RING_SECONDS * rate_hz), channels)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"rtden {name}", daemon=True)

    @property
    def running(self) -> bool:
        """Whether the thread still runs; raises what ended it, if something did."""
        if self._error is not None:
            raise self._error
        return self._thread.is_alive()

    def open(self) -> None:
        """Do nothing: a recording is open until it is stopped."""

    def look_anew(self) -> None:
        """Do nothing: a recording does not come and go."""

    def start(self) -> None:
        """Start the clock."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the clock and close the file."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            due = time.perf_counter() + self.latency_seconds
            while not self._stopped.is_set():
                time.sleep(max(0.0, due - time.perf_counter()))
                going = self._block()
                self.called_at = time.perf_counter()
                self.notify()
                if not going:
                    break
                due += self.block_samples / self.rate_hz
        except BaseException as error:  # handed to the thread that asks for `running`
            self._error = error

    def _block(self) -> bool:
        """Handle a block; return whether there is another."""
        raise NotImplementedError


class FileSource(PacedEndpoint):
    """A file as a microphone."""

    def __init__(self, path: Path) -> None:
        self._open = ExitStack()
        self._file = self._open.enter_context(open_recording(path))
        super().__init__(str(path), self._file.samplerate, self._file.channels)
        self._blocks = read_blocks(self._file, path, frames=self.block_samples)
        # A block is handed over when its last sample has sounded.
        self.latency_seconds = self.block_samples / self.rate_hz

    def _block(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            self.exhausted = True
            return False
        self.ring.write(block)
        return True

    def stop(self) -> None:
        """Stop the clock and close the file."""
        super().stop()
        self._open.close()


class FileSink(PacedEndpoint):
    """A file as loudspeakers: it contains what one would have heard, with delay and drop-outs.

    Raises
    ------
    AudioFileError
        If it exists already and `force` is not set; :meth:`start` raises it if the file cannot be
        written.
    """

    def __init__(self, path: Path, rate_hz: int, *, channels: int = 1, force: bool = False) -> None:
        super().__init__(str(path), rate_hz, channels)
        check_target(path, force=force)
        self._path, self._force = path, force
        self._open = ExitStack()
        self._buffer = np.zeros((self.block_samples, channels), np.float32)
        self.reader = SmoothReader(self.ring, channels, rate_hz)

    def start(self) -> None:
        """Create the file and start the clock."""
        container, subtype = format_of(self._path)
        file = self._path, self.rate_hz, self.channels
        writer = write_recording(*file, container=container, subtype=subtype, force=self._force)
        self._write = self._open.enter_context(writer)
        super().start()

    def _block(self) -> bool:
        if self.ring.written_samples:
            self.reader.read_into(self._buffer)
        self._write(self._buffer)
        return True

    def stop(self) -> None:
        """Stop the clock and keep the file."""
        super().stop()
        self._open.close()
