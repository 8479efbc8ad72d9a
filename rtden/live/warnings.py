"""Warnings about the devices of a running live stream: a lasting sentence for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtden.live.device_endpoints import DeviceSink, DeviceSource

if TYPE_CHECKING:
    from rtden.live.endpoints import Sink, Source
    from rtden.types import Array

SILENT_DB = -75.0
"""A microphone in a quiet room is above this."""
SILENT_SECONDS = 3.0
CLIPPED_LEVEL = 0.999
CLIPPED_SAMPLES = 3
"""Samples at full scale in a block that count as clipping; one alone may be a true peak."""
CLIPPED_BLOCKS = 3
CLIPPED_SECONDS = 10.0
"""How long after the last clipped block the warning stays."""


class InputWatch:
    """Notices an input that is silent, or that clips. A pure rule: sound in, findings out.

    Attributes
    ----------
    quiet_seconds, zero_seconds : float
        How long the level has been below `SILENT_DB`, and exactly zero.
    """

    def __init__(self) -> None:
        self.quiet_seconds = self.zero_seconds = 0.0
        self._clipped_blocks, self._since_clip_seconds = 0, 0.0

    def feed(self, block: Array, rate_hz: int, peak: float) -> None:
        """Take sound as it came from the device, shape (samples, channels), and its peak."""
        seconds = len(block) / rate_hz
        quiet = peak < 1.0 and float(np.vdot(block, block)) < block.size * 10 ** (SILENT_DB / 10)
        self.quiet_seconds = self.quiet_seconds + seconds if quiet else 0.0
        self.zero_seconds = self.zero_seconds + seconds if peak == 0.0 else 0.0
        self._since_clip_seconds += seconds
        if peak >= CLIPPED_LEVEL and (np.abs(block) >= CLIPPED_LEVEL).sum() >= CLIPPED_SAMPLES:
            self._clipped_blocks, self._since_clip_seconds = self._clipped_blocks + 1, 0.0
        elif self._since_clip_seconds >= CLIPPED_SECONDS:
            self._clipped_blocks = 0

    @property
    def silent(self) -> bool:
        """Whether nothing has come for `SILENT_SECONDS`."""
        return self.quiet_seconds >= SILENT_SECONDS

    @property
    def clips(self) -> bool:
        """Whether the input has been at full scale lately, more than once."""
        return self._clipped_blocks >= CLIPPED_BLOCKS


def input_warning(
    watch: InputWatch, name: str, server_name: str = "", *, muted: bool = False
) -> str:
    """Return the likely cause of silence or clipping and what to do, or an empty string.

    Parameters
    ----------
    server_name : str
        Stable name in the sound server, for the command to run; empty without one.
    """
    if muted:
        return f"{name} is muted: run 'pactl set-source-mute {server_name} 0'."
    if watch.silent and watch.zero_seconds >= SILENT_SECONDS:
        return (
            f"{name} gives digital silence: look for a mute or privacy switch on the microphone or "
            "the computer, or choose another microphone with 'rtden devices'."
        )
    if watch.silent:
        louder = f", or run 'pactl set-source-volume {server_name} 100%'" if server_name else ""
        return (
            f"{name} is below {SILENT_DB:.0f} dB: choose the right microphone with "
            f"'rtden devices'{louder}."
        )
    if watch.clips:
        lower = (
            f"run 'pactl set-source-volume {server_name} 70%'" if server_name else "lower its level"
        )
        return f"{name} clips, and what is cut off cannot be denoised: {lower}."
    return ""


def live_warnings(watch: InputWatch, source: Source, sink: Sink) -> tuple[str, ...]:
    """Return the warnings for now; audio files and monitors may be silent."""
    found = [feedback(source, sink)]
    if isinstance(source, DeviceSource) and not (source.monitor_of and watch.silent):
        found.append(input_warning(watch, source.name, source.server_name, muted=source.muted))
    if isinstance(sink, DeviceSink):
        found.append(sink.warning)
    return tuple(warning for warning in found if warning)


def feedback(source: Source, sink: Sink) -> str:
    """Return a sentence if the input is the monitor of the output, else an empty string."""
    if not (isinstance(source, DeviceSource) and isinstance(sink, DeviceSink)):
        return ""
    if not source.monitor_of or source.monitor_of != sink.playing_on:
        return ""
    return (
        f"the input {source.name} is the monitor of the output, and rtden would record what it "
        "plays: choose another --in or --out with 'rtden devices'."
    )
