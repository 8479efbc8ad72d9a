"""Writes the noisy and the cleaned sound of a live stream to files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np

from rtden.files.atomic import make_folder
from rtden.files.writing import write_recording
from rtden.resample import Interpolator
from rtden.types import Array


class Recorder:
    """Writes noisy.wav and cleaned.wav, aligned, in a thread: a slow disk must not stop the worker.

    They keep rates and channels, though a device may come back with others. Raises AudioFileError
    if the folder or the files cannot be made.
    """

    def __init__(
        self, folder: Path, source_hz: int, sink_hz: int, *, channels: int = 1, force: bool = False
    ) -> None:
        make_folder(folder)
        self._rates_hz, self._channels = {"noisy": source_hz, "cleaned": sink_hz}, channels
        self._resamplers: dict[tuple[str, int], Interpolator] = {}
        with ExitStack() as opened:
            self._writers = {}
            for name, rate_hz in self._rates_hz.items():
                writer = write_recording(folder / f"{name}.wav", rate_hz, channels, force=force)
                self._writers[name] = opened.enter_context(writer)
            self._opened = opened.pop_all()
        self.error: BaseException | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rtden recorder")

    def put(self, side: Literal["noisy", "cleaned"], block: Array, rate_hz: int) -> None:
        """Take a block of what came in or of what goes out, shape (samples, channels)."""
        self._thread.submit(self._write, side, block, rate_hz)

    def stop(self) -> None:
        """Write the waiting blocks and close the files."""
        self._thread.shutdown()
        self._opened.close()

    def _write(self, side: str, block: Array, rate_hz: int) -> None:
        try:
            if (side, rate_hz) not in self._resamplers:
                rates = rate_hz, self._rates_hz[side]
                self._resamplers[side, rate_hz] = Interpolator(*rates, channels=self._channels)
            wide = np.broadcast_to(block, (len(block), self._channels))
            self._writers[side](self._resamplers[side, rate_hz].feed(wide))
        except BaseException as error:  # handed to the thread that asks for the status
            self.error = error
