"""Opens the two sides of the live engine: sound devices, or files in their place."""

from __future__ import annotations

import os
from pathlib import Path

from rtden.files.listing import SUFFIXES
from rtden.live.device_endpoints import DeviceSink, DeviceSource
from rtden.live.endpoint import Endpoint
from rtden.live.file_endpoints import FileSink, FileSource


def is_audio_file(name: str) -> bool:
    """Return whether an input or output is an audio file: by its suffix, or because it exists."""
    return Path(name).suffix.lower() in SUFFIXES or os.path.isfile(name)


def open_source(name: str) -> Endpoint:
    """Open an audio file, or an input device by :func:`rtden.live.devices.find_device`.

    Raises AudioFileError or DeviceError if it cannot be opened.
    """
    return FileSource(Path(name)) if is_audio_file(name) else DeviceSource(name)


def open_sink(name: str, *, rate_hz: int, channels: int = 1, force: bool = False) -> Endpoint:
    """Open an output; `rate_hz` and `force` are for a file to be written.

    Raises AudioFileError or DeviceError if it cannot be opened.
    """
    if is_audio_file(name):
        return FileSink(Path(name), rate_hz, channels=channels, force=force)
    return DeviceSink(name, channels=channels)
