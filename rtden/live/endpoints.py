"""The two sides of the live engine: sound devices, or recordings in their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rtden.files.audio_file import SUFFIXES
from rtden.live.device_endpoints import DeviceSink, DeviceSource
from rtden.live.fade import SmoothReader
from rtden.live.file_endpoints import FileSink, FileSource
from rtden.ring import Ring


class Endpoint(Protocol):
    """One side of the engine: a device, or a file in its place."""

    name: str
    rate_hz: int
    channels: int
    block_samples: int
    flagged_blocks: int
    called_at: float
    """When its ring was last filled or emptied; NaN before the first time."""
    may_return: bool
    """Whether it is a device, which may go away and come back."""
    ring: Ring

    @property
    def latency_seconds(self) -> float:
        """Delay between the ring and the air."""

    @property
    def running(self) -> bool:
        """Whether it is at work; raises what ended it, if something did."""

    def open(self) -> None:
        """Find a stopped device and open it again; its rate, channels and ring may then differ."""

    def look_anew(self) -> None:
        """Let :meth:`open` find new devices; every device must be stopped."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class Source(Endpoint, Protocol):
    """Where sound comes from."""

    exhausted: bool
    notify: Callable[[], None]
    """Called after each block, in the callback: neither may it take long nor allocate."""


class Sink(Endpoint, Protocol):
    """Where sound goes to."""

    reader: SmoothReader


def is_audio_file(name: str) -> bool:
    """Return whether an input or output is an audio file: by its suffix, or because it exists."""
    return Path(name).suffix.lower() in SUFFIXES or os.path.isfile(name)


def open_source(name: str) -> Source:
    """Open an input: an audio file, or a device by :func:`rtden.live.devices.find_device`.

    Raises
    ------
    AudioFileError, DeviceError
        If it cannot be opened.
    """
    return FileSource(Path(name)) if is_audio_file(name) else DeviceSource(name)


def open_sink(name: str, *, rate_hz: int, channels: int = 1, force: bool = False) -> Sink:
    """Open an output; `rate_hz` and `channels` are for a file to be written.

    Raises
    ------
    AudioFileError, DeviceError
        If it cannot be opened.
    """
    return (
        FileSink(Path(name), rate_hz, channels=channels, force=force)
        if is_audio_file(name)
        else DeviceSink(name, channels=channels)
    )
