"""Warnings about the devices of a running live stream: a lasting sentence for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtden.live.endpoint import Endpoint
    from rtden.live.meters import InputWatch

SILENT_DB = -75.0
"""A microphone in a quiet room is above this."""
SILENT_SECONDS = 3.0


def input_warning(
    watch: InputWatch, name: str, server_name: str = "", *, muted: bool = False
) -> str:
    """Return the likely cause of silence or clipping and what to do, or an empty string.

    `server_name`, the stable name in the sound server, is for the command to run.
    """
    volume = f"run 'pactl set-source-volume {server_name} {{}}'" if server_name else ""
    if muted:
        return f"{name} is muted: run 'pactl set-source-mute {server_name} 0'."
    if watch.silent and watch.zero_seconds >= SILENT_SECONDS:
        return (
            f"{name} gives digital silence: look for a mute or privacy switch on the microphone or "
            "the computer, or choose another microphone with 'rtden devices'."
        )
    if watch.silent:
        louder = f", or {volume.format('100%')}" if volume else ""
        return (
            f"{name} is below {SILENT_DB:.0f} dB: choose the right microphone with "
            f"'rtden devices'{louder}."
        )
    if watch.clips:
        lower = volume.format("70%") or "lower its level"
        return f"{name} clips, and what is cut off cannot be denoised: {lower}."
    return ""


def live_warnings(watch: InputWatch, source: Endpoint, sink: Endpoint) -> tuple[str, ...]:
    """Return the warnings for now; audio files and monitors may be silent."""
    found = [feedback(source, sink), sink.warning]
    if source.may_return and not (source.monitor_of and watch.silent):
        found.insert(1, input_warning(watch, source.name, source.server_name, muted=source.muted))
    return tuple(warning for warning in found if warning)


def feedback(source: Endpoint, sink: Endpoint) -> str:
    """Return a sentence if the input is the monitor of the output, else an empty string."""
    if not source.monitor_of or source.monitor_of != sink.playing_on:
        return ""
    return (
        f"the input {source.name} is the monitor of the output, and rtden would record what it "
        "plays: choose another --in or --out with 'rtden devices'."
    )
