"""Files in place of sound devices: the same rings, filled and emptied in real time."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from rtden.errors import AudioFileError
from rtden.files.atomic import check_target
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.listing import HEADERLESS, MEDIA_SUFFIXES, RAW_SUFFIXES, SUFFIXES
from rtden.files.writing import format_of, write_recording
from rtden.live.endpoint import Endpoint

BLOCK_SECONDS = 0.01


def is_audio_file(name: str) -> bool:
    """Return whether an input or output is an audio file: by its suffix, or because it exists."""
    known = SUFFIXES | MEDIA_SUFFIXES | RAW_SUFFIXES
    return Path(name).suffix.lower() in known or os.path.isfile(name)


class PacedEndpoint(Endpoint):
    """A thread that handles a block each time the clock says that a device would."""

    def __init__(self, name: str, rate_hz: int, channels: int) -> None:
        super().__init__(name, rate_hz, channels)
        self.block_samples = round(BLOCK_SECONDS * rate_hz)
        self._opened = ExitStack()
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"rtden {name}", daemon=True)

    @property
    def running(self) -> bool:
        """Whether the thread still runs; raises what ended it, if something did."""
        if self._error is not None:
            raise self._error
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the clock."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the clock and close the file."""
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join()
        self._opened.close()

    def _run(self) -> None:
        try:
            due, seconds = perf_counter() + self.latency_seconds, self.block_samples / self.rate_hz
            while not (self._stopping or self.exhausted):
                if (early_seconds := due - perf_counter()) > 0.0:
                    sleep(early_seconds)
                self.block()
                due += seconds
        except BaseException as error:  # handed to the thread that asks for `running`
            self._error = error

    def block(self) -> None:
        """Do what a device's callback does."""
        raise NotImplementedError


class FileSource(PacedEndpoint):
    """A file as a microphone."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            file = opened.enter_context(open_recording(path))
            super().__init__(str(path), file.samplerate, file.channels)
            self._opened = opened.pop_all()
        self._blocks = read_blocks(file, frames=self.block_samples)
        # A block is handed over when its last sample has sounded.
        self.latency_seconds = self.block_samples / self.rate_hz

    def block(self) -> None:
        """Hand over a block of the file, or end."""
        block = next(self._blocks, None)
        if block is not None:
            self.captured(block)
        else:
            self.exhausted = True
            self.notify()


class FileSink(PacedEndpoint):
    """A file as loudspeakers: it contains their sound, with delay and drop-outs.

    Raises AudioFileError if it exists already and `force` is not set, or cannot be written.
    """

    def __init__(self, path: Path, rate_hz: int, *, channels: int = 1, force: bool = False) -> None:
        super().__init__(str(path), rate_hz, channels)
        if path.suffix.lower() not in SUFFIXES.difference(HEADERLESS) | {""}:
            raise AudioFileError(
                f"{path} cannot be written live, as a {path.suffix}; choose NAME.wav or NAME.flac."
            )
        check_target(path, force=force)
        self._path, self._force = path, force
        self._buffer = np.zeros((self.block_samples, channels), np.float32)

    def start(self) -> None:
        """Create the file and start the clock."""
        container, subtype = format_of(self._path)
        writer = write_recording(
            self._path,
            self.rate_hz,
            self.channels,
            container=container,
            subtype=subtype,
            force=self._force,
        )
        self._write = self._opened.enter_context(writer)
        super().start()

    def block(self) -> None:
        """Write a played block."""
        self.play(self._buffer)
        self._write(self._buffer)
