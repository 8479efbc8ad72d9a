"""What a live stream reports about itself: for the terminal, JSON, the page and `rtden ctl`.

Without numpy: the command line imports it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtden.plain import Figures

if TYPE_CHECKING:
    from rtden.live.endpoint import Endpoint
    from rtden.live.meters import InputWatch
    from rtden.live.worker import Worker

SILENT_DB = -75.0  # a microphone in a quiet room is above this
SILENT_SECONDS = 3.0


@dataclass(frozen=True)
class LatencyParts(Figures):
    """Planned delay by cause, in milliseconds."""

    source_ms: float
    resampling_ms: float
    denoiser_ms: float
    buffer_ms: float
    sink_ms: float

    @property
    def total_ms(self) -> float:
        """Delay from the air at the microphone to the air at the loudspeakers."""
        return math.fsum(dataclasses.astuple(self))


@dataclass(frozen=True)
class LiveStatus(Figures):
    """State of a live stream: since its start or, where a field says so, since the last status."""

    seconds: float
    """Time since the start."""
    input_db: float
    """Level (RMS) since the last status, dBFS; minus infinity for digital silence."""
    output_db: float
    input_peak_db: float
    output_peak_db: float
    noise_removed_db: float
    """How far the level of the background fell; NaN in the first moments."""
    load: float
    """Processing time over real time since the last status."""
    mean_load: float
    """The same since the start."""
    flagged_blocks: int
    """Blocks that the sound system itself reported as over- or underrun."""
    dropouts: int
    """Times that the sink ran dry or the worker fell behind."""
    disconnects: int
    """Times that a device disappeared."""
    lost_ms: float
    """Sound that was captured and never played."""
    drift_ppm: float
    """How much faster the source's clock runs than the sink's, as far as it is known."""
    buffer_ms: float
    """Sound kept ready for the sink beyond its blocks."""
    latency_ms: float
    """Total delay as measured now, smoothed; NaN in the first moments."""
    state: str
    """ "running", or a sentence that names the missing device."""
    warnings: tuple[str, ...] = ()
    """Sentences about sound that is hardly as intended: a silent or clipped microphone."""

    @property
    def xruns(self) -> int:
        """Flagged blocks and drop-outs together."""
        return self.flagged_blocks + self.dropouts


def xruns_in_words(status: LiveStatus) -> str:
    """Return the faults so far in words, or "none"."""
    words = []
    if status.flagged_blocks:
        words.append(f"{counted(status.flagged_blocks, 'block')} late or lost at a device")
    if status.dropouts:
        words.append(f"{counted(status.dropouts, 'drop-out')}, {status.lost_ms:.0f} ms lost")
    return "; ".join(words) or "none"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, as "1 file" or "2 files"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class SampleCounts:
    """What became of every sample, each side at its own rate.

    captured = skipped + taken + waiting, and
    returned - discarded + padding_samples = played + dropped + ready.
    """

    captured: int  # written by the source
    skipped: int  # captured too long ago to be played in time, or overwritten unread
    taken: int  # read by the worker
    waiting: int  # in the input ring
    returned: int  # came out of the denoiser
    discarded: int  # returned while the sink was missing
    padding_samples: int  # silence before returned samples, at the start and after drop-outs
    played: int  # read by the sink
    dropped: int  # returned too long ago to be played, or overwritten unread
    ready: int  # in the output ring


class StatusReader:
    """Makes a status from the worker's counters; the worker does nothing for it."""

    def __init__(self, worker: Worker, clock: Callable[[], float]) -> None:
        self._worker, self._clock = worker, clock
        self._busy_seconds = 0.0
        self.begin()

    def begin(self) -> None:
        """Count the time from now on."""
        self._read_at = self._started_at = self._clock()

    @property
    def planned(self) -> LatencyParts:
        """The planned delay."""
        worker, source, sink = self._worker, self._worker.source, self._worker.sink
        return LatencyParts(
            source_ms=1000.0 * source.latency_seconds,
            resampling_ms=1000.0 * worker.path.resampling_seconds,
            denoiser_ms=1000.0 * worker.path.denoisers[0].latency.seconds,
            buffer_ms=1000.0 * worker.delay.planned_samples / sink.rate_hz,
            sink_ms=1000.0 * sink.latency_seconds,
        )

    def read(self) -> LiveStatus:
        """Return what has happened; levels and load are those since the last call."""
        worker, source, sink = self._worker, self._worker.source, self._worker.sink
        now, busy, delay = self._clock(), worker.busy_seconds, worker.delay
        span, seconds = max(now - self._read_at, 1e-9), now - self._started_at
        load = (busy - self._busy_seconds) / span
        self._read_at, self._busy_seconds = now, busy
        levels_db = worker.meters.read_db()
        counts, delay_seconds = worker.counts, delay.drift.delay_seconds
        lost_seconds = counts.skipped / source.rate_hz
        dropped = max(0, counts.dropped - sink.dropped_at_start)
        lost_seconds += (dropped + counts.discarded) / sink.rate_hz
        latency_seconds = delay_seconds + worker.path.drift_seconds
        latency_seconds += source.latency_seconds + sink.latency_seconds
        return LiveStatus(
            seconds=seconds,
            input_db=levels_db[0][0],
            output_db=levels_db[1][0],
            input_peak_db=levels_db[0][1],
            output_peak_db=levels_db[1][1],
            noise_removed_db=worker.meters.noise.removed_db,
            load=load,
            mean_load=busy / max(seconds, 1e-9),
            flagged_blocks=source.flagged_blocks + sink.flagged_blocks,
            dropouts=delay.dropouts,
            disconnects=source.disconnects + sink.disconnects,
            lost_ms=1000.0 * lost_seconds,
            drift_ppm=delay.drift.ppm,
            buffer_ms=1000.0 * delay.buffer.seconds,
            latency_ms=1000.0 * latency_seconds if delay_seconds else math.nan,
            state=worker.devices.state,
            warnings=live_warnings(worker.meters.watch, source, sink),
        )


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
        "plays: connect a microphone, or choose another input or output with 'rtden devices'."
    )
